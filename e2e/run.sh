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
.venv/bin/pytest -p no:xdist --timeout 300 --durations 12 --durations-min 10 e2e "$@" || {
  status=$?
  say "The cluster is left as it is: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes it"
  exit $status
}
say "End-to-end tests: $((SECONDS - start)) s with the cluster"
if [ -n "${KEEP:-}" ]; then say "KEEP: export KUBECONFIG=$E2E_KUBECONFIG; make e2e-down removes the cluster"; else "$E2E/down.sh"; fi
