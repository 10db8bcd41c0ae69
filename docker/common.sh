# Shared by docker/demo, tests/run and bench/compare: what a bare Debian or Ubuntu machine lacks, and a throwaway
# PostgreSQL. Sourced, never run. Nothing here touches a system cluster or listens beyond loopback.

RUST_MINIMUM=1.89

say() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# The one thing that is not installed for you: Rust, whose installer asks questions.
need_cargo() {
  [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
  command -v cargo >/dev/null || fail "cargo is missing. Install Rust with rustup (https://rustup.rs), then run this again."
  local version
  version=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -n1)" = "$RUST_MINIMUM" ] ||
    fail "Rust $version is too old: at least $RUST_MINIMUM is needed. Run: rustup update stable"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# need_packages NAME...: installs what dpkg does not know, in one go.
need_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -q '^installed$' || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || fail "missing packages, and no apt-get to install them: ${missing[*]}"
  say "installing ${missing[*]}"
  # A server package starts a cluster of its own unless it is told not to: ours is the only one that is wanted.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

BUILD_PACKAGES=(build-essential cmake clang libclang-dev pkg-config)
SERVER_PACKAGES=(postgresql postgresql-contrib postgresql-client openssl)

pg_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n1; }

# PostgreSQL refuses to run as root: its programs run as this user then, and everything it needs lies in a folder of theirs.
pg_user() { if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi; }
as_pg() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

# free_port: a port below 32768, where client sockets of this machine do not sit.
free_port() {
  python3 - <<'PY'
import random, socket
while True:
    port = random.randrange(20000, 32000)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
PY
}

# start_postgres FOLDER PORT [SETTING=VALUE...]: a cluster of its own, SCRAM over TCP, trust for its superuser on the
# socket in FOLDER.
start_postgres() {
  local folder=$1 port=$2 bin setting
  shift 2
  bin=$(pg_bin)
  [ -n "$bin" ] || fail "no PostgreSQL server under /usr/lib/postgresql"
  install -d -m 700 -o "$(pg_user)" "$folder"
  as_pg "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --no-locale -N >"$folder/initdb.log" 2>&1 ||
    { cat "$folder/initdb.log" >&2; fail "initdb failed"; }
  as_pg tee "$folder/data/pg_hba.conf" >/dev/null <<'HBA'
local all postgres trust
host  all all 127.0.0.1/32 scram-sha-256
HBA
  as_pg tee -a "$folder/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$folder'
fsync = off
max_connections = 200
CONF
  for setting in "$@"; do echo "$setting" | as_pg tee -a "$folder/data/postgresql.conf" >/dev/null; done
  as_pg "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -t 60 start >/dev/null ||
    { cat "$folder/log" >&2; fail "PostgreSQL did not start"; }
}

stop_postgres() {
  local folder=$1
  [ -d "$folder/data" ] && as_pg "$(pg_bin)/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1
  return 0
}

# superuser FOLDER PORT [PSQL ARGUMENT...]: psql as the superuser of that cluster.
superuser() {
  local folder=$1 port=$2
  shift 2
  as_pg psql -X -q -v ON_ERROR_STOP=1 -h "$folder" -p "$port" -U postgres "$@"
}

# certificate FOLDER: a self-signed certificate for localhost, and its key.
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
    -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -addext basicConstraints=critical,CA:FALSE -keyout "$1/gateway.key" -out "$1/gateway.crt" 2>/dev/null
  chmod 600 "$1/gateway.key"
}

# python_for_tests: the interpreter with what tests/e2e needs, made once below target.
python_for_tests() {
  local venv
  venv=$(realpath -m "${CARGO_TARGET_DIR:-target}/tests-run/venv")
  # The list is put beside it last: an installation that was cut off, or one of another list, is made anew.
  cmp -s tests/e2e/requirements.txt "$venv/requirements.txt" || {
    python3 -m venv --clear "$venv" && "$venv/bin/pip" install --quiet -r tests/e2e/requirements.txt &&
      cp tests/e2e/requirements.txt "$venv/requirements.txt"
  } >&2 || return 1
  echo "$venv/bin/python"
}

# wait_for WHAT SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local what=$1 left=$(($2 * 10))
  shift 2
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ $left -gt 0 ] || fail "$what did not come up in time"
    sleep 0.1
  done
}
