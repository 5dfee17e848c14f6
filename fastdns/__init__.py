# SPDX-License-Identifier: Apache-2.0
"""fastdns: a multi-process DNS cache for Kubernetes nodes."""

from fastdns._version import __version__

__all__ = ["__version__"]
