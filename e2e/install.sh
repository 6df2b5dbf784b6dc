#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install.sh [NAME [TAG...]] : our images into the nodes of the kind cluster NAME (default: rserpool), and our chart into
# rserpool-system. Further TAGs of the images are loaded too. HELM_ARGS: further arguments for helm.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
NAME=${1:-rserpool}
shift $(($# > 0 ? 1 : 0))
tools
need kind kubectl helm || exit 1
has_cluster "$NAME" || die "There is no kind cluster $NAME: make cluster"

REGISTRY='' timed images "$E2E/images.sh" build "$@"
images=()
for tag in "$VERSION" "$@"; do images+=("rserpool-node:$tag" "rserpool-operator:$tag"); done
# The control plane runs none of ours.
workers=$(kind get nodes --name "$NAME" | grep -v control-plane | paste -sd, -)
timed "images into the nodes" kind load docker-image -q --name "$NAME" ${workers:+--nodes "$workers"} "${images[@]}"

read -ra more <<<"${HELM_ARGS:-}"
timed "helm install" helm upgrade --install rserpool "$ROOT/charts/rserpool" --kube-context "kind-$NAME" \
  -n "$SYSTEM_NAMESPACE" --create-namespace --wait --timeout 3m \
  --set image.allowLocal=true --set "image.tag=$VERSION" "${more[@]}" >/dev/null
