#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [PYTEST ARGUMENTS] : up.sh, the tests, down.sh. After a failure the cluster stays; with KEEP=1 it always does.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# Files that leave nodes, operator and chart alone, and measure little, are tested two at a time: each often waits for its
# pods. Those whose intruders are looked for in the operator's log are in one row. What is in neither is tested alone, later.
attacks=(05_chart 06_monitoring 07_alerts 10_manifests 20_pool 50_intruders 51_attacks 52_revocation 53_tenants)
uses=(00_images 22_example 25_other_ways 35_load 37_sessions 68_two_pools 70_cli 72_report)
start=$SECONDS
"$E2E/up.sh"
say "Cluster ready after $((SECONDS - start)) s"
cd "$ROOT"
tests() { .venv/bin/pytest -p no:xdist --timeout 300 --durations 12 --durations-min 10 "$@"; }
status=0
if [ $# -gt 0 ]; then
  tests e2e "$@" || status=$?
else
  attacks=("${attacks[@]/#/e2e/test_}") && attacks=("${attacks[@]/%/.py}")
  uses=("${uses[@]/#/e2e/test_}") && uses=("${uses[@]/%/.py}")
  log=$CACHE/$E2E_NAME.beside.log
  tests "${attacks[@]}" >"$log" 2>&1 &
  pid=$!
  tests "${uses[@]}" || status=$?
  wait $pid || status=$?
  cat "$log"
  say "Two at a time: $((SECONDS - start)) s with the cluster"
  mapfile -t tested < <(printf -- "--ignore=%s\n" "${attacks[@]}" "${uses[@]}")
  tests e2e "${tested[@]}" || status=$?
fi
if [ "$status" != 0 ]; then
  say "The cluster is left as it is: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes it"
  exit "$status"
fi
say "End-to-end tests: $((SECONDS - start)) s with the cluster"
if [ -n "${KEEP:-}" ]; then say "KEEP: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes the cluster"; else "$E2E/down.sh"; fi
