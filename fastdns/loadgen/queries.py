# SPDX-License-Identifier: Apache-2.0
"""Queries as octets, prepared before a run: names with types, or a pattern of names never repeated.

Only what a load needs: dnspython, which knows the types, would take a second for 10,000 messages.
"""

import secrets
from collections.abc import Iterable

from dns import rdatatype

_FLAG_RD = 0x0100
_EDNS_DO = 0x8000
_OPT = 41
_IN = 1

UNIQUE_LABEL_LEN = 16
_SERIAL_LEN = 8  # the generator writes the serial into the label's last octets
_DIGITS = "0123456789abcdefghijklmnopqrstuv"


def qtype_number(qtype: str | int) -> int:
    """The number of a mnemonic, of TYPEnnn (RFC 3597 section 5), or the number itself."""
    try:
        number = qtype if isinstance(qtype, int) else int(rdatatype.from_text(qtype))
    except rdatatype.UnknownRdatatype:
        raise ValueError(f"unknown query type {qtype!r}: use a mnemonic such as AAAA, or TYPEnnn") from None
    if not 0 < number < 65536:
        raise ValueError(f"query type {number} is outside 1..65535")
    return number


def encode_name(name: str) -> bytes:
    r"""A domain name in wire form.

    Its last dot is optional. Labels may hold ``\.`` and ``\DDD`` (RFC 1035 s5.1).
    """
    labels: list[bytearray] = [bytearray()]
    characters = iter(name)
    for character in characters:
        if character == ".":
            labels.append(bytearray())
        elif character != "\\":
            labels[-1] += character.encode("ascii")
        else:
            escaped = next(characters, "")
            if escaped.isdigit():
                escaped += next(characters, "") + next(characters, "")
                if len(escaped) != 3 or not escaped.isdigit() or int(escaped) > 255:
                    raise ValueError(f"{name!r}: bad escape \\{escaped}")
                labels[-1].append(int(escaped))
            elif escaped:
                labels[-1] += escaped.encode("ascii")
            else:
                raise ValueError(f"{name!r} ends inside an escape")
    if not labels[-1]:
        labels.pop()
    if any(not label or len(label) > 63 for label in labels) and name != ".":
        raise ValueError(f"{name!r}: a label has 1 to 63 octets")
    wire = b"".join(bytes((len(label),)) + bytes(label) for label in labels if label) + b"\0"
    if len(wire) > 255:
        raise ValueError(f"{name!r} is longer than 255 octets")
    return wire


def encode_query(
    name: str, qtype: str | int = "A", edns: int | None = None, dnssec_ok: bool = False
) -> bytes:
    """A recursive query with ID 0. `edns` is the UDP size of its OPT; None: no OPT."""
    question = encode_name(name) + qtype_number(qtype).to_bytes(2, "big") + _IN.to_bytes(2, "big")
    header = b"\0\0" + _FLAG_RD.to_bytes(2, "big") + b"\0\1\0\0\0\0" + (b"\0\0" if edns is None else b"\0\1")
    if edns is None:
        return header + question
    if not 0 <= edns < 65536:
        raise ValueError(f"EDNS size {edns} is outside 0..65535")
    ttl = _EDNS_DO if dnssec_ok else 0
    return (
        header
        + question
        + b"\0"
        + _OPT.to_bytes(2, "big")
        + edns.to_bytes(2, "big")
        + ttl.to_bytes(4, "big")
        + b"\0\0"
    )


def unique_query(
    suffix: str, qtype: str | int = "A", edns: int | None = None, dnssec_ok: bool = False
) -> bytes:
    """The pattern for names under `suffix` that no run repeats.

    40 random bits for the run, the generator's serial.
    """
    number = secrets.randbits(5 * (UNIQUE_LABEL_LEN - _SERIAL_LEN))
    prefix = "".join(_DIGITS[number >> 5 * place & 31] for place in range(UNIQUE_LABEL_LEN - _SERIAL_LEN))
    return encode_query(f"{prefix}{'0' * _SERIAL_LEN}.{suffix.lstrip('.')}", qtype, edns, dnssec_ok)


def read_names(lines: Iterable[str]) -> list[tuple[str, str]]:
    """(name, type) of each line of a query file in dnsperf's form.

    ``name [type]``; ``#`` and ``;`` begin comments.
    """
    names: list[tuple[str, str]] = []
    for line in lines:
        words = line.split()
        if words and words[0][0] not in "#;":
            names.append((words[0], words[1] if len(words) > 1 else "A"))
    return names


def numbered_names(count: int, suffix: str) -> list[tuple[str, str]]:
    """`count` names for A under `suffix`, the same in every run: the working set of a hit bench."""
    return [(f"host-{number:06d}.{suffix}", "A") for number in range(count)]
