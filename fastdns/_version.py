# SPDX-License-Identifier: Apache-2.0
"""The one version assignment, and whose place is taken."""

__version__ = "0.1.0.dev0"

COREDNS_VERSION = "1.13.2"  # node-cache 1.26.7's; tests/peers/versions.env builds it
