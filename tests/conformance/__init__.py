# SPDX-License-Identifier: Apache-2.0
"""What the RFCs require, and which tests prove it: the catalogue, the markers of the tests, and the page made of both."""
