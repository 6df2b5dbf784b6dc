#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs cert-manager into the cluster NAME by its own chart, from its Go module; its images are in the node image.
set -euo pipefail
# shellcheck source=../common.sh
. "$(dirname "$0")/../common.sh"
export PATH=$CACHE/bin:$PATH:/usr/local/go/bin
CHART=$CACHE/cert-manager-chart-$CERT_MANAGER
[ -d "$CHART" ] || {
  need go || exit 1
  source=$(GOFLAGS=-mod=mod go mod download -json "github.com/cert-manager/cert-manager@$CERT_MANAGER" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/deploy
  new=$(mktemp -d "$CACHE/chart.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  cp -r --no-preserve=mode "$source"/charts/cert-manager/. "$new"
  sed -e "s/^\(version\|appVersion\): .*/\1: $CERT_MANAGER/; /artifacthub/d; /^annotations/d" "$new/Chart.template.yaml" >"$new/Chart.yaml"
  rm "$new"/*.template.*
  for f in "$source"/crds/crd-*.yaml; do # what a release of theirs does: the CRDs become a template
    echo '---'
    sed 's/# Generated labels \({{- include "labels" . | nindent 4 }}\)/\1/' "$f"
  done >"$new/templates/crds.yaml"
  mv "$new" "$CHART"
}
helm upgrade --install cert-manager "$CHART" --kube-context "kind-$1" -n cert-manager --create-namespace --wait --timeout 3m \
  --set "startupapicheck.enabled=false,image.tag=$CERT_MANAGER,webhook.image.tag=$CERT_MANAGER,cainjector.image.tag=$CERT_MANAGER" >/dev/null
