#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [use | attacks | PYTEST ARGUMENTS] : up.sh, the tests, down.sh. After a failure the cluster stays; with KEEP=1 it
# always does, and the tests' namespaces too. STANDING=after leaves it, and STANDING=before takes the one that is there.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# Two rows of files are tested at the same time: they leave nodes, operator and chart alone, measure little, and often wait
# for their pods. Those whose intruders are looked for in the operator's log are in one row. The rest is tested alone, later.
attacks=(51_attacks 52_revocation 53_tenants 56_pod_certificate 72_report 73_policies)
case ${1:-use} in
  use)
    one=(05_chart 06_monitoring 07_alerts 10_manifests 20_pool 35_load 50_intruders)
    two=(00_images 22_example 25_other_ways 37_sessions 68_two_pools 70_cli)
    ;;
  attacks) one=(51_attacks 52_revocation 53_tenants) two=(72_report) ;;
  *) one=() two=() ;;
esac
files() { # NAMES... : one a line
  local name
  for name; do printf 'e2e/test_%s.py\n' "$name"; done
}
start=$SECONDS
if [ "${STANDING:-}" != before ]; then "$E2E/up.sh"; fi
say "Cluster ready after $((SECONDS - start)) s"
cd "$ROOT"
tests() { .venv/bin/pytest -p no:xdist --timeout 300 --durations 12 --durations-min 10 "$@"; }
status=0
if [ ${#one[@]} = 0 ]; then
  tests e2e "$@" || status=$?
else
  log=$CACHE/$E2E_NAME.beside.log
  mapfile -t here < <(files "${one[@]}")
  mapfile -t there < <(files "${two[@]}")
  tests "${here[@]}" >"$log" 2>&1 &
  pid=$!
  tests "${there[@]}" || status=$?
  wait $pid || status=$?
  cat "$log"
  say "Two rows: $((SECONDS - start)) s with the cluster"
  if [ "${1:-use}" = attacks ]; then
    mapfile -t alone < <(files 56_pod_certificate 73_policies 99_secrets)
  else
    mapfile -t tested < <(files "${one[@]}" "${two[@]}" "${attacks[@]}")
    alone=(e2e "${tested[@]/#/--ignore=}")
  fi
  tests "${alone[@]}" || status=$?
fi
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
