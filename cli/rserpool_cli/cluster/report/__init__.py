# SPDX-License-Identifier: Apache-2.0
"""`rserpool report`: all there is to see of a cluster's pool, in one archive, without keys and tokens."""
