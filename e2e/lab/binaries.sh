#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds everything a kind node needs from Go modules into $CACHE/bin (some 18 minutes on 2 cores when Go's own cache is empty).
# Finished binaries are kept: a second call does nothing. A change of versions.env needs an empty $CACHE/bin.
set -euo pipefail
# shellcheck source=../common.sh
. "$(dirname "$0")/../common.sh"
# shellcheck source=debian.sh
. "$E2E/lab/debian.sh"
BIN=$CACHE/bin
mkdir -p "$BIN"
export PATH=$PATH:/usr/local/go/bin GOFLAGS="-buildvcs=false -mod=mod"

module() { # DIR 'go.mod lines' PACKAGE... : a main module that only names packages, so that replaces of theirs can be given here
  local d=$CACHE/mod/$1 lines=$2; shift 2; mkdir -p "$d"
  printf 'module part\n\ngo 1.26.0\n\n%s\n' "$lines" >"$d/go.mod"
  { printf '//go:build tools\n\npackage tools\n\nimport (\n'; printf '\t_ "%s"\n' "$@"; echo ')'; } >"$d/tools.go"
  (cd "$d" && go mod tidy 2>"$d/tidy.log") || { cat "$d/tidy.log" >&2; return 1; }
}
build() { # MODULE OUTPUT PACKAGE [go build flags] : skipped when the binary is there
  local m=$1 out=$2 pkg=$3 s=$SECONDS; shift 3
  [ -x "$BIN/$out" ] && return
  (cd "$CACHE/mod/$m" && CGO_ENABLED=${CGO:-0} go build -trimpath -o "$BIN/.$out" "$@" "$pkg") && mv "$BIN/.$out" "$BIN/$out"
  say "  $out: $((SECONDS-s)) s"
}
have() { local b; for b; do [ -x "$BIN/$b" ] || return 1; done; }

everything=(kind kube-apiserver kube-controller-manager kube-scheduler kubelet kubeadm kubectl kube-proxy pause containerd ctr
  containerd-shim-runc-v2 runc host-local loopback ptp bridge portmap etcd etcdctl coredns cert-manager-controller
  cert-manager-webhook cert-manager-cainjector helm promtool prometheus)
have "${everything[@]}" && exit
need go || exit 1
debian gcc libc6-dev pkg-config libseccomp-dev
say "Building Kubernetes and what belongs to it from Go modules, once: some 18 minutes on two cores"

have kind || GOBIN=$BIN GOFLAGS=-buildvcs=false go install "sigs.k8s.io/kind@$KIND"

K8S=(kube-apiserver kube-controller-manager kube-scheduler kubelet kubeadm kubectl kube-proxy)
have pause "${K8S[@]}" || {
  src=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  staging=$(awk -v v="v0.${KUBERNETES#*.}" '/=> \.\/staging/{print "\t"$1" => "$1" "v}' "$src/go.mod")
  module kubernetes "$(printf 'godebug default=go1.26\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n%s\n)' "$KUBERNETES" "$staging")" "${K8S[@]/#/k8s.io/kubernetes/cmd/}"
  minor=${KUBERNETES#*.}; minor=${minor%%.*}; X=""
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    X="$X -X $p.gitVersion=v$KUBERNETES -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean"; done
  for c in "${K8S[@]}"; do build kubernetes "$c" "k8s.io/kubernetes/cmd/$c" -tags selinux,notest,grpcnotrace -ldflags "-s -w $X"; done
  gcc -Os -static -DVERSION=3.10 -o "$BIN/pause" "$src/build/pause/linux/pause.c"
}
have containerd ctr containerd-shim-runc-v2 || {
  p=github.com/containerd/containerd/v2
  module containerd "require $p $CONTAINERD" $p/cmd/{containerd,ctr,containerd-shim-runc-v2}
  for c in containerd ctr containerd-shim-runc-v2; do
    build containerd $c $p/cmd/$c -tags "no_aufs no_zfs no_btrfs no_devmapper" -ldflags "-s -w -X $p/version.Version=$CONTAINERD"; done
}
have runc || {
  module runc "require github.com/opencontainers/runc $RUNC" github.com/opencontainers/runc
  CGO=1 build runc runc github.com/opencontainers/runc -tags seccomp -ldflags "-s -w -X main.version=${RUNC#v}"
}
CNI=(ipam/host-local main/loopback main/ptp main/bridge meta/portmap)
have host-local loopback ptp bridge portmap || {
  p=github.com/containernetworking/plugins
  module cni "require $p $CNI_PLUGINS" "${CNI[@]/#/$p/plugins/}"
  for c in "${CNI[@]}"; do build cni "${c#*/}" "$p/plugins/$c" -ldflags "-s -w"; done
}
have etcd etcdctl || {
  module etcd "$(printf 'require go.etcd.io/etcd/server/v3 %s\nrequire go.etcd.io/etcd/etcdctl/v3 %s' "$ETCD" "$ETCD")" go.etcd.io/etcd/server/v3 go.etcd.io/etcd/etcdctl/v3
  build etcd etcd go.etcd.io/etcd/server/v3 -ldflags "-s -w"; build etcd etcdctl go.etcd.io/etcd/etcdctl/v3 -ldflags "-s -w"
}
have coredns || {
  module coredns "require github.com/coredns/coredns $COREDNS" github.com/coredns/coredns
  build coredns coredns github.com/coredns/coredns -ldflags "-s -w"
}
have cert-manager-controller cert-manager-webhook cert-manager-cainjector || {
  p=github.com/cert-manager/cert-manager
  module cert-manager "$(printf 'require %s %s\n\nreplace github.com/miekg/dns v1.1.41 => github.com/miekg/dns v1.1.34' $p "$CERT_MANAGER")" $p/cmd/{controller,webhook,cainjector}
  for c in controller webhook cainjector; do
    build cert-manager cert-manager-$c $p/cmd/$c -ldflags "-s -w -X $p/pkg/util.AppVersion=$CERT_MANAGER"; done
}
have helm || {
  module helm "require helm.sh/helm/v4 $HELM" helm.sh/helm/v4/cmd/helm
  build helm helm helm.sh/helm/v4/cmd/helm -ldflags "-s -w"
}
have promtool prometheus || { # discovers by files and static targets alone, has no pages for browsers
  p=github.com/prometheus/prometheus
  module prometheus "require $p $PROMETHEUS" $p/cmd/{promtool,prometheus}
  for c in promtool prometheus; do build prometheus $c $p/cmd/$c -tags remove_all_sd -ldflags "-s -w"; done
}
say "Binaries in $BIN: $(du -sh "$BIN" | cut -f1)"
