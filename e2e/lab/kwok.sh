#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds kwok, which makes up nodes and pods (test_97_five_hundred.py), into $CACHE/bin: some three minutes on two cores. A finished one is kept.
set -euo pipefail
# shellcheck source=../common.sh
. "$(dirname "$0")/../common.sh"
[ -x "$CACHE/bin/kwok" ] && exit
PATH=$PATH:/usr/local/go/bin
export PATH
need go || exit 1
GOBIN=$CACHE/bin GOFLAGS=-buildvcs=false go install "sigs.k8s.io/kwok/cmd/kwok@$KWOK"
