# SPDX-License-Identifier: Apache-2.0
# What the scripts of this folder share; sourced, never run.
# shellcheck shell=bash disable=SC2034
E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$E2E")
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/rserpool-e2e
E2E_NAME=rserpool-e2e                      # the cluster of `make e2e`
E2E_KUBECONFIG=$CACHE/$E2E_NAME.kubeconfig # never the user's own
E2E_STATE=$CACHE/$E2E_NAME.env             # what conftest.py is told of that cluster
SYSTEM_NAMESPACE=rserpool-system
mkdir -p "$CACHE"
# shellcheck source=lab/versions.env
. "$E2E/lab/versions.env"

say() { printf '%s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

package_version() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$ROOT/protocol/rserpool/__init__.py"; }
VERSION=${VERSION:-$(package_version)}

# Names every program that is missing, with how to get it, before anything is begun.
need() {
  local program missing=0
  for program; do
    command -v "$program" >/dev/null && continue
    missing=1
    case $program in
      docker) say "docker is missing: https://docs.docker.com/engine/install/ (on Debian: apt-get install docker.io)" ;;
      kind) say "kind is missing: https://kind.sigs.k8s.io/docs/user/quick-start/#installation (go install sigs.k8s.io/kind@$KIND)" ;;
      kubectl) say "kubectl is missing: https://kubernetes.io/docs/tasks/tools/#kubectl" ;;
      helm) say "helm is missing: https://helm.sh/docs/intro/install/" ;;
      go) say "go is missing, 1.24 or newer: https://go.dev/doc/install" ;;
      *) say "$program is missing: install it with your system's package manager (on Debian: apt-get install $program)" ;;
    esac
  done
  return $missing
}

need_docker() {
  need docker || exit 1
  docker info >/dev/null 2>&1 && return
  die "docker does not answer: start it (systemctl start docker, or Docker Desktop), and see that you may use it (docker info)." \
    "Where nothing starts it, e2e/lab/docker.sh does, as root."
}

# Is there no registry to pull from? Asked of the daemon, since it is who will pull: kindest/node is there already, or the
# smallest of images comes within seconds. E2E_OFFLINE=1 or 0 decides instead; the answer is handed to scripts started from here.
offline() {
  if [ -z "${E2E_OFFLINE:-}" ]; then
    E2E_OFFLINE=1
    if [ -n "$(docker image ls -q kindest/node 2>/dev/null)" ]; then
      E2E_OFFLINE=0
    elif timeout 15 docker pull -q hello-world >/dev/null 2>&1; then
      E2E_OFFLINE=0
      docker image rm hello-world >/dev/null 2>&1 || true
    fi
    if [ "$E2E_OFFLINE" = 1 ]; then
      say "No container registry answers: the cluster is made from Go modules and Debian packages, kept in $CACHE (E2E_OFFLINE=0 for a registry)"
    else
      say "A container registry answers: the cluster is made from released images (E2E_OFFLINE=1 to do without)"
    fi
    export E2E_OFFLINE
  fi
  [ "$E2E_OFFLINE" = 1 ]
}

# The programs of the cluster: ours where there is no registry, the user's otherwise.
tools() {
  need_docker
  if offline; then
    PATH=$CACHE/bin:$PATH:/usr/local/go/bin
    export PATH
  fi
}

has_cluster() { kind get clusters 2>/dev/null | grep -x "$1" >/dev/null; } # not -q: kind, cut off, would fail for it

timed() { # WHAT COMMAND... : says how long it took
  local what=$1 start=$SECONDS
  shift
  "$@"
  say "  $what: $((SECONDS - start)) s"
}
