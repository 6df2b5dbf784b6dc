#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The cluster of the end-to-end tests, always a new one: kind, cert-manager, our images as VERSION and VERSION-next, our chart.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# On a machine of CI nobody else starts Docker.
if [ -n "${CI:-}" ]; then "$E2E/lab/docker.sh"; fi
tools
offline || need kind kubectl helm || exit 1
"$E2E/down.sh"
export KUBECONFIG=$E2E_KUBECONFIG
printf 'OFFLINE=%s\nVERSION=%s\nCLUSTER=%s\n' "$E2E_OFFLINE" "$VERSION" "$E2E_NAME" >"$E2E_STATE"
failed() { # what there is to see of a cluster that did not become ready
  [ ! -x "$ROOT/.venv/bin/python" ] || [ ! -e "$E2E_KUBECONFIG" ] || PYTHONPATH=$E2E "$ROOT/.venv/bin/python" -m harness.artefacts up || true
  die "The cluster of the end-to-end tests did not become ready; it is left as it is: make e2e-down removes it"
}
# Much of this is waiting: images are built beside the cluster, and cert-manager starts beside their way into the nodes.
early=
if ! offline || docker image inspect "$OFFLINE_PYTHON" >/dev/null 2>&1; then # or both would install what they need
  REGISTRY='' "$E2E/images.sh" build "$VERSION-next" >/dev/null 2>&1 & early=$! # install.sh builds too, and says what is wrong
fi
"$E2E/cluster.sh" "$E2E_NAME" kind || failed
[ -z "$early" ] || wait "$early" || true
"$E2E/cluster.sh" "$E2E_NAME" cert-manager & beside=$!
"$E2E/install.sh" "$E2E_NAME" "$VERSION-next" || failed
wait "$beside" || failed
say "Ready: export KUBECONFIG=$E2E_KUBECONFIG"
