# SPDX-License-Identifier: Apache-2.0
"""What is said on standard output at the start, as CoreDNS does: what is served where, and the version."""

import os
import sys

from fastdns._version import COREDNS_VERSION, __version__
from fastdns.control.addresses import Endpoint
from fastdns.control.config.model import Corefile


def banner(corefile: Corefile) -> str:
    """A line for each zone of each listener, then the version; the last without its end."""
    listeners: dict[Endpoint | int, set[str]] = {}  # by port where nothing is bound
    for block in corefile.blocks:
        for key in block.keys:
            places = [key.port] if block.bind is None else block.endpoints(key)
            for place in places:
                listeners.setdefault(place, set()).add(key.zone)
    lines = [_line(zone, place) for place, zones in listeners.items() for zone in sorted(zones)]
    return "\n".join([*lines, *version()])


def version() -> tuple[str, str]:
    """Two lines, as of ``-version``."""
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"fastdns-{__version__} in place of CoreDNS-{COREDNS_VERSION}",
        f"{sys.platform}/{os.uname().machine}, python {python}",
    )


def _line(zone: str, place: Endpoint | int) -> str:
    if isinstance(place, int):
        return f"{zone}:{place}"
    return f"{zone}:{place.port} on {place.host}"
