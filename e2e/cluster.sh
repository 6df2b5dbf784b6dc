#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# cluster.sh [NAME [kind | cert-manager]] : a kind cluster (default: rserpool) of a control plane and two workers, with
# cert-manager, or one of both. A cluster that is there already is kept. kind writes where KUBECONFIG says, as it always does.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
NAME=${1:-rserpool}
PART=${2:-}

released() { # where there is a registry
  kind create cluster --name "$NAME" --wait 120s --config - <<'Y'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes: [{role: control-plane}, {role: worker}, {role: worker}]
Y
}

released_cert_manager() {
  helm upgrade --install cert-manager oci://quay.io/jetstack/charts/cert-manager --version "$CERT_MANAGER_RELEASED" \
    --kube-context "kind-$NAME" -n cert-manager --create-namespace --set crds.enabled=true --wait --timeout 5m >/dev/null
}

tools
if offline; then
  create=("$E2E/lab/cluster.sh" "$NAME") cert_manager=("$E2E/lab/cert-manager.sh" "$NAME")
  "$E2E/lab/binaries.sh"
else
  need kind kubectl helm || exit 1
  create=(released) cert_manager=(released_cert_manager)
fi
if [ "$PART" != cert-manager ]; then
  if has_cluster "$NAME"; then
    say "The cluster $NAME is there already (kind delete cluster --name $NAME removes it)"
  else
    timed "kind cluster $NAME" "${create[@]}"
  fi
fi
if [ "$PART" != kind ]; then timed cert-manager "${cert_manager[@]}"; fi
