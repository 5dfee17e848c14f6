# SPDX-License-Identifier: Apache-2.0
"""The kernel's own words about nftables (linux/netfilter/nfnetlink.h), where a process is too much for them.

nlmsghdr      length, type (subsystem << 8 | message), flags, sequence, port
nfgenmsg      family, version, resource id
attributes    length, type, value, padded to 4 octets
"""

import os
import socket
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
SUBSYSTEM = 10  #: NFNL_SUBSYS_NFTABLES
NEWTABLE, _GETTABLE = 0, 1
TABLE_NAME = 1  #: NFTA_TABLE_NAME

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_TYPE_MASK = 0x3FFF
_REQUEST, _DUMP_INTERRUPTED, _DUMP = 0x1, 0x10, 0x300
_ERROR, _DONE = 2, 3
_READ = 1 << 16
_TIMEOUT_S = 10.0
_TURNS = 10  #: tables come and go while they are told; so often we start again


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of the messages in a datagram. Raises ValueError for what can't be understood."""
    at = 0
    while len(data) - at >= _HEADER.size:
        length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            raise ValueError(f"a message of {length} octets in {len(data) - at}")
        yield kind, flags, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of a message's attributes, strings without their end. Raises ValueError."""
    at = _GENERIC.size
    while len(body) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            raise ValueError(f"an attribute of {length} octets in {len(body) - at}")
        yield kind & _TYPE_MASK, body[at + _ATTRIBUTE.size : at + length].rstrip(b"\0")
        at += (length + 3) & ~3


def tables() -> list[tuple[str, str]]:
    """Family and name of all tables of this network namespace, the oldest first. Raises OSError.

    `nft list tables` reads every rule of the node before it says as much.
    """
    request = _GENERIC.pack(socket.AF_UNSPEC, 0, 0)
    kind = SUBSYSTEM << 8 | _GETTABLE
    header = _HEADER.pack(_HEADER.size + len(request), kind, _REQUEST | _DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(_TIMEOUT_S)
        for _ in range(_TURNS):
            kernel.send(header + request)
            found, whole = _dump(kernel)
            if whole:
                return found
    raise OSError("tables of nftables come and go all the time")


def _dump(kernel: socket.socket) -> tuple[list[tuple[str, str]], bool]:
    found: list[tuple[str, str]] = []
    whole = True
    while True:
        for kind, flags, body in messages(kernel.recv(_READ)):
            whole &= not flags & _DUMP_INTERRUPTED
            if kind in (_ERROR, _DONE):  # either has a negated errno
                code = -_CODE.unpack_from(body)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return found, whole
            name = dict(attributes(body)).get(TABLE_NAME, b"")
            found.append((FAMILIES.get(body[0], str(body[0])), name.decode()))
