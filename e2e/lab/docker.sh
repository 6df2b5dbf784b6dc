#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes `docker` answer on a machine of its own (CI, a lab): installs Debian's where there is none, and starts the daemon.
# Nobody with a running Docker needs this. The daemon outlives this script and holds none of its files open.
set -euo pipefail
# shellcheck source=../common.sh
. "$(dirname "$0")/../common.sh"
# shellcheck source=debian.sh
. "$E2E/lab/debian.sh"
docker info >/dev/null 2>&1 && exit 0
[ "$(id -u)" = 0 ] || die "Docker does not run, and only root can start it"
command -v dockerd >/dev/null || debian docker.io iptables

options=(--mtu 1400) # machines inside machines often have less than 1500
if ! [ $((0x$(sed -n 's/^CapBnd:\t//p' /proc/self/status) >> 24 & 1)) = 1 ]; then
  # CAP_SYS_RESOURCE is missing here, and with it every privileged container would fail.
  command -v python3 >/dev/null || debian python3
  install -m 755 "$E2E/lab/runc-wrap" /usr/local/sbin/runc-wrap
  options+=(--add-runtime wrap=/usr/local/sbin/runc-wrap --default-runtime wrap)
fi
# What a daemon that was killed leaves behind names processes that may be somebody else's by now.
pgrep -x dockerd >/dev/null || rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
log=/var/log/dockerd.log
setsid dockerd --data-root "${DOCKER_DATA:-/var/lib/docker}" "${options[@]}" >$log 2>&1 </dev/null &
for _ in $(seq 120); do
  docker info >/dev/null 2>&1 && exit 0
  sleep 0.5
done
tail -20 $log >&2
die "dockerd did not start, see $log"
