# SPDX-License-Identifier: Apache-2.0
"""Writes docs/configuration.md from the declarations of the daemons' settings: `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rserpool.daemon.settings import PREFIX, example
from rserpool_registrar.config import RegistrarSettings
from rserpool_sidecar.config import SidecarSettings

PAGE: Final = Path(__file__).parent / "configuration.md"


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
"""


if __name__ == "__main__":
    PAGE.write_text(configuration())
