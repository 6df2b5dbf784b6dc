# SPDX-License-Identifier: Apache-2.0
"""`rserpool-sidecar`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rserpool.daemon.lean import without_second_openssl


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit status."""
    without_second_openssl()
    from rserpool.daemon.process import run_daemon  # noqa: PLC0415 - not before the line above
    from rserpool_sidecar.config import SidecarSettings  # noqa: PLC0415
    from rserpool_sidecar.daemon import main as run  # noqa: PLC0415

    return run_daemon("rserpool-sidecar", SidecarSettings, run, argv, uvloop=False)


if __name__ == "__main__":
    sys.exit(main())
