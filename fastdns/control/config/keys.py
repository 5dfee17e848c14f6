# SPDX-License-Identifier: Apache-2.0
"""The keys of server blocks: ``[scheme://]zone[:port]``, and which of them can't stand beside each other."""

from collections.abc import Iterable
from typing import Final

from fastdns.control.config import names
from fastdns.control.config.declare import Position
from fastdns.control.config.lexer import Token
from fastdns.control.config.messages import nearest, shown
from fastdns.control.config.model import WILDCARDS, BindAddress, Key, ServerBlock
from fastdns.control.config.reader import Reader

#: Schemes that node-cache would serve without encryption, or not at all.
UNSERVED: Final = ("tls", "https", "grpc", "quic", "https3", "unix")


def read(token: Token, default_port: int, reader: Reader) -> tuple[Key, ...]:
    """The keys that a word stands for: one, or several for a network. Problems are noted."""
    scheme, separator, rest = token.text.partition("://")
    if not separator:
        scheme, rest = "dns", token.text
    if scheme in UNSERVED:
        reader.problem(
            token,
            f"found {shown(token.text)}, expected dns or no scheme: {scheme} is not served, and node-cache"
            " would serve it without encryption",
        )
        return ()
    if scheme != "dns":
        reader.problem(
            token, f"found scheme {shown(scheme)}, expected dns or none{nearest(scheme, ('dns',))}"
        )
        return ()
    zone, port_text = _split_port(rest)
    port = default_port
    if port_text is not None and zone:
        if not port_text:
            reader.problem(token, f"found {shown(token.text)}, expected a port after the last colon")
            return ()
        port = int(port_text) if len(port_text) <= 5 else 65536
        if not 1 <= port <= 65535:
            reader.problem(token, f"found port {shown(port_text)}, expected one from 1 to 65535")
            return ()
    if not zone:
        reader.problem(token, f"found {shown(token.text)}, expected a zone, as in .:53")
        return ()
    try:
        return tuple(Key(found, port) for found in names.zones(zone))
    except ValueError as error:
        reader.problem(
            token,
            f"found {shown(token.text)}, expected a domain name or a network, and a port or none ({error})",
        )
        return ()


def _split_port(text: str) -> tuple[str, str | None]:
    """Zone and port; what follows the last colon is a port only if it is all digits (or nothing)."""
    zone, colon, port = text.rpartition(":")
    if not colon or not (port == "" or (port.isascii() and port.isdigit())):
        return text, None
    return zone, port


def collisions(blocks: Iterable[ServerBlock]) -> list[str]:
    """A line for each key that can't be served because of another one."""
    problems: list[str] = []
    served: dict[tuple[str, int], dict[BindAddress, Position]] = {}
    for block in blocks:
        for key in block.keys:
            by_address = served.setdefault((key.zone, key.port), {})
            bound = WILDCARDS[:1] if block.bind is None else block.bind.addresses
            unbound = block.bind is None
            for address in bound:
                marker = UNBOUND if unbound else address
                on = "" if unbound else f" on {address.host}"
                if marker in by_address:
                    problems.append(
                        f"{block.where}: cannot serve {key}{on}: it is already defined ({by_address[marker]})"
                    )
                elif by_address and unbound != (UNBOUND in by_address):
                    other = next(iter(by_address.values()))
                    problems.append(
                        f"{block.where}: cannot serve {key}{on}: zone overlap with {other}; a key is bound to"
                        " addresses in all blocks, or in none"
                    )
                else:
                    by_address[marker] = block.where
    return problems


#: Stands for all addresses.
UNBOUND: Final = BindAddress("")
