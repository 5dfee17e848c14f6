# SPDX-License-Identifier: Apache-2.0
"""Addresses as people write them: ``127.0.0.1``, ``10.0.0.1:5300``, ``::1``, ``[fe80::1%eth0]:53``."""

import re
import socket
from dataclasses import dataclass

from fastdns.errors import UsageError

DNS_PORT = 53

# Brackets are for IPv6 only; without them the text after a single colon is a port.
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IP address with a port."""

    host: str  #: canonical text, without scope
    port: int
    scope_id: int = 0  #: interface number of a link-local IPv6 address

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What bind and connect take."""
        if self.family == socket.AF_INET6:
            return (self.host, self.port, 0, self.scope_id)
        return (self.host, self.port)

    @property
    def wildcard(self) -> bool:
        """True for 0.0.0.0 and ::, where a reply needs the address that was asked."""
        return self.host in ("0.0.0.0", "::")

    def __str__(self) -> str:
        if self.family == socket.AF_INET:
            return f"{self.host}:{self.port}"
        scope = f"%{self.scope_id}" if self.scope_id else ""
        return f"[{self.host}{scope}]:{self.port}"


def parse_endpoint(text: str, default_port: int = DNS_PORT) -> Endpoint:
    """The endpoint that ``text`` names. Raises UsageError."""
    host, port_text = _split_port(text)
    port = default_port if port_text is None else _parse_port(text, port_text)
    host, percent, scope = host.partition("%")
    try:
        return Endpoint(socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, host)), port)
    except (OSError, ValueError):
        pass
    try:
        packed = socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        raise UsageError(f"{text!r}: expected an IP address, or ADDR:PORT, or [IPV6]:PORT") from None
    if packed.startswith(bytes(10) + b"\xff\xff"):
        inet = socket.inet_ntop(socket.AF_INET, packed[12:])
        raise UsageError(f"{text!r}: expected the IPv4 address as such ({inet})")
    link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    if link_local and not scope:
        raise UsageError(f"{text!r}: expected a link-local address with its interface, as {host}%eth0")
    if percent and not link_local:
        raise UsageError(f"{text!r}: an interface after % is for link-local addresses (fe80::/10)")
    scope_id = _parse_scope(text, scope) if scope else 0
    return Endpoint(socket.inet_ntop(socket.AF_INET6, packed), port, scope_id)


def parse_ip(text: str) -> str:
    """An IP address by itself, without port or interface, in canonical form. Raises UsageError."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, text))
        except (OSError, ValueError):
            continue
    raise UsageError(f"{text!r}: expected an IP address")


def parse_port(text: str) -> int:
    """A port, from 1. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise UsageError(f"{text!r}: expected a port from 1 to 65535")
    return int(text)


def _split_port(text: str) -> tuple[str, str | None]:
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        if ":" not in bracketed[1]:
            raise UsageError(f"{text!r}: expected an IPv6 address between the brackets")
        return bracketed[1], bracketed[2]
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _parse_port(text: str, port: str) -> int:
    if port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535:
        return int(port)
    raise UsageError(f"{text!r}: expected a port from 1 to 65535, found {port!r}")


def _parse_scope(text: str, scope: str) -> int:
    if scope.isascii() and scope.isdigit() and len(scope) <= 9 and int(scope) > 0:
        return int(scope)
    try:
        return socket.if_nametoindex(scope)
    except (OSError, ValueError):
        raise UsageError(f"{text!r}: this machine has no interface {scope!r}") from None
