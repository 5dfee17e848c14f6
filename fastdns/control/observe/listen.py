# SPDX-License-Identifier: Apache-2.0
"""Which addresses /metrics, /health and /ready are served on, and their sockets.

Apart from the server, so that they can be tried before anything is started.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdns.errors import ListenError

if TYPE_CHECKING:
    from fastdns.control.config.model import Corefile

_BACKLOG = 128
_IP_FREEBIND = 15  # linux/in.h; Python has no name for it
_IPV6_FREEBIND = 78

Address = tuple[str, int]  #: host ("": all addresses, IPv4 and IPv6) and port


@dataclass(frozen=True, slots=True)
class Wanted:
    """A listener of the configuration."""

    paths: frozenset[str]
    shared: bool = True  #: SO_REUSEPORT
    fatal: bool = False  #: control doesn't start without it


def wanted(corefile: "Corefile | None", own: Address | None) -> dict[Address, Wanted]:
    """What is to be listened on. own: node-cache's metrics address.

    One listener for an address, however it is written: connections to two sockets of one SO_REUSEPORT group
    go to either, and each would have but its own paths.
    """
    found: dict[Address, Wanted] = {}
    own = None if own is None else canonical(own)

    def add(address: Address, path: str, fatal: bool = False) -> None:
        address = canonical(address)
        known = found.get(address, Wanted(frozenset()))
        found[address] = Wanted(known.paths | {path}, shared=True, fatal=known.fatal or fatal)

    for block in () if corefile is None else corefile.blocks:
        if block.health is not None:
            add(block.health.address, "/health", fatal=True)
        if block.ready is not None:
            add(block.ready.address, "/ready", fatal=True)
        if block.prometheus is not None:
            add(block.prometheus.address, "/metrics")
    if own is not None and own not in found:
        found[own] = Wanted(frozenset({"/metrics"}), shared=False)
    elif own is not None:
        add(own, "/metrics")
    return found


def numeric(host: str) -> str:
    """The one form of an address, and localhost's, which is IPv4 as Go has it; "" for another name."""
    if host == "localhost":
        return "127.0.0.1"
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            return socket.inet_ntop(family, socket.inet_pton(family, host))
    return ""


def canonical(address: Address) -> Address:
    """The address in the one form in which it is compared."""
    host, port = address
    return numeric(host) or host, port


def open_needed(corefile: "Corefile | None", arriving: frozenset[str]) -> list[socket.socket]:
    """Listen on what the server doesn't start without. Raises ListenError; nothing stays open then."""
    opened: list[socket.socket] = []
    try:
        for (host, port), one in wanted(corefile, None).items():
            if one.fatal:
                opened.append(bind((host, port), shared=True, arriving=host in arriving))
    except ListenError:
        for sock in opened:
            sock.close()
        raise
    return opened


def bind(address: Address, *, shared: bool, arriving: bool = False) -> socket.socket:
    """A listening socket. Raises ListenError.

    shared: SO_REUSEPORT, as CoreDNS's have it; arriving: the address need not be on the machine yet.
    """
    host, port = address
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    try:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:  # a kernel without IPv6
            family = socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise ListenError(f"listen tcp {text}: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        if arriving:
            six = family == socket.AF_INET6
            sock.setsockopt(
                socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, _IPV6_FREEBIND if six else _IP_FREEBIND, 1
            )
        sock.bind((host or ("::" if family == socket.AF_INET6 else "0.0.0.0"), port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        reason = (error.strerror or str(error)).lower()
        raise ListenError(f"listen tcp {text}: bind: {reason}") from None
    return sock
