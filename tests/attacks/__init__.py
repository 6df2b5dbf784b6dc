# SPDX-License-Identifier: Apache-2.0
"""The sixteen threats of draft-ietf-rserpool-threats-13, each as an attack on a system that runs."""

import pytest

pytest.register_assert_rewrite("attacks.kit")  # what judges an attack should show what differs
