# SPDX-License-Identifier: Apache-2.0
"""No secret that was made in a test may be told by anything that it wrote: what is known, what is noted, and the search."""

from support.leaks.guard import GUARD, Guard, Leak
from support.leaks.known import Known

__all__ = ["GUARD", "Guard", "Known", "Leak"]
