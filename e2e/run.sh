#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [PYTEST ARGUMENTS] : up.sh, the tests, down.sh. After a failure the cluster stays; with KEEP=1 it always does.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
start=$SECONDS
"$E2E/up.sh"
say "Cluster ready after $((SECONDS - start)) s"
cd "$ROOT"
tests() { .venv/bin/pytest -p no:xdist --timeout 300 --durations 12 --durations-min 10 "$@"; }
status=0
if [ $# -gt 0 ]; then
  tests e2e "$@" || status=$?
else # what needs no pods is tested beside the rest, which often waits for some
  log=$CACHE/$E2E_NAME.beside.log beside=(e2e/test_05_chart.py e2e/test_06_monitoring.py e2e/test_10_manifests.py)
  tests -q "${beside[@]}" >"$log" 2>&1 &
  pid=$!
  tests e2e "${beside[@]/#/--ignore=}" || status=$?
  wait $pid || status=$?
  cat "$log"
fi
if [ "$status" != 0 ]; then
  say "The cluster is left as it is: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes it"
  exit "$status"
fi
say "End-to-end tests: $((SECONDS - start)) s with the cluster"
if [ -n "${KEEP:-}" ]; then say "KEEP: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes the cluster"; else "$E2E/down.sh"; fi
