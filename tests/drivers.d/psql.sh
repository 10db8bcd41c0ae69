#!/usr/bin/env bash
# psql of the distribution; lines as run.py has them. Everything about the connection stands in the environment.
set -uo pipefail

me=psql
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@" 2>&1; }
tell() { printf '%s\t%s\t%s\n' "$1" "$2" "$(tr -s '[:space:]' ' ' <<<"${3:-}")"; }
ask() { tell ask "$1"; read -r _; }
only=("$@")

# step NAME COMMAND...: what the command prints last is the note, its exit code the answer.
step() {
  local name=$1 said
  shift
  [ ${#only[@]} = 0 ] || [[ " ${only[*]} " == *" $name "* ]] || return 0
  if said=$("$@" 2>&1); then tell yes "$name" "$(tail -n1 <<<"$said")"; else tell no "$name" "$said"; fi
}
# same WANTED GOT
same() { [ "$1" = "$2" ] || { echo "wanted $1, got $2"; return 1; }; }
has() { [[ "$2" == *"$1"* ]] || { echo "wanted $1 in: $2"; return 1; }; }

connects() {
  same 1 "$(sql -c 'SELECT 1')" &&
    has "SSL connection" "$(psql -X -c '\conninfo')" &&
    has pgturnstile "$(PGPASSWORD=${PGPASSWORD}x sql -c 'SELECT 1')" &&
    psql --version
}
simple() { same "1 two" "$(sql -c "SELECT 1; SELECT 'two'" -c ' -- nothing' | xargs)"; }
transaction() {
  same "t 1" "$(sql <<<"BEGIN ISOLATION LEVEL SERIALIZABLE;
\\set ON_ERROR_ROLLBACK on
\\set ON_ERROR_STOP off
INSERT INTO items (id, name) VALUES (1, 'again');
SELECT true;
INSERT INTO notes (test) VALUES ('$me');
COMMIT;
SELECT count(*) FROM notes WHERE test = '$me';" | grep -v -e ERROR -e DETAIL | xargs)" && echo "ON_ERROR_ROLLBACK"
}
batch() { same 1000 "$(seq 1000 | sed "s/.*/INSERT INTO notes (test, body) VALUES ('$me-batch', '&');/" | sql --single-transaction -f - && sql -c "SELECT count(*) FROM notes WHERE test = '$me-batch'")"; }
copy_in() {
  seq 3000 | sed "s/.*/$me-copy\t&/" | sql -c '\copy notes (test, body) FROM pstdin' &&
    same 3000 "$(sql -c "SELECT count(*) FROM notes WHERE test = '$me-copy'")" &&
    has "invalid input syntax" "$(yes 'no number,x' | head -n 5000 | sql -c '\copy items (id, name) FROM pstdin (FORMAT csv)')"
}
copy_out() { same 1000 "$(sql -c '\copy (SELECT id FROM items ORDER BY id) TO STDOUT' | wc -l)"; }
cursor() { same 1000 "$(sql -v FETCH_COUNT=7 -c 'SELECT id FROM items ORDER BY id' | wc -l)" && echo "FETCH_COUNT: DECLARE and FETCH"; }
listen() { has 'Asynchronous notification "psql" with payload "hello"' "$(sql -c 'LISTEN psql' -c "NOTIFY psql, 'hello'" -c 'SELECT 1')"; }
cancels() {
  psql -X -q -A -t >cancel.out 2>&1 <<<"\\echo began
SELECT pg_sleep(600);" &
  local running=$!
  until grep -q began cancel.out; do sleep 0.1; done
  # It counts once the statement runs: again until then.
  while kill -INT $running 2>/dev/null; do sleep 0.3; done
  has "canceling statement due to user request" "$(cat cancel.out)"
}
errors() {
  local said
  said=$(psql -X -v VERBOSITY=verbose -c "INSERT INTO items (id, name) VALUES (1, 'x')" 2>&1)
  has "23505" "$said" && has "already exists" "$said" && has "CONSTRAINT NAME:  items_pkey" "$said" &&
    has "LINE 1:" "$(sql -c 'SELECT nothing')" && has "Next:" "$(sql -c 'DELETE FROM notes')" &&
    has "25P02" "$(psql -X -v VERBOSITY=sqlstate <<<"BEGIN; DELETE FROM notes;
SELECT 1;" 2>&1)"
}
large_objects() {
  local oid
  oid=$(sql -c "SELECT lo_from_bytea(0, 'abcabc')") &&
    sql -c "SELECT lo_put($oid, 3, 'XYZ')" && same '\x58595a' "$(sql -c "SELECT lo_get($oid, 3, 3)")" &&
    sql -c "SELECT lo_unlink($oid)" &&
    has lo_from_bytea "$(echo x >object && sql -c '\lo_import object')" && echo "by SQL functions; \\lo_import is refused and told so"
}
types() {
  local all
  all=$(sql -c '\d items' -c '\d+ typed' -c '\dt' -c '\dT+' -c '\df' -c '\dn' -c '\du' -c '\l' -c '\dp' -c '\di' -c '\sf shout') &&
    has "id|integer" "$all" && echo "\\d and its kin"
}
reset() { sql -c 'DISCARD ALL' -c 'DEALLOCATE ALL' -c 'RESET ALL' -c 'SELECT 1' >/dev/null; }
drains() {
  coproc session { psql -X -q -A -t 2>&1; }
  local out=${session[0]} in=${session[1]} pid=$session_PID line said=
  # psql may be gone when the next statement is written to it: that is no end of this script.
  trap '' PIPE
  echo "BEGIN; INSERT INTO notes (test) VALUES ('$me-drain'); SELECT 'begun';" >&"$in"
  read -r line <&"$out"
  same begun "$line" || return 1
  ask drain >&3
  echo "INSERT INTO notes (test) VALUES ('$me-drain'); COMMIT; SELECT 'ended';" >&"$in"
  # What was lost is told with the next statement; then psql ends, and bash takes the descriptors away.
  {
    while read -r -t 60 line <&"$out"; do
      said+="$line "
      echo "SELECT 1;" >&"$in"
    done
  } 2>/dev/null
  ask reopen >&3
  has "being stopped" "$said" && same 2 "$(sql -c "SELECT count(*) FROM notes WHERE test = '$me-drain'")"
}

exec 3>&1
step connect connects
step simple simple
tell none extended "psql 15 sends simple queries only"
tell none binary "psql shows text"
step transaction transaction
step batch batch
tell none pipeline "psql 15 waits for each answer"
step "copy in" copy_in
step "copy out" copy_out
step cursor cursor
step listen listen
step cancel cancels
step errors errors
step "large objects" large_objects
step types types
step reset reset
step drain drains
