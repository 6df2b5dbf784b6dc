#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes, without a registry, what images/Dockerfile calls BASE_IMAGE and BUILD_IMAGE. Nothing is done when they are there.
set -euo pipefail
# shellcheck source=../common.sh
. "$(dirname "$0")/../common.sh"
# shellcheck source=debian.sh
. "$E2E/lab/debian.sh"

image_exists "$OFFLINE_PYTHON" || {
  rootfs python python3,python3-venv,python3-pip,ca-certificates,libsctp1
  tar -C "$CACHE/python" -c . | docker import -c 'CMD ["python3"]' - "$OFFLINE_PYTHON" >/dev/null
}
# A machine without a registry is often behind a proxy with a certificate authority of its own: the build trusts what the
# machine trusts. The images made by it do not.
authorities=/etc/ssl/certs/ca-certificates.crt
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
echo "FROM $OFFLINE_PYTHON" >"$context/Dockerfile"
if [ -r $authorities ]; then
  cp $authorities "$context/"
  printf 'COPY ca-certificates.crt %s\nENV PIP_CERT=%s SSL_CERT_FILE=%s\n' $authorities $authorities $authorities >>"$context/Dockerfile"
fi
DOCKER_BUILDKIT=0 docker build -q -t "$OFFLINE_PYTHON_BUILD" "$context" >/dev/null 2>&1
