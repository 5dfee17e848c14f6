# SPDX-License-Identifier: Apache-2.0
"""What is said on standard output at the start, as CoreDNS does: what is served where, and the version."""

import os
import re
import sys
from collections.abc import Iterator
from typing import Final

from fastdns._version import COREDNS_VERSION, __version__
from fastdns.control.addresses import Endpoint
from fastdns.control.config.model import Corefile

#: A label as RFC 1035 section 2.3.1 would rather have it.
_PREFERRED: Final = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE)
_REVERSE: Final = (".in-addr.arpa.", ".ip6.arpa.")


def banner(corefile: Corefile) -> str:
    """A line for each zone of each listener, one before it where its name is odd, then the version; the last
    without its end.
    """
    listeners: dict[Endpoint | int, set[str]] = {}  # by port where nothing is bound
    for block in corefile.blocks:
        for key in block.keys:
            places = [key.port] if block.bind is None else block.endpoints(key)
            for place in places:
                listeners.setdefault(place, set()).add(key.zone)
    lines = [
        line for place, zones in listeners.items() for zone in sorted(zones) for line in _lines(zone, place)
    ]
    return "\n".join([*lines, *version()])


def version() -> tuple[str, str]:
    """Two lines, as of ``-version``."""
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"fastdns-{__version__} in place of CoreDNS-{COREDNS_VERSION}",
        f"{sys.platform}/{os.uname().machine}, python {python}",
    )


def _lines(zone: str, place: Endpoint | int) -> Iterator[str]:
    if not _is_preferred(zone):
        yield f'Warning: Domain "{zone}" does not follow RFC1035 preferred syntax'
    yield f"{zone}:{place}" if isinstance(place, int) else f"{zone}:{place.port} on {place.host}"


def _is_preferred(zone: str) -> bool:
    if zone == "." or zone.endswith(_REVERSE):
        return True
    return all(map(_PREFERRED.fullmatch, zone.removesuffix(".").split(".")))
