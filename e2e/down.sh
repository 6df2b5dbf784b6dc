#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Removes the cluster of the end-to-end tests, if it is there. The cache stays.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
tools
rm -f "$E2E_STATE"
command -v kind >/dev/null || exit 0
# A frozen node would not end by itself.
for n in $(kind get nodes --name "$E2E_NAME" 2>/dev/null | grep -v ' '); do docker unpause "$n" >/dev/null 2>&1 || true; done
if has_cluster "$E2E_NAME"; then kind delete cluster -q --name "$E2E_NAME" --kubeconfig "$E2E_KUBECONFIG"; fi
rm -f "$E2E_KUBECONFIG"
