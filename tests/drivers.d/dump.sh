#!/usr/bin/env bash
# pg_dump of one target and pg_restore into another, as an identity that may; lines as run.py has them.
set -uo pipefail

tell() { printf '%s\t%s\t%s\n' "$1" "$2" "$(tr -s '[:space:]' ' ' <<<"${3:-}")"; }
step() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then tell yes "$name" "$(tail -n1 <<<"$said")"; else tell no "$name" "$said"; fi
}
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@" 2>&1; }
# Row security is pinned on. Without this flag both programs switch it off, and are refused.
flags=(--enable-row-security)

schema() { pg_dump "${flags[@]}" --schema-only --schema=shop -f schema.sql && grep -q 'CREATE TABLE shop.items' schema.sql; }
plain() { pg_dump "${flags[@]}" --no-owner --no-privileges --schema=dumped -f plain.sql && grep -q 'COPY dumped.rows' plain.sql && grep -q 'row 999' plain.sql; }
inserts() { pg_dump "${flags[@]}" --inserts --table=dumped.rows -f inserts.sql && grep -q 'INSERT INTO dumped.rows' inserts.sql; }
custom() { pg_dump "${flags[@]}" -Fc --schema=dumped -f custom.dump && pg_restore -l custom.dump >/dev/null; }
jobs() { pg_dump "${flags[@]}" -Fd -j 2 --schema=dumped -f folder.dump; }
as_is() { pg_dump --schema=dumped -f /dev/null; }
restored() { [ "$(PGDATABASE=bench sql -c 'SELECT count(*) FROM dumped.rows')" = 1000 ] || { echo "rows are missing"; return 1; }; }
restore() { PGDATABASE=bench pg_restore "${flags[@]}" --no-owner --no-privileges -d bench custom.dump && restored; }
clean() { PGDATABASE=bench pg_restore "${flags[@]}" --no-owner --no-privileges --clean --if-exists --single-transaction -d bench custom.dump && restored; }
script() { PGDATABASE=bench sql -c 'DROP VIEW dumped.few; DROP TABLE dumped.rows; DROP SCHEMA dumped' && PGDATABASE=bench sql -f plain.sql && restored; }
refused() {
  local said
  said=$(pg_dump "${flags[@]}" --schema=evil -f /dev/null 2>&1) && return 1
  [[ $said == *"pgturnstile refused"* && $said == *Next:* ]] || { echo "$said"; return 1; }
}

step "schema only" schema
step "plain text" plain
step "as INSERT" inserts
step "custom format" custom
step "directory, two jobs" jobs
step "without --enable-row-security" as_is
step "pg_restore" restore
step "pg_restore --clean in one transaction" clean
step "the plain text by psql" script
step "what is not permitted" refused
