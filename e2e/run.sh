#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [use | attacks | PYTEST ARGUMENTS] : up.sh, the tests, down.sh. After a failure the cluster stays; with KEEP=1 it
# always does, and the tests' namespaces too. STANDING=after leaves it, and STANDING=before takes the one that is there.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
export GOGC=${GOGC:-400} # of kubectl, helm and Docker: memory is plenty, processors are not
# Files are tested in waves: rows between bars at the same time, a row's files one after the other. What is tested beside others
# leaves nodes, operator and chart alone and measures little, or is beside what asks nothing of the operator. Those whose
# intruders are looked for in the operator's log are in one row. What is in no wave is tested alone, at the end.
use=(
  "61_quiet | 00_images 05_chart 06_monitoring"
  "48_blackout | 07_alerts 10_manifests"
  "20_pool 22_example 25_other_ways 35_load 37_sessions 50_intruders | 65_end 68_two_pools 70_cli"
)
attacks=(
  "51_attacks 52_revocation 53_tenants | 72_report"
  "56_pod_certificate 73_policies"
)
start=$SECONDS
if [ "${STANDING:-}" != before ]; then "$E2E/up.sh"; fi
say "Cluster ready after $((SECONDS - start)) s"
cd "$ROOT"
status=0
tests() { .venv/bin/pytest -p no:xdist --timeout 300 --durations 12 --durations-min 10 "$@"; }
files() { # NAMES... : one a line
  local name
  for name; do printf 'e2e/test_%s.py\n' "$name"; done
}
wave() { # ROWS
  local rows row i log=$CACHE/$E2E_NAME.row pids=() names
  IFS='|' read -ra rows <<<"$1"
  for i in "${!rows[@]}"; do
    read -ra row <<<"${rows[i]}"
    mapfile -t names < <(files "${row[@]}")
    tests "${names[@]}" >"$log$i.log" 2>&1 &
    pids+=($!)
  done
  for i in "${!rows[@]}"; do
    wait "${pids[i]}" || status=$?
    cat "$log$i.log"
  done
  say "$((SECONDS - start)) s with the cluster"
}
waves() { # WAVES...
  local rows
  for rows; do wave "$rows"; done
}
case ${1:-} in
  use)
    waves "${use[@]}"
    read -ra tested <<<"${use[*]//|/} ${attacks[*]//|/}"
    mapfile -t tested < <(files "${tested[@]}")
    tests e2e "${tested[@]/#/--ignore=}" || status=$?
    ;;
  attacks) waves "${attacks[@]}" 99_secrets ;;
  *) tests e2e "$@" || status=$? ;;
esac
if [ "$status" != 0 ]; then
  say "The cluster is left as it is: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes it"
  exit "$status"
fi
say "End-to-end tests: $((SECONDS - start)) s with the cluster"
if [ -n "${KEEP:-}" ] || [ "${STANDING:-}" = after ]; then
  say "The cluster stays: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes it"
else
  "$E2E/down.sh"
fi
