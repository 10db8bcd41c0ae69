#!/usr/bin/env bash
# pgbench in all modes; lines as run.py has them.
set -uo pipefail

tell() { printf '%s\t%s\t%s\n' "$1" "$2" "$(tr -s '[:space:]' ' ' <<<"${3:-}")"; }
step() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then tell yes "$name"; else tell no "$name" "$said"; fi
}
bench() {
  local said
  said=$(pgbench -n "$@" 2>&1) && [[ $said == *"failed transactions: 0"* || $said == *"number of failed transactions: 0"* ]] ||
    { echo "$said"; return 1; }
}
mode() { for script in tpcb-like simple-update select-only; do bench -M "$1" -b $script -c 4 -j 2 -t 25 || return 1; done; }
pipelines() {
  printf '\\startpipeline\nSELECT abalance FROM pgbench_accounts WHERE aid = 1;\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 2;\n\\endpipeline\n' >pipeline.sql
  bench -M extended -f pipeline.sql -c 2 -t 25 && bench -M prepared -f pipeline.sql -c 2 -t 25
}
variables() {
  printf 'SELECT abalance AS a FROM pgbench_accounts WHERE aid = 1 \\gset\n\\set b :a + 1\nSELECT :b;\n\\sleep 1 ms\n' >variables.sql
  bench -f variables.sql -t 10
}

step "initialize by COPY" pgbench -i -s 1 --quiet
step "initialize by the server" pgbench -i -I dtGvpf -s 1 --quiet
step "initialize, partitioned, foreign keys" pgbench -i -s 1 --quiet --partitions=3 --foreign-keys
step "simple" mode simple
step "extended" mode extended
step "prepared" mode prepared
step "pipelines" pipelines
step "variables" variables
step "a connection each" bench -C -c 2 -t 10
step "retried" bench -c 4 -t 25 --max-tries=20 -b tpcb-like
