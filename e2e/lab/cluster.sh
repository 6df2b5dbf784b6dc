#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the kind cluster NAME from the node image made here: a control plane, two workers, and a pod network between them.
# The network does what kindnet does where there is a registry, but for NetworkPolicies: they are accepted and not enforced.
set -euo pipefail
# shellcheck source=../common.sh
. "$(dirname "$0")/../common.sh"
export PATH=$CACHE/bin:$PATH
NAME=$1
"$E2E/lab/binaries.sh"
"$E2E/lab/node-image.sh"
# Every node's kubelet and containerd watch files: Debian's 128 instances are not enough for a second cluster.
if [ "$(cat /proc/sys/fs/inotify/max_user_instances)" -lt 512 ]; then
  echo 1024 2>/dev/null >/proc/sys/fs/inotify/max_user_instances ||
    say "Kubelets may not start: sysctl fs.inotify.max_user_instances=1024 (https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files)"
fi
# Memory is plenty here, processors are not: Go's programs collect their garbage more seldom.
SELDOM=$(printf '{hostPath: "%s", containerPath: /etc/systemd/system/%s.service.d/20-seldom.conf, readOnly: true},' "$E2E/lab/seldom.conf" kubelet "$E2E/lab/seldom.conf" containerd)
kind create cluster -q --name "$NAME" --image "$NODE_IMAGE" --wait 0s --config - <<Y
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {disableDefaultCNI: true, kubeProxyMode: iptables}
nodes:
- {role: control-plane, extraMounts: [${SELDOM%,}]}
- {role: worker, extraMounts: [${SELDOM%,}]}
- {role: worker, extraMounts: [${SELDOM%,}]}
containerdConfigPatches: # nobody looks at the statistics that containerd would take of each container each second
- |
  [plugins."io.containerd.cri.v1.runtime"]
    stats_collect_period = "1m"
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
- |
  kind: ClusterConfiguration
  apiServer: {extraEnvs: [{name: GOGC, value: "400"}]}
  controllerManager: {extraArgs: [{name: leader-elect, value: "false"}], extraEnvs: [{name: GOGC, value: "400"}]} # there is one
  scheduler: {extraArgs: [{name: leader-elect, value: "false"}]}
  etcd: # what is in it is worth nothing tomorrow
    local: {extraArgs: [{name: unsafe-no-fsync, value: "true"}], extraEnvs: [{name: GOGC, value: "400"}]}
Y
mapfile -t NODES < <(kind get nodes --name "$NAME")
k() { kubectl --context "kind-$NAME" "$@"; }
declare -A CIDR IP
for n in "${NODES[@]}"; do
  for _ in $(seq 120); do
    CIDR[$n]=$(k get node "$n" -o jsonpath='{.spec.podCIDR}' 2>/dev/null) && [ -n "${CIDR[$n]}" ] && break
    sleep 0.5
  done
  [ -n "${CIDR[$n]}" ] || die "node $n was given no range of pod addresses within a minute"
  IP[$n]=$(k get node "$n" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
done
# Each node hands out addresses of its own range, and knows the way to every other node's.
for n in "${NODES[@]}"; do
  docker exec -i "$n" sh -c 'cat >/etc/cni/net.d/10-e2e.conflist' <<J
{"cniVersion":"1.0.0","name":"e2e","plugins":[
 {"type":"ptp","ipMasq":false,"mtu":1400,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"${CIDR[$n]}"}]]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
J
  for o in "${NODES[@]}"; do
    [ "$o" = "$n" ] || docker exec "$n" ip route replace "${CIDR[$o]}" via "${IP[$o]}"
  done
done
k wait --for=condition=Ready nodes --all --timeout=120s >/dev/null
k -n kube-system rollout status deploy/coredns --timeout=120s >/dev/null
