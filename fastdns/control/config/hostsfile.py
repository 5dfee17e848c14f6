# SPDX-License-Identifier: Apache-2.0
"""Hosts files and the lines of a `hosts` block as a table of names (corefile.md 2.3)."""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from fastdns.control.config.names import absolute, is_below
from fastdns.control.config.plugins import HostsLine
from fastdns.control.model import HostRecord

#: Records of one type for a name: more don't fit a message (16 and 28 octets each).
IPV4_MAX: Final = 4000
IPV6_MAX: Final = 2300
PTR_MAX: Final = 240  #: names of 255 octets and 12 more

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_lines(path: Path) -> Iterator[HostsLine]:
    """The lines of a hosts file; what is none is passed over, as node-cache does. Raises OSError."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.partition("#")[0].split()
            if len(words) > 1:
                yield HostsLine(address=words[0], names=tuple(words[1:]))


def host_table(
    lines: Iterable[HostsLine], zones: Sequence[str], reverse: bool = True
) -> dict[str, HostRecord]:
    """What is known of each name, in the lines' order; with PTR records of the addresses where ``reverse``.

    ``*.NAME`` stands for all names below NAME. Only names at or below ``zones`` are taken. Lines without
    an address and names that are none are passed over; what does not fit a message is cut off.
    """
    inet4: dict[str, list[bytes]] = {}
    inet6: dict[str, list[bytes]] = {}
    pointers: dict[str, list[str]] = {}
    for line in lines:
        address = _address(line.address)
        if address is None:
            continue
        for text in line.names:
            name = _name(text)
            if name is None or not any(is_below(name, zone) for zone in zones):
                continue
            if address.version == 4:
                inet4.setdefault(name, []).append(address.packed)
            else:
                inet6.setdefault(name, []).append(address.packed)
            if reverse and not name.startswith("*."):
                pointers.setdefault(f"{address.reverse_pointer}.", []).append(name)
    return {
        name: HostRecord(
            tuple(inet4.get(name, ())[:IPV4_MAX]),
            tuple(inet6.get(name, ())[:IPV6_MAX]),
            tuple(pointers.get(name, ())[:PTR_MAX]),
        )
        for name in {**inet4, **inet6, **pointers}
    }


def _address(text: str) -> Address | None:
    try:
        # An address of a link is of use without its interface: names for it are the same on all.
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _name(text: str) -> str | None:
    try:
        return absolute(text)
    except ValueError:
        return None
