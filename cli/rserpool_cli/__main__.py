# SPDX-License-Identifier: Apache-2.0
"""`python -m rserpool_cli` is `rserpool`."""

import sys

from rserpool_cli.main import main

sys.exit(main())
