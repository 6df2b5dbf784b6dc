# SPDX-License-Identifier: Apache-2.0
"""The `rserpool` command, which is also a kubectl plugin."""
