# SPDX-License-Identifier: Apache-2.0
"""`rserpool-sidecar`, and `rserpool-sidecar drain`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon, or drain the one that runs; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["drain"]:
        from rserpool_sidecar.drain import main as drain  # noqa: PLC0415 - and nothing else: it is a hook

        return drain(arguments[1:])
    from rserpool.daemon.lean import without_second_openssl  # noqa: PLC0415 - a hook has no use for it

    without_second_openssl()
    from rserpool.daemon.process import run_daemon  # noqa: PLC0415 - not before the line above
    from rserpool_sidecar.config import SidecarSettings  # noqa: PLC0415 - likewise
    from rserpool_sidecar.daemon import main as run  # noqa: PLC0415 - likewise

    return run_daemon("rserpool-sidecar", SidecarSettings, run, arguments, uvloop=False)


if __name__ == "__main__":
    sys.exit(main())
