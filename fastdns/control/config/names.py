# SPDX-License-Identifier: Apache-2.0
"""Domain names of a Corefile: absolute, lower case; networks as reverse zones."""

import ipaddress
import re
from typing import Final

from fastdns.proto import LABEL_MAX, NAME_MAX

#: One octet of a label: as it is, or escaped (RFC 1035 section 5.1).
_OCTET: Final = re.compile(r"\\([0-9]{3})|\\(.)|([^.\\])", re.DOTALL)

#: What nearly all names are: nothing in them needs a second look.
_PLAIN: Final = re.compile(r"(?=.{1,253}$)[0-9A-Za-z_*-]{1,63}(?:\.[0-9A-Za-z_*-]{1,63})*+\.?", re.ASCII)


def absolute(text: str) -> str:
    """``text`` as an absolute name in lower case, with its dot at the end. Raises ValueError."""
    if text == ".":
        return text
    if _PLAIN.fullmatch(text):
        return text.lower() if text.endswith(".") else f"{text.lower()}."
    name = text if text.endswith(".") and not _ends_escaped(text) else f"{text}."
    octets, label, position = 1, 0, 0
    while position < len(name):
        if name[position] == ".":
            if not 1 <= label <= LABEL_MAX:
                raise ValueError(
                    "an empty label" if label == 0 else f"a label of more than {LABEL_MAX} octets"
                )
            octets, label, position = octets + label + 1, 0, position + 1
            continue
        match = _OCTET.match(name, position)
        if not match or (match[1] and int(match[1]) > 255):
            raise ValueError("a broken escape")
        label += 1 if match[1] else len((match[2] or match[3]).encode(errors="surrogateescape"))
        position = match.end()
    if label:
        raise ValueError("a broken escape")
    if octets > NAME_MAX:
        raise ValueError(f"it has {octets} octets, {NAME_MAX} are allowed")
    return lower(name)


def _ends_escaped(text: str) -> bool:
    """True where the last dot is part of a label: an odd number of backslashes before it."""
    return (len(text) - 1 - len(text[:-1].rstrip("\\"))) % 2 == 1


def lower(name: str) -> str:
    """``name`` in lower case."""
    # DNS folds ASCII only (RFC 4343); str.lower() would change other letters too.
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)


def is_below(name: str, zone: str) -> bool:
    """Whether a name lies at or below a zone; both as ``absolute`` gives them."""
    return zone == "." or name == zone or name.endswith(f".{zone}")


def zones(text: str) -> tuple[str, ...]:
    """The zone that ``text`` names, or the reverse zones of a network. Raises ValueError.

    A network that ends inside an octet (IPv4) or nibble (IPv6) becomes all zones of the next boundary.
    """
    if "/" not in text:
        return (absolute(text),)
    network = _network(text)
    if network is None:
        return (absolute(text),)
    unit = 8 if network.version == 4 else 4
    length = max(-(-network.prefixlen // unit) * unit, unit) if network.prefixlen else 0
    return tuple(_reverse_zone(subnet) for subnet in network.subnets(new_prefix=length))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    address, _, length = text.partition("/")
    if not re.fullmatch(r"[0-9]{1,3}", length, re.ASCII):
        return None
    try:
        return ipaddress.ip_network(f"{address}/{int(length)}", strict=False)
    except ValueError:
        if re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", address, re.ASCII):
            raise ValueError("a network that is none") from None
        return None


def _reverse_zone(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    if network.version == 4:
        parts = str(network.network_address).split(".")[: network.prefixlen // 8]
        suffix = "in-addr.arpa."
    else:
        nibbles = network.network_address.exploded.replace(":", "")
        parts = list(nibbles[: network.prefixlen // 4])
        suffix = "ip6.arpa."
    return ".".join([*reversed(parts), suffix])
