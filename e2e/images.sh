#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# images.sh build [TAG...] | push : the images rserpool-node and rserpool-operator of VERSION (default: the package's),
# under REGISTRY if it is set; further TAGs name the same build. BASE_IMAGE, BUILD_IMAGE: see images/Dockerfile.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
PREFIX=${REGISTRY:+${REGISTRY%/}/}

build() {
  need_docker
  # The classic builder where there is no BuildKit; it says at length that it is old.
  local load=()
  if docker buildx version >/dev/null 2>&1; then load=(--load); else export DOCKER_BUILDKIT=0; fi
  local arguments=("${load[@]}" --build-arg "VERSION=$VERSION" --build-arg "REVISION=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)")
  if [ -z "${BASE_IMAGE:-}" ] && offline; then
    BASE_IMAGE=$OFFLINE_PYTHON
    "$E2E/lab/python-image.sh"
    BUILD_IMAGE=${BUILD_IMAGE:-$OFFLINE_PYTHON_BUILD}
  fi
  [ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
  [ -z "${BUILD_IMAGE:-}" ] || arguments+=(--build-arg "BUILD_IMAGE=$BUILD_IMAGE")
  local target tag name
  log=$(mktemp) # of the whole script, whose end removes it
  trap 'rm -f "$log"' EXIT
  for target in node operator; do
    name=${PREFIX}rserpool-$target
    docker build "${arguments[@]}" -f "$ROOT/images/Dockerfile" --target $target -t "$name:$VERSION" "$ROOT" >"$log" 2>&1 ||
      { cat "$log" >&2; die "$name:$VERSION cannot be built"; }
    for tag; do docker tag "$name:$VERSION" "$name:$tag"; done
    docker image ls --format '{{.Repository}}:{{.Tag}}  {{.Size}}' "$name:$VERSION"
  done
}

push() {
  [ -n "$PREFIX" ] || die "push: where to? Name a registry your cluster pulls from: make images push REGISTRY=registry.example/team"
  need_docker
  local target
  for target in node operator; do docker push "${PREFIX}rserpool-$target:$VERSION"; done
  say "Now: helm upgrade --install rserpool charts/rserpool -n $SYSTEM_NAMESPACE --create-namespace --set image.registry=${PREFIX%/} --set image.tag=$VERSION"
}

case ${1:-} in
  build) shift && build "$@" ;;
  push) push ;;
  *) sed -n '3,4s/^# //p' "$0" >&2 && exit 2 ;;
esac
