# SPDX-License-Identifier: Apache-2.0
"""loadbalance on the wire: records change places, and nothing else changes."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections import Counter
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.renderer
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import wire as raw
from fastdns._testing.rotation import Answer, spins
from tests.workertools import a_records, query, wire

QNAME = "www.example.test."
TOP = 0xFFFFFFFF
#: Chi-square of 999 degrees of freedom, upper 1 % (Wilson and Hilferty's approximation).
CHI_SQUARE_999 = 1105.9

owners = st.sampled_from([QNAME, "target.example.test.", "example.test.", "other.example."])
rdatas = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda n: ("A", ".".join(str(n >> s & 255) for s in (24, 16, 8, 0)))),
    st.integers(0, 65535).map(lambda n: ("AAAA", f"2001:db8::{n:x}")),
    st.tuples(st.integers(0, 99), st.sampled_from(["mx1", "mx2", "a", "www"])).map(
        lambda t: ("MX", f"{t[0]} {t[1]}.example.test.")
    ),
    st.just(("CNAME", "target.example.test.")),
    st.just(("SRV", "1 2 53 target.example.test.")),
    st.just(("TXT", '"x"')),
    st.just(("NS", "ns.example.test.")),
)
# Many of one owner and type, between others.
runs = st.tuples(owners, rdatas, st.integers(0, 9), st.booleans())
sections = st.lists(runs, max_size=4)


def rr(owner: str, kind: str, text: str, ttl: int) -> tuple[dns.name.Name, int, int, dns.rdata.Rdata]:
    rdata = dns.rdata.from_text("IN", kind, text)
    return dns.name.from_text(owner), ttl, dns.rdatatype.from_text(kind), rdata


def several(kind: str, text: str, number: int) -> str:
    """Another rdata of the same length."""
    if kind == "A":
        return ".".join([*text.split(".")[:3], str(number)])
    if kind == "AAAA":
        return f"2001:db8::{number + 1:x}"
    if kind == "MX":
        return f"{number} {text.split()[1]}"
    return text


def message(drawn: list[list[Any]], compress: bool) -> bytes:
    """A response whose sections hold the runs drawn, one record after the other, as they come."""
    out = bytearray(dns.message.make_query(QNAME, "A").to_wire())
    out[2] |= 0x84
    suffixes = {"www.example.test.": 12, "example.test.": 16, "test.": 24}
    table: Any = {dns.name.from_text(name): off for name, off in suffixes.items()} if compress else None
    for section, chosen in enumerate(drawn):
        count = 0
        for owner, (kind, text), more, other_ttls in chosen:
            for number in range(1 + more):
                name, ttl, rdtype, rdata = rr(owner, kind, several(kind, text, number), 60)
                append(out, name, table)
                out += struct.pack("!HHIH", rdtype, 1, ttl + other_ttls * number, 0)
                begun = len(out)
                append_rdata(out, rdata, table)
                struct.pack_into("!H", out, begun - 2, len(out) - begun)
                count += 1
        struct.pack_into("!H", out, 6 + 2 * section, count)
    return bytes(out)


def append(out: bytearray, name: dns.name.Name, table: Any) -> None:
    class Sink:  # dnspython writes names into files, and asks them where it is
        def write(self, octets: bytes) -> None:
            out.extend(octets)

        def tell(self) -> int:
            return len(out)

    name.to_wire(Sink(), table)


def append_rdata(out: bytearray, rdata: Any, table: Any) -> None:
    if rdata.rdtype == dns.rdatatype.MX:
        out += struct.pack("!H", rdata.preference)
        append(out, rdata.exchange, table)
    elif rdata.rdtype in (dns.rdatatype.CNAME, dns.rdatatype.NS):
        append(out, rdata.target, table)
    else:
        octets = rdata.to_wire()
        assert octets is not None
        out += octets


def answer_of(octets: bytes) -> Answer:
    response = raw.parse_answer(octets)
    assert response.rc == 0
    off = response.records_off
    return Answer(
        wire(QNAME),
        1,
        octets[off : response.records_end],
        [one - off for one in response.ttl_off],
        (response.ancount, response.nscount, response.arcount),
    )


def records(octets: bytes) -> list[list[tuple[str, str, int, str]]]:
    """What dnspython reads, section by section, one record after the other."""
    read = dns.message.from_wire(octets, one_rr_per_rrset=True)
    return [
        [(str(s.name).lower(), s.rdtype.name, s.ttl, s[0].to_text()) for s in section]
        for section in (read.answer, read.authority, read.additional)
    ]


@given(sections, sections, sections, st.booleans(), st.integers(1, TOP), st.integers(512, 1400))
def test_the_same_records_as_before(
    answer: list[Any], authority: list[Any], additional: list[Any], compress: bool, spin: int, limit: int
) -> None:
    octets = message([answer, authority, additional], compress)
    held = answer_of(octets)
    packet = query(QNAME).to_wire()
    before, after = records(held.reply(packet, 0)), records(held.reply(packet, spin))
    _, _, count = held.run
    for section in range(3):
        assert Counter(before[section]) == Counter(after[section])
    assert before[1:] == after[1:]
    moved = {index for index, one in enumerate(before[0]) if one != after[0][index]}
    kinds = {before[0][index][:2] for index in moved}
    assert len(kinds) <= 1, "records of one set alone change places"
    assert not moved or (count > 1 and {kind for _, kind in kinds} <= {"A", "AAAA", "MX"})
    # Cut off at any length it is the front of what the whole reply is.
    part = records(held.reply(packet, spin, limit))[0]
    assert part == after[0][: len(part)]


@given(st.integers(2, 60), st.integers(1, TOP), st.sampled_from(["A", "AAAA"]))
def test_every_address_record_of_the_name_moves(count: int, spin: int, kind: str) -> None:
    """An alias stays in front of the addresses; those turn, whole."""
    chain = (QNAME, ("CNAME", "target.example.test."), 0, False)
    text = "192.0.2.0" if kind == "A" else "2001:db8::"
    octets = message([[chain, ("target.example.test.", (kind, text), count - 1, True)], [], []], True)
    held = answer_of(octets)
    assert held.run[2] == count
    alias, *addresses = records(held.reply(query(QNAME).to_wire(), spin))[0]
    assert alias[1] == "CNAME"
    step = spin * count >> 32
    expected = records(octets)[0][1:]
    assert addresses == expected[step:] + expected[:step]


def test_mail_exchangers_move_where_nothing_points_at_them() -> None:
    """The second's exchange leads into the first's where it can be compressed: then they stay."""
    far = [
        (QNAME, ("MX", "1 mx1.other.example."), 0, False),
        (QNAME, ("MX", "2 mx2.other.example."), 0, False),
    ]
    assert answer_of(message([far, [], []], False)).run[2] == 2
    assert answer_of(message([far, [], []], True)).run[2] == 0
    near = [(QNAME, ("MX", f"{n} mx{n}.example.test."), 0, False) for n in (1, 2)]
    assert answer_of(message([near, [], []], True)).run[2] == 2
    glue = [("mx1.example.test.", ("A", "192.0.2.1"), 0, False)]
    assert answer_of(message([near, [], glue], True)).run[2] == 0
    assert answer_of(message([near, [], glue], False)).run[2] == 2


def test_a_name_in_the_run_that_leads_into_it_holds_everything_in_place() -> None:
    """The second's exchange ends in its own owner: as the first it would point forward (RFC 1035 4.1.4)."""
    base = 12 + len(wire(QNAME)) + 4
    fixed = struct.pack("!HHHIH", 0xC00C, 15, 1, 60, 7)
    first = fixed + b"\0\1\2ma" + struct.pack("!H", 0xC00C)
    for pointer, run in ((0xC00C, 2), (0xC000 | base + len(first), 0), (0xC000 | base, 0)):
        second = fixed + b"\0\2\2mb" + struct.pack("!H", pointer)
        octets = struct.pack("!HHHHHH", 1, 0x8400, 1, 2, 0, 0) + wire(QNAME) + b"\0\1\0\1" + first + second
        held = answer_of(octets)
        assert held.run[2] == run
        assert raw.parse_answer(held.reply(query(QNAME).to_wire(), TOP)).rc == 0


def test_a_name_made_of_an_address_holds_everything_in_place() -> None:
    """Upstream may point anywhere: 1.97.0.9 is the name `a.` to who follows a pointer there."""
    sound, _, _ = a_records(["1.97.0.9", "1.98.0.9", "1.99.0.9"])
    first_rdata = 12 + len(wire(QNAME)) + 4 + 12
    for pointer, run in ((0xC00C, 3), (0xC000 | first_rdata, 0), (0xC000 | (first_rdata + 16), 0)):
        extra = struct.pack("!HHHIH", pointer, 16, 1, 60, 2) + b"\x01x"
        octets = struct.pack("!HHHHHH", 1, 0x8400, 1, 3, 0, 1) + wire(QNAME) + b"\0\1\0\1" + sound + extra
        held = answer_of(octets)
        assert held.run[2] == run
        packet = query(QNAME).to_wire()
        for spin in (1, TOP // 2, TOP):
            assert records(held.reply(packet, spin))[2] == records(octets)[2]


def test_a_pointer_at_an_owner_is_no_hindrance() -> None:
    """Uncompressed owners are the same in every place."""
    owner = wire("target.example.")
    base = 12 + len(wire(QNAME)) + 4
    body = b"".join(owner + struct.pack("!HHIH4s", 1, 1, 60, 4, bytes([192, 0, 2, n])) for n in range(3))
    for place, run in ((0, 3), (1, 3), (2, 3)):
        at = base + place * (len(owner) + 14)
        extra = struct.pack("!HHHIH", 0xC000 | at, 16, 1, 60, 2) + b"\x01x"
        octets = struct.pack("!HHHHHH", 1, 0x8400, 1, 3, 0, 1) + wire(QNAME) + b"\0\1\0\1" + body + extra
        held = answer_of(octets)
        assert held.run == (0, len(owner) + 14, run)
        assert records(held.reply(query(QNAME).to_wire(), TOP))[2] == records(octets)[2]


def test_records_of_other_owners_types_or_lengths_end_a_run() -> None:
    drawn = [
        (QNAME, ("A", "192.0.2.0"), 1, False),
        ("other.example.", ("A", "192.0.2.0"), 4, False),
        ("other.example.", ("AAAA", "2001:db8::"), 2, False),
    ]
    held = answer_of(message([drawn, [], []], False))
    assert held.run[1:] == (len(wire("other.example.")) + 14, 5)
    assert answer_of(message([[(QNAME, ("TXT", '"x"'), 5, False)], [], []], True)).run == (0, 0, 0)
    assert answer_of(message([[], [], [(QNAME, ("A", "192.0.2.0"), 5, False)]], True)).run == (0, 0, 0)


@pytest.mark.parametrize("claim", [(0, 16, 4), (40, 16, 1), (0, 255, 65535), (65535, 1, 2), (1, 16, 3)])
def test_parts_stay_within_the_records_whatever_an_entry_says(claim: tuple[int, int, int]) -> None:
    """What a reader copies before it knows that it is whole."""
    octets, offsets, counts = a_records(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
    held = Answer(wire(QNAME), 1, octets, offsets, counts)
    held.claim(*claim)
    for spin in (0, 1, TOP // 3, TOP):
        for want in (0, 1, 20, len(octets), 65535):
            parts = held.parts(spin, want)
            assert sum(length for _, length in parts) == min(want, len(octets))
            assert all(off + length <= len(octets) for off, length in parts)


def test_a_thousand_turn_by_what_was_drawn_cut_off_or_not() -> None:
    addresses = [f"10.0.{n >> 8}.{n & 255}" for n in range(1000)]
    held = Answer(wire(QNAME), 1, *a_records(addresses))
    assert held.run == (0, 16, 1000)
    packet = query(QNAME, use_edns=False).to_wire()
    base = 12 + len(wire(QNAME)) + 4
    for spin in spins(1, 2000):
        for limit, kept in ((512, 29), (4096, 253), (65535, 1000)):
            reply = held.reply(packet, spin, limit)
            assert struct.unpack_from("!H", reply, 6) == (kept,)
            assert bool(reply[2] & 0x02) == (kept < 1000)  # TC
            for place in (0, kept // 2, kept - 1):
                at = base + 16 * place
                expected = addresses[((spin * 1000 >> 32) + place) % 1000]
                assert reply[at + 12 : at + 16] == bytes(map(int, expected.split(".")))


def test_each_of_a_thousand_is_first_as_often() -> None:
    """user-wants 25: a chi-square test at 1 % over the first of 1,000; of 20 generators one may fail it."""
    draws, failed = 20_000, 0
    for seed in range(20):
        begun = random.Random(seed).getrandbits(64)
        firsts = Counter(spin * 1000 >> 32 for spin in spins(begun, draws))
        expected = draws / 1000
        failed += sum((firsts[n] - expected) ** 2 for n in range(1000)) / expected > CHI_SQUARE_999
    assert failed <= 1


networks = st.one_of(
    st.tuples(st.integers(0, 255).map(lambda n: f"192.0.2.{n}"), st.integers(20, 32)),
    st.tuples(st.integers(0, 9).map(lambda n: f"2001:db8::{n:x}"), st.integers(100, 128)),
).map(lambda drawn: ipaddress.ip_network(f"{drawn[0]}/{drawn[1]}", strict=False))


def rank(address: str, preferred: list[Any]) -> int:
    at = ipaddress.ip_address(address)
    return next((n for n, one in enumerate(preferred) if at in one), len(preferred))


@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=40, unique=True),
    st.sampled_from(["A", "AAAA"]),
    st.lists(networks, max_size=5),
    st.integers(1, TOP),
)
def test_addresses_of_preferred_networks_come_first(
    numbers: list[int], kind: str, preferred: list[Any], spin: int
) -> None:
    """In the order of the networks, whatever the reply begins with; an alias stays before them."""
    addresses = [f"192.0.2.{n}" if kind == "A" else f"2001:db8::{n + 0x1000:x}" for n in numbers]
    body = [(QNAME, ("CNAME", "target.example.test."), 0, False)]
    body += [("target.example.test.", (kind, one), 0, False) for one in addresses]
    octets = message([body, [], []], True)
    held = answer_of(octets)
    held.prefer([(one.network_address.packed, one.prefixlen) for one in preferred])
    alias, *after = records(held.reply(query(QNAME).to_wire(), spin))[0]
    assert alias[1] == "CNAME"
    assert Counter(after) == Counter(records(octets)[0][1:])
    ranks = [rank(text, preferred) for _, _, _, text in after]
    assert ranks == sorted(ranks)


def test_each_address_of_the_first_network_is_first() -> None:
    """A set of one leaves the turning to the next; where all sets have one, nothing turns."""
    addresses = [f"192.0.2.{n}" for n in range(1, 7)]
    packet = query(QNAME).to_wire()
    for texts, run, firsts in (
        (["192.0.2.2/31"], 2, {"192.0.2.2", "192.0.2.3"}),
        (["192.0.2.6/32"], 5, {"192.0.2.6"}),
        (["192.0.2.6/32", "192.0.2.4/31"], 2, {"192.0.2.6"}),
        (["10.0.0.0/8", "2001:db8::/32"], 6, set(addresses)),
        ([f"{one}/32" for one in addresses], 0, {"192.0.2.1"}),
    ):
        held = Answer(wire(QNAME), 1, *a_records(addresses))
        networks = map(ipaddress.ip_network, texts)
        held.prefer([(one.network_address.packed, one.prefixlen) for one in networks])
        assert held.run[2] == run
        assert {records(held.reply(packet, spin))[0][0][3] for spin in spins(1, 200)} == firsts


def test_mail_exchangers_are_no_addresses() -> None:
    """Preference and pointer are four octets, too: 0.10.192.12 is not preferred."""
    near = [(QNAME, ("MX", f"{n} www.example.test."), 0, False) for n in (10, 20)]
    held = answer_of(message([near, [], []], True))
    assert held.run[2] == 2
    packet = query(QNAME).to_wire()
    before = held.reply(packet, 0)
    held.prefer([(bytes([0, 20, 0, 0]), 16)])
    assert held.reply(packet, 0) == before
