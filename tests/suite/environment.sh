# Sourced by tests/regress and tests/classify: what they need beside cargo's output, and the Python that has psycopg.
. docker/common.sh

run_suite() { # run_suite MODULE ARGUMENT...
  local module=$1 state=${CARGO_TARGET_DIR:-target}/tests-run venv
  shift
  case " $* " in *" -h "* | *" --help "*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
  need_packages "${SERVER_PACKAGES[@]}" gcc libc6-dev bzip2 xz-utils python3 python3-venv
  mkdir -p "$state"
  venv=${PGTURNSTILE_VENV:-$state/venv}
  [ -x "$venv/bin/pytest" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet -r tests/e2e/requirements.txt; } || exit 3
  PYTHONPATH=$PWD/tests exec "$venv/bin/python" -m "$module" "$@"
}
