# SPDX-License-Identifier: Apache-2.0
"""The folder of the generator is no package; its modules are found as when one of them is run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "crds"))
