# SPDX-License-Identifier: Apache-2.0
"""Plain Python takes on the wire format, slow and simple: what the compiled code is compared with."""

import struct
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rdata
from hypothesis import strategies as st

OPT = 41
MASK = (1 << 64) - 1


# ------------------------------------------------------------------------- SipHash-1-3 ----


def _rotate(x: int, n: int) -> int:
    return ((x << n) | (x >> (64 - n))) & MASK


def siphash_words(words: list[int], key: bytes, rounds: int = 1, final_rounds: int = 3) -> int:
    """SipHash over whole words, the last of which holds the length in its top octet."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def turn(n: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(n):
            v0 = (v0 + v1) & MASK
            v1 = _rotate(v1, 13) ^ v0
            v0 = _rotate(v0, 32)
            v2 = (v2 + v3) & MASK
            v3 = _rotate(v3, 16) ^ v2
            v0 = (v0 + v3) & MASK
            v3 = _rotate(v3, 21) ^ v0
            v2 = (v2 + v1) & MASK
            v1 = _rotate(v1, 17) ^ v2
            v2 = _rotate(v2, 32)

    for word in words:
        v3 ^= word
        turn(rounds)
        v0 ^= word
    v2 ^= 0xFF
    turn(final_rounds)
    return v0 ^ v1 ^ v2 ^ v3


def siphash(data: bytes, key: bytes, rounds: int = 1, final_rounds: int = 3) -> int:
    """SipHash as its paper has it, over any octets."""
    whole = len(data) // 8 * 8
    words = [word for (word,) in struct.iter_unpack("<Q", data[:whole])]
    last = data[whole:] + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    return siphash_words([*words, int.from_bytes(last, "little")], key, rounds, final_rounds)


# ----------------------------------------------------------------------- plain messages ----


def octets_of(part: dns.name.Name | dns.rdata.Rdata) -> bytes:
    """A name or rdata on the wire, not compressed."""
    octets = part.to_wire()
    assert octets is not None
    return octets


def labels(*parts: bytes) -> bytes:
    """A name on the wire from its labels, the root added."""
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def header(
    message_id: int = 0x1234, flags: int = 0x0100, qd: int = 1, an: int = 0, ns: int = 0, ar: int = 0
) -> bytes:
    return struct.pack("!6H", message_id, flags, qd, an, ns, ar)


def question(name: bytes, qtype: int = 1, qclass: int = 1) -> bytes:
    return name + struct.pack("!HH", qtype, qclass)


def record(owner: bytes, rdtype: int, rdata: bytes, ttl: int = 300, rdclass: int = 1) -> bytes:
    return owner + struct.pack("!HHIH", rdtype, rdclass, ttl, len(rdata)) + rdata


def opt(
    size: int = 1232, flags: int = 0, options: bytes = b"", version: int = 0, ext_rcode: int = 0
) -> bytes:
    """An OPT record; DO is 0x8000 in flags."""
    return record(b"\0", OPT, options, ttl=ext_rcode << 24 | version << 16 | flags, rdclass=size)


def option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


@dataclass(frozen=True)
class Record:
    """Where one record of a message stands."""

    section: int  #: 1 answer, 2 authority, 3 additional
    start: int
    ttl_off: int
    end: int
    rdtype: int
    ttl: int


def name_end(message: bytes, pos: int) -> int:
    """The octet after a name that is known to be good, pointers not followed."""
    while True:
        octet = message[pos]
        if octet == 0:
            return pos + 1
        if octet >= 0xC0:
            return pos + 2
        pos += octet + 1


def walk(message: bytes) -> tuple[int, list[Record]]:
    """The end of the question, and all records of a message that is known to be good."""
    qd, *counts = struct.unpack_from("!4H", message, 4)
    pos = 12
    for _ in range(qd):
        pos = name_end(message, pos) + 4
    body = pos
    records = []
    for section, count in enumerate(counts, 1):
        for _ in range(count):
            start = pos
            pos = name_end(message, pos)
            rdtype, _, ttl, rdlength = struct.unpack_from("!HHIH", message, pos)
            ttl_off, pos = pos + 4, pos + 10 + rdlength
            records.append(Record(section, start, ttl_off, pos, rdtype, ttl))
    return body, records


@dataclass(frozen=True)
class Stored:
    """A response as the cache keeps it: records without the question and without OPT."""

    records: bytes
    ttl_off: list[int]
    counts: tuple[int, int, int]


def stored(message: bytes) -> Stored:
    """Take a good response apart; an OPT in it must be its last record."""
    body, found = walk(message)
    kept = [r for r in found if r.rdtype != OPT]
    assert found[: len(kept)] == kept, "an OPT before other records"
    end = kept[-1].end if kept else body
    counts = tuple(sum(r.section == section for r in kept) for section in (1, 2, 3))
    return Stored(message[body:end], [r.ttl_off - body for r in kept], counts)  # type: ignore[arg-type]


def as_response(
    query: dns.message.Message,
    *rrsets: str,
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
    flags: int = 0,
) -> dns.message.Message:
    """A response to `query`; each RRset as lines of "owner ttl class type rdata"."""
    response = dns.message.make_response(query)
    response.flags |= flags | dns.flags.RA
    for section, texts in (
        (response.answer, rrsets),
        (response.authority, authority),
        (response.additional, additional),
    ):
        for text in texts:
            section.extend(dns.message.from_text(f"id 1\n;ANSWER\n{text}\n").answer)
    return response


# --------------------------------------------------------------------------- hypothesis ----

label_octets = st.binary(min_size=1, max_size=63)
#: Names on the wire of any octets, 255 at most.
wire_names = (
    st.lists(st.one_of(st.binary(min_size=1, max_size=4), label_octets), max_size=20)
    .filter(lambda parts: sum(len(part) + 1 for part in parts) < 255)
    .map(lambda parts: labels(*parts))
)
#: Names of letters in both cases.
text_names = st.lists(st.text("abcXYZ09-_", min_size=1, max_size=12), min_size=1, max_size=6).map(
    lambda parts: dns.name.Name([part.encode() for part in parts] + [b""])
)
