# SPDX-License-Identifier: Apache-2.0
"""The one version assignment."""

__version__ = "0.1.0.dev0"
