# SPDX-License-Identifier: Apache-2.0
"""`rserpool-registrar`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rserpool.daemon.lean import without_second_openssl


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit status."""
    without_second_openssl(uvloop=True)
    from rserpool.daemon.process import run_daemon  # noqa: PLC0415 - not before the line above
    from rserpool_registrar.config import RegistrarSettings  # noqa: PLC0415 - likewise
    from rserpool_registrar.daemon import main as run  # noqa: PLC0415 - likewise

    return run_daemon("rserpool-registrar", RegistrarSettings, run, argv, uvloop=True)


if __name__ == "__main__":
    sys.exit(main())
