# SPDX-License-Identifier: Apache-2.0
# Packages and root file systems of Debian, for the cluster without a registry; sourced after common.sh.
# shellcheck shell=bash
SUITE=bookworm # its systemd, 252, is the last that boots under cgroup v1

# Installs what is missing of PACKAGE... where that can be done, and names it otherwise.
debian() {
  local package missing=()
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "A cluster without a registry needs ${missing[*]} (Debian's names): install them, as root with apt-get install"
  fi
  say "Installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    die "apt-get cannot install ${missing[*]}"
}

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }

rootfs() { # NAME PACKAGES : $CACHE/NAME is a small Debian with them
  local d=$CACHE/$1
  [ -e "$d.done" ] && return
  [ "$(id -u)" = 0 ] || die "debootstrap must be root to make $d: run this with sudo -E, or use a registry (E2E_OFFLINE=0)"
  debian debootstrap
  rm -rf "$d"
  debootstrap --variant=minbase --include="$2" $SUITE "$d" >"$d.log" 2>&1 || { tail -5 "$d.log" >&2; return 1; }
  rm -rf "$d"/var/cache/apt/archives/*.deb "$d"/var/lib/apt/lists/* "$d"/usr/share/{doc,man,locale}/* "$d"/var/log/*
  touch "$d.done"
}
