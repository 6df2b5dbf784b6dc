# SPDX-License-Identifier: Apache-2.0
"""`rserpool-operator`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from rserpool.daemon.process import run_daemon
from rserpool.daemon.settings import SettingsError, load
from rserpool_operator.config import OperatorSettings
from rserpool_operator.daemon import main as run
from rserpool_operator.uninstall import check


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon, or the check before an uninstallation; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["uninstall-check"]:
        try:
            settings = load(OperatorSettings, None, os.environ)
        except SettingsError as e:
            sys.stderr.write("".join(f"rserpool-operator: {line}\n" for line in e.lines))
            return 2
        return asyncio.run(check(settings))
    return run_daemon("rserpool-operator", OperatorSettings, run, words, uvloop=False)


if __name__ == "__main__":
    sys.exit(main())
