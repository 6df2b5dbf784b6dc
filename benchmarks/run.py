# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks: `.venv/bin/python benchmarks/run.py [--quick] [-o json] [NAME...]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Final

from figures import Options, conditions, say

BENCHMARKS: Final = {
    "memory": "resident memory of sidecars and registrars, up to 1,000 elements",
    "faults": "start of a sidecar; a killed, a hung application, a stopped sidecar",
    "vanish": "hosts that vanish: an element's, one or two registrars' (root only)",
    "join": "a registrar joins a scope with 10,000 elements",
    "rest": "CPU and traffic of 1,000 elements that are kept alive",
    "attacks": "honest registrations and resolutions while somebody floods, beside undisturbed ones",
    "takeover": "a killed registrar of two, of three, with 100 elements",
    "codec": "decoding and encoding, beside rsplib where it is installed",
    "choosing": "a registrar's choice by policy, adding, removing, memory: 10 to 100,000 elements",
    "relayed": "a sidecar's control channel: memory with 1,000 users, throughput of a core",
    "rates": "resolutions and re-registrations a second of one registrar, TCP and TLS",
    "loops": "uvloop against asyncio for the registrar",
    "profiles": "where a registrar's time goes; written to benchmarks/profiles",
}

MODULES: Final = {"attacks": "attacked"}
"""Where a benchmark's name is that of something it uses."""


def main() -> int:
    """Run what was named; the status is 1 if a goal was missed."""
    parser = argparse.ArgumentParser(
        description="Measures what the project promises, and judges it.",
        epilog="\n".join(f"{name:10} {text}" for name, text in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all but profiles)")
    parser.add_argument("--quick", action="store_true", help="as little as shows that they work; no figure of use")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of what is timed (default: 5)")
    parser.add_argument(
        "--quiet", type=float, default=0.0, metavar="SECONDS", help="wait so long at most for an idle machine"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="text or json")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    names = arguments.names or [name for name in BENCHMARKS if name != "profiles"]
    options = Options(quick=arguments.quick, runs=1 if arguments.quick else arguments.runs, quiet=arguments.quiet)

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    where = conditions()
    text = arguments.output == "text"
    if text:
        print("\n".join(f"{key}: {value}" for key, value in where.items()), end="\n\n")
    results = []
    missed = False
    for name in names:
        say(name)
        began = time.monotonic()
        for figure in importlib.import_module(MODULES.get(name, name)).run(options):
            missed = missed or figure.verdict.startswith("missed")
            results.append({"benchmark": name, **figure.to_json()})
            if text:
                print(f"{figure}\n", flush=True)
        say(f"{name}: {time.monotonic() - began:.0f} s")
    if not text:
        print(json.dumps({"conditions": where, "figures": results}, indent=2))
    return int(missed and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
