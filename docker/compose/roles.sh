#!/usr/bin/env bash
# The gateway's logins, with the passwords that `prepare` made. Run once by the image's first start, as the superuser.
set -euo pipefail
for role in crm_reader crm_owner pgturnstile_catalog; do
  # From standard input: a command line is for everybody to read. `prepare` makes hexadecimal digits, so nothing is quoted.
  printf "CREATE ROLE %s LOGIN PASSWORD '%s';\n" "$role" "$(cat "/run/secrets-database/$role")"
done | psql -X -q -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -f -
