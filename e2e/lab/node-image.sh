#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the node image of kind, $NODE_IMAGE, without any registry: Debian, kind's own base files, the binaries of binaries.sh,
# and the images of Kubernetes and cert-manager in its containerd. Nothing is done when it is there.
set -euo pipefail
# shellcheck source=../common.sh
. "$(dirname "$0")/../common.sh"
# shellcheck source=debian.sh
. "$E2E/lab/debian.sh"
image_exists "$NODE_IMAGE" && exit
BIN=$CACHE/bin
export PATH=$PATH:/usr/local/go/bin
need go || exit 1
debian jq
say "Making the node image $NODE_IMAGE: two minutes"

# 1. Debian + kind's own base files
rootfs node systemd,systemd-sysv,dbus,conntrack,iptables,nftables,ipset,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,pigz,ca-certificates,curl,jq,procps,e2fsprogs
KINDSRC=$(go mod download -json "sigs.k8s.io/kind@$KIND" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/images/base/files
R=$CACHE/node
cp -r --no-preserve=mode "$KINDSRC"/etc/. "$R/etc/"
install -m 755 "$KINDSRC"/usr/local/bin/* "$R/usr/local/bin/"
mkdir -p "$R"/kind/{bin,manifests,images} "$R/opt/cni/bin" "$R/etc/kubernetes/manifests"
install -m 755 "$KINDSRC"/kind/bin/* "$R/kind/bin/"
find "$R/lib/systemd/system/sysinit.target.wants/" -name systemd-tmpfiles-setup.service -delete
rm -f "$R"/lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* "$R"/etc/systemd/system/*.wants/* "$R"/lib/systemd/system/sockets.target.wants/*{udev,initctl}*
grep -q ReadKMsg=no "$R/etc/systemd/journald.conf" || echo ReadKMsg=no >>"$R/etc/systemd/journald.conf"
chroot "$R" sh -c 'systemctl -q enable kubelet containerd undo-mount-hacks; systemctl -q mask systemd-binfmt'
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$R/etc/containerd/config.toml"   # no CAP_SYS_RESOURCE
install -m 755 "$BIN"/{containerd,ctr,containerd-shim-runc-v2} "$R/usr/local/bin/"; install -m 755 "$BIN/runc" "$R/usr/local/sbin/runc"
install -m 755 "$BIN"/{host-local,loopback,ptp,bridge,portmap} "$R/opt/cni/bin/"
install -m 755 "$BIN"/{kubelet,kubeadm,kubectl} "$R/usr/bin/"
echo -n "v$KUBERNETES" >"$R/kind/version"
chroot "$R" sh -c 'ctr oci spec' | jq '.hooks.createContainer[.hooks.createContainer|length] |= . + {"path": "/kind/bin/mount-product-files.sh"} | del(.process.rlimits)' >"$R/etc/containerd/cri-base.json"
# no CNI and no storage provisioner inside: cluster.sh lays the pod network; the class exists so that kind is content
printf 'apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: standard}\nprovisioner: kubernetes.io/no-provisioner\n' >"$R/kind/manifests/default-storage.yaml"
printf 'apiVersion: v1\nkind: List\nitems: []\n' >"$R/kind/manifests/default-cni.yaml"

# 2. the images kubeadm and cert-manager want, as docker images
scratch() { # TAG ENTRYPOINT FILE:PATH...  ($RUN_AS: the image's user, root if unset)
  local tag=$1 entry=$2 d f; shift 2; d=$(mktemp -d); mkdir -m 1777 "$d/tmp"
  for f; do install -D -m 755 "${f%%:*}" "$d/${f##*:}"; done
  tar -C "$d" -c . | docker import -c "ENTRYPOINT [\"$entry\"]" -c 'ENV PATH=/usr/local/bin' -c "USER ${RUN_AS:-0}" - "$tag" >/dev/null; rm -rf "$d"; IMAGES+=("$tag")
}
IMAGES=(); "$BIN/kubeadm" config images list --kubernetes-version "v$KUBERNETES" 2>/dev/null >"$CACHE/images.list"
wanted() { grep "/$1:" "$CACHE/images.list"; }
for c in kube-apiserver kube-controller-manager kube-scheduler; do scratch "$(wanted $c)" /usr/local/bin/$c "$BIN/$c:usr/local/bin/$c"; done
scratch "$(wanted etcd)" /usr/local/bin/etcd "$BIN/etcd:usr/local/bin/etcd" "$BIN/etcdctl:usr/local/bin/etcdctl"
scratch "$(wanted coredns)" /coredns "$BIN/coredns:coredns"
scratch "$(wanted pause)" /pause "$BIN/pause:pause"
SANDBOX=$(sed -n 's/.*sandbox_image = "\(.*\)"/\1/p' "$R/etc/containerd/config.toml"); docker tag "$(wanted pause)" "$SANDBOX"; IMAGES+=("$SANDBOX")
for c in controller webhook cainjector; do RUN_AS=1000 scratch "quay.io/jetstack/cert-manager-$c:$CERT_MANAGER" /app "$BIN/cert-manager-$c:app"; done
T=$(mktemp -d); cp "$BIN/kube-proxy" "$T/"
tar -C "$R" --exclude=./usr/bin/kube* --exclude=./usr/local/bin/c* --exclude=./opt --exclude=./kind -c . | docker import - rserpool-e2e/net-tools >/dev/null
printf 'FROM rserpool-e2e/net-tools\nCOPY kube-proxy /usr/local/bin/kube-proxy\n' >"$T/Dockerfile"
DOCKER_BUILDKIT=0 docker build -q -t "$(wanted kube-proxy)" "$T" >/dev/null 2>&1; IMAGES+=("$(wanted kube-proxy)"); rm -rf "$T"

# 3. the node image: the images imported into its containerd
tar -C "$R" -c . | docker import - rserpool-e2e/node-base >/dev/null
C=$(docker run -d --entrypoint sleep rserpool-e2e/node-base infinity); trap 'docker rm -f -v "$C" >/dev/null' EXIT
docker exec -d "$C" containerd
until docker exec "$C" ctr version >/dev/null 2>&1; do sleep 0.2; done
docker save "${IMAGES[@]}" | docker exec -i "$C" ctr -n k8s.io images import --all-platforms --no-unpack - >/dev/null
docker exec "$C" sh -c 'kill $(pidof containerd)'; sleep 1
docker commit -c 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' -c 'ENV container=docker' "$C" rserpool-e2e/node-committed >/dev/null
printf 'FROM rserpool-e2e/node-committed\nSTOPSIGNAL SIGRTMIN+3\n' | DOCKER_BUILDKIT=0 docker build -q -t "$NODE_IMAGE" - >/dev/null 2>&1
say "  $(docker image ls --format '{{.Repository}}:{{.Tag}}  {{.Size}}' "$NODE_IMAGE")"
