# SPDX-License-Identifier: Apache-2.0
"""nftables' change notifications: `nft flush ruleset` takes our table along with all others.

kube-proxy and CNI plugins change rules all the time, so the messages are looked through for what concerns us:
anything of our own table, and the chains INPUT and OUTPUT of iptables' filter table.
"""

import contextlib
import socket
import struct
from pathlib import Path

from fastdns.control.node.model import TABLE

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_NFNLGRP_NFTABLES = 7
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_GENERIC_LEN = 4  # nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
_NFNL_SUBSYS_NFTABLES = 10

# linux/netfilter/nf_tables.h: message -> attribute of the table's name, attribute of the chain's name
_DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE, _DELSET, _DELSETELEM = 2, 3, 5, 6, 8, 11, 14
_NAMES = {
    _DELTABLE: (1, 0),
    _NEWCHAIN: (1, 3),
    _DELCHAIN: (1, 3),
    _NEWRULE: (1, 2),
    _DELRULE: (1, 2),
    _DELSET: (1, 0),
    _DELSETELEM: (1, 0),
}
_NEW = frozenset({_NEWCHAIN, _NEWRULE})
_CHAINS = frozenset({b"INPUT", b"OUTPUT"})
_READ = 1 << 16


def legacy_in_use(proc: Path = Path("/proc/net")) -> bool:
    """Whether iptables' legacy back end has tables here. It notifies nobody of changes."""
    for name in ("ip_tables_names", "ip6_tables_names"):
        with contextlib.suppress(OSError):
            if (proc / name).read_bytes():
                return True
    return False


def open_notifications() -> socket.socket:
    """A socket that can be read when nftables' rules of this network namespace change. Raises OSError."""
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
    try:
        one.bind((0, 0))
        one.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
    except OSError:
        one.close()
        raise
    return one


def concerns_us(notifications: socket.socket) -> bool:
    """Read all that has come; whether any of it may have changed what we need."""
    concerned = False
    while True:
        try:
            data = notifications.recv(_READ)
        except BlockingIOError:
            return concerned
        except OSError:
            return True  # ENOBUFS: there was more than the socket could hold
        if not data:
            return concerned
        concerned = concerned or any_concerns(data)


def any_concerns(data: bytes) -> bool:
    """Whether one of the messages in a datagram is about our table, or about what could drop our packets."""
    at = 0
    while len(data) - at >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            return True  # not understood
        if kind >> 8 == _NFNL_SUBSYS_NFTABLES and _concerns(
            kind & 0xFF, data[at + _HEADER.size : at + length]
        ):
            return True
        at += (length + 3) & ~3
    return False


def _concerns(message: int, body: bytes) -> bool:
    if message not in _NAMES:
        return False
    table_attribute, chain_attribute = _NAMES[message]
    table = chain = b""
    at = _GENERIC_LEN
    while len(body) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            return True
        value = body[at + _ATTRIBUTE.size : at + length].rstrip(b"\0")
        if kind & _TYPE_MASK == table_attribute:
            table = value
        elif kind & _TYPE_MASK == chain_attribute:
            chain = value
        at += (length + 3) & ~3
    if table == TABLE.encode():
        return message not in _NEW  # what is new there is our own doing
    return table == b"filter" and (chain in _CHAINS or message == _DELTABLE)
