# SPDX-License-Identifier: Apache-2.0
"""Writes the pages that are made from the code: settings, reasons, and conformance from the tests: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # where the catalogue and the tests with their markers are

from conformance.catalogue import chapters
from conformance.markers import all_proofs
from conformance.page import join, page
from rserpool.daemon.channel import FIRST_PAUSE, INTERVAL, LIVELY, LONGEST_PAUSE, SHORT_WAIT, WAIT
from rserpool.daemon.settings import PREFIX, example
from rserpool_operator.config import OperatorSettings
from rserpool_operator.reasons import TABLE
from rserpool_registrar.config import RegistrarSettings
from rserpool_sidecar.config import SidecarSettings

PAGE: Final = Path(__file__).parent / "configuration.md"
REASONS: Final = Path(__file__).parent / "reasons.md"
CONFORMANCE: Final = Path(__file__).parent / "conformance.md"


def configuration() -> str:
    """The page's text."""
    return f"""\
# Configuration of the daemons

<!-- Written by `make docs` from the declarations in the code; do not edit. -->

`rserpool-registrar --config FILE` and `rserpool-sidecar --config FILE` read one TOML file. Each key can also come from
the environment, which wins: `{PREFIX}NETWORK_ADDRESS` is `address` in `[network]`. Unknown keys and impossible values
are refused at the start, all at once, each with its line and what to write instead (exit status 2). Durations are
seconds, or text such as 500ms, 10s, 5m, 24h. A key with `#` before it has that default.

Who uses a ServerPool never writes these files: `rserpool up` does, from the manifest.

## On a cluster

There is no file: the pod's environment says who the process is and whom it asks, and with `[operator] url` set the
rest comes over the control channel, from the operator's leader, over TLS with the process's own leaf. It is laid over
the process's own configuration; `[network]`, `[operator]`, `[control]`, the ports in `[channel]`, the names in `[pool]`
and everything in `[security]` but `mode` are the pod's own and cannot be changed by it. Then:

* **Start**: identity, then settings, then the protocol. While it waits, `/readyz` and the control socket's `/status`
  say in one line for what, and why. SIGTERM ends a process that waits at once.
* **Changes** come into force without a restart: a registrar's timers, limits, users and peers; a sidecar's policy,
  health, registrars and timers. The pool handle, the mode, the dialect, an application's port and protocol, and whether
  it has a [control channel](control-channel.md) need a new pod: the log says so, and the version is not reported as
  loaded. Impossible values leave everything as it is.
* **Rhythm**: a registrar lets the operator wait up to {WAIT:g} s for news, and only {SHORT_WAIT:g} s in the first
  {LIVELY:g} s after its start and after each change of its elements, so that what it counts is known soon. A sidecar
  asks every {INTERVAL:g} s, a fifth more or less, and at once when its own state changes, at most once a second. An
  operator that is away is asked again after {FIRST_PAUSE:g} s to {LONGEST_PAUSE:g} s; everything goes on with what is
  there.
* **Restart of the container**: `[security] directory` holds key, leaf, bundle and settings. They are taken up again
  if the leaf is this pod's and has not expired, and the process serves within a second, also without the operator.
* **End**: `rserpool-sidecar drain [--timeout SECONDS]` is the pod's preStop hook: it asks the sidecar through its
  control socket to leave the pool, and returns when it has. It never fails because the sidecar is gone or slow.

## Registrar

`rserpool-registrar --example` prints

```toml
{example(RegistrarSettings).strip()}
```

## Sidecar

`rserpool-sidecar --example` prints

```toml
{example(SidecarSettings).strip()}
```

## Operator

The chart writes all of it, from [its values](../charts/rserpool/README.md). `rserpool-operator --example` prints

```toml
{example(OperatorSettings).strip()}
```
"""


def reasons() -> str:
    """The page of reasons in conditions and Events."""
    rows = "\n".join(f"| `{reason}` | {meaning} | {what} |" for reason, (meaning, what) in TABLE.items())
    return f"""\
# Reasons in conditions and Events

<!-- Written by `make docs` from operator/rserpool_operator/reasons.py; do not edit. -->

Each condition of a ServerPool and each Event of the operator has one of these; `rserpool status NS/POOL` prints them.

| reason | meaning | what to do |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    PAGE.write_text(configuration())
    REASONS.write_text(reasons())
    CONFORMANCE.write_text(page(join(chapters(), all_proofs())))
