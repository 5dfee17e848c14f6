# SPDX-License-Identifier: Apache-2.0
"""parse_response: lengths, pointers, TTL offsets, OPT, and what kind of response it is."""

import struct

import dns.exception
import dns.flags
import dns.message
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import wire
from tests.rdata_samples import samples
from tests.wiretools import (
    as_response,
    header,
    labels,
    name_end,
    octets_of,
    opt,
    option,
    question,
    record,
    text_names,
    walk,
    wire_names,
)

OK, SHORT, MALFORMED = 0, -1, -2
ANSWER, NODATA, NXDOMAIN, REFERRAL, EMPTY, FAILURE = 1, 2, 3, 4, 5, 6
NAME = labels(b"www", b"example", b"com")
POINTER = b"\xc0\x0c"
RESPONSE = 0x8180
A = record(POINTER, 1, b"abcd", ttl=30)
SOA_RDATA = labels(b"ns") + labels(b"admin") + struct.pack("!5I", 1, 2, 3, 4, 60)


def message(*sections: list[bytes], flags: int = RESPONSE, qtype: int = 1, name: bytes = NAME) -> bytes:
    counts = [len(section) for section in sections] + [0] * (3 - len(sections))
    body = b"".join(b"".join(section) for section in sections)
    return header(flags=flags, an=counts[0], ns=counts[1], ar=counts[2]) + question(name, qtype) + body


def parse(of: bytes) -> wire.Response:
    return wire.parse_answer(of)


class TestMeasures:
    def test_one_record(self) -> None:
        msg = message([A])
        r = parse(msg)
        assert (r.rc, r.id, r.flags, r.kind, r.rcode) == (OK, b"\x12\x34", RESPONSE, ANSWER, 0)
        assert (r.ancount, r.nscount, r.arcount) == (1, 0, 0)
        assert (r.records_off, r.records_end, r.ttl_off) == (33, len(msg), (39,))
        assert (r.min_ttl, r.compressed, r.opt_off) == (30, 1, 0)
        assert r.plain_len == 33 + len(NAME) + 14

    def test_no_records(self) -> None:
        r = parse(message())
        assert (r.rc, r.kind, r.ttl_off, r.min_ttl) == (OK, EMPTY, (), 0)
        assert (r.records_off, r.records_end, r.plain_len) == (33, 33, 33)

    def test_trailing_octets_are_ignored(self) -> None:
        r = parse(message([A]) + b"junk")
        assert (r.rc, r.records_end) == (OK, len(message([A])))

    def test_uncompressed(self) -> None:
        r = parse(message([record(NAME, 1, b"abcd")]))
        assert (r.rc, r.compressed, r.plain_len) == (OK, 0, 33 + len(NAME) + 14)

    @pytest.mark.parametrize(
        ("ttls", "least"),
        [
            ((5, 4, 6), 4),
            ((0x7FFFFFFF,), 0x7FFFFFFF),
            ((0x80000000, 9), 0),
            ((7, 0xFFFFFFFF), 0),
            ((0, 9), 0),
        ],
    )
    def test_min_ttl(self, ttls: tuple[int, ...], least: int) -> None:
        assert parse(message([record(POINTER, 1, b"abcd", ttl=ttl) for ttl in ttls])).min_ttl == least

    def test_all_sections_count(self) -> None:
        r = parse(message([A], [record(POINTER, 2, POINTER, ttl=20)], [record(POINTER, 1, b"abcd", ttl=10)]))
        assert (r.min_ttl, r.ancount, r.nscount, r.arcount, len(r.ttl_off)) == (10, 1, 1, 1, 3)

    @given(st.data(), text_names)
    def test_agrees_with_dnspython(self, data: st.DataObject, name: dns.name.Name) -> None:
        chosen = st.lists(st.sampled_from(samples()), max_size=4)

        def lines() -> tuple[str, ...]:
            ttl = st.integers(0, 0x7FFFFFFF)
            owner = st.sampled_from([str(name), "example.com.", "other."])
            return tuple(
                f"{data.draw(owner)} {data.draw(ttl)} IN {t} {text}" for t, text in data.draw(chosen)
            )

        asked = dns.message.make_query(name, "A", use_edns=data.draw(st.sampled_from([None, 0])))
        response = as_response(asked, *lines(), authority=lines(), additional=lines())
        msg = response.to_wire()
        r = parse(msg)
        _, found = walk(msg)
        found = [f for f in found if f.rdtype != 41]
        assert r.rc == OK
        assert r.ttl_off == tuple(f.ttl_off for f in found)
        assert r.min_ttl == min((f.ttl for f in found), default=0)
        assert (r.ancount, r.nscount, r.arcount) == tuple(
            sum(f.section == s for f in found) for s in (1, 2, 3)
        )
        plain = (
            12
            + len(octets_of(name))
            + 4
            + sum(
                len(octets_of(rrset.name)) + 10 + len(octets_of(rdata))
                for section in (response.answer, response.authority, response.additional)
                for rrset in section
                for rdata in rrset
            )
        )
        assert r.plain_len == plain
        assert bool(r.opt_off) == (response.edns == 0)

    @pytest.mark.parametrize(("rdtype", "text"), samples())
    def test_every_type(self, rdtype: str, text: str) -> None:
        asked = dns.message.make_query("www.example.com.", rdtype)
        response = as_response(asked, f"www.example.com. 77 IN {rdtype} {text}")
        msg = response.to_wire()
        r = parse(msg)
        assert (r.rc, r.kind, r.min_ttl, len(r.ttl_off)) == (OK, ANSWER, 77, 1)
        [rrset] = response.answer
        assert r.plain_len == r.records_off + len(NAME) + 10 + len(octets_of(rrset[0]))
        # Cut anywhere it is malformed.
        for n in range(12, len(msg)):
            assert parse(msg[:n]).rc == MALFORMED

    def test_samples_of_the_types_that_matter(self) -> None:
        assert len({rdtype for rdtype, _ in samples()}) >= 50

    @pytest.mark.parametrize("rdtype", [*range(40, 300), 1, 10, 11, 13, 16, 65280, 65535])
    def test_other_types_are_not_looked_into(self, rdtype: int) -> None:
        if rdtype == 41:
            return
        rdata = b"\xc0\xff\xff\x40\x3f"
        r = parse(message([record(POINTER, rdtype, rdata), record(POINTER, rdtype, b"")], qtype=rdtype))
        assert (r.rc, r.plain_len) == (OK, 33 + 2 * (len(NAME) + 10) + 5)


class TestKinds:
    SOA = record(POINTER, 6, SOA_RDATA, ttl=300)
    NS = record(POINTER, 2, labels(b"ns"))
    CNAME = record(POINTER, 5, labels(b"x"))
    DNAME = record(POINTER, 39, labels(b"x"))
    RRSIG = record(POINTER, 46, bytes(18) + labels(b"x") + b"sig")

    @pytest.mark.parametrize(
        ("answer", "authority", "kind"),
        [
            ([A], [], ANSWER),
            ([A], [SOA], ANSWER),
            ([CNAME, A], [NS], ANSWER),
            ([], [SOA], NODATA),
            ([], [NS, SOA], NODATA),
            ([CNAME], [SOA], NODATA),
            ([DNAME, RRSIG, CNAME, CNAME, RRSIG], [SOA, NS], NODATA),
            ([CNAME], [], ANSWER),
            ([CNAME], [NS], ANSWER),
            ([], [NS], REFERRAL),
            ([], [], EMPTY),
            ([], [A], EMPTY),
            ([SOA], [], ANSWER),
        ],
    )
    def test_noerror(self, answer: list[bytes], authority: list[bytes], kind: int) -> None:
        assert parse(message(answer, authority)).kind == kind
        assert parse(message(answer, authority, [opt()])).kind == kind

    @pytest.mark.parametrize("qtype", [5, 39, 46, 255])
    def test_aliases_can_be_what_was_asked_for(self, qtype: int) -> None:
        answer = {5: self.CNAME, 39: self.DNAME, 46: self.RRSIG, 255: self.CNAME}[qtype]
        assert parse(message([answer], [self.SOA], qtype=qtype)).kind == ANSWER

    @pytest.mark.parametrize("answer", [[], [CNAME]])
    def test_nxdomain(self, answer: list[bytes]) -> None:
        r = parse(message(answer, [self.SOA], flags=RESPONSE | 3))
        assert (r.kind, r.has_soa, r.soa_ttl, r.soa_minimum) == (NXDOMAIN, 1, 300, 60)
        r = parse(message(answer, [], flags=RESPONSE | 3))
        assert (r.kind, r.has_soa) == (NXDOMAIN, 0)

    @pytest.mark.parametrize("rcode", [1, 2, 4, 5, 6, 9, 15])
    def test_failure(self, rcode: int) -> None:
        r = parse(message([A], [self.SOA], flags=RESPONSE | rcode))
        assert (r.kind, r.rcode) == (FAILURE, rcode)

    def test_extended_rcode(self) -> None:
        r = parse(message([A], [], [opt(ext_rcode=1)]))
        assert (r.kind, r.rcode) == (FAILURE, 16)
        r = parse(message([], [], [opt(ext_rcode=0xFF)], flags=RESPONSE | 0xF))
        assert r.rcode == 0xFFF

    def test_the_first_soa_of_the_authority_section_counts(self) -> None:
        other = record(POINTER, 6, SOA_RDATA[:-4] + struct.pack("!I", 7), ttl=9)
        r = parse(message([other], [self.SOA, other], [other]))
        assert (r.has_soa, r.soa_ttl, r.soa_minimum) == (1, 300, 60)
        assert parse(message([other], [], [other])).has_soa == 0

    def test_soa_numbers_over_2_31(self) -> None:
        huge = record(POINTER, 6, SOA_RDATA[:-4] + b"\xff\xff\xff\xff", ttl=0x80000000)
        r = parse(message([], [huge]))
        assert (r.soa_ttl, r.soa_minimum) == (0, 0)


class TestOpt:
    def test_measured_and_left_out(self) -> None:
        msg = message([A], [], [opt(4096, 0x8000, option(10, bytes(8)))])
        r = parse(msg)
        assert (r.rc, r.arcount, len(r.ttl_off)) == (OK, 0, 1)
        assert (r.opt_off, r.opt_len, r.opt_size, r.opt_do) == (len(message([A])), 23, 4096, 1)
        assert r.plain_len == parse(message([A])).plain_len
        assert r.min_ttl == 30

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_anywhere_in_additional(self, place: int) -> None:
        additional = [A, A]
        additional.insert(place, opt())
        r = parse(message([A], [], additional))
        assert (r.rc, r.arcount, len(r.ttl_off)) == (OK, 2, 3)
        assert r.opt_off == len(message([A], [], [A] * place))

    def test_two(self) -> None:
        assert parse(message([A], [], [opt(), opt()])).rc == MALFORMED

    def test_in_another_section(self) -> None:
        assert parse(message([opt()])).rc == MALFORMED
        assert parse(message([], [opt()])).rc == MALFORMED

    @pytest.mark.parametrize("owner", [b"\1a\0", b"\xc0\x0c", b"\xc0\x1c"])
    def test_owner(self, owner: bytes) -> None:
        assert parse(message([A], [], [owner + opt()[1:]])).rc == MALFORMED

    def test_tsig_is_an_ordinary_record(self) -> None:
        r = parse(message([A], [], [opt(), record(labels(b"key"), 250, bytes(30), ttl=0, rdclass=255)]))
        assert (r.rc, r.arcount, r.min_ttl) == (OK, 1, 0)


class TestHostile:
    @pytest.mark.parametrize("n", range(12))
    def test_short(self, n: int) -> None:
        assert parse(message([A])[:n]).rc == SHORT

    def test_query(self) -> None:
        assert parse(message([A], flags=0x0100)).rc == SHORT

    @pytest.mark.parametrize("opcode", range(1, 16))
    def test_opcode(self, opcode: int) -> None:
        assert parse(message([A], flags=RESPONSE | opcode << 11)).rc == MALFORMED

    @pytest.mark.parametrize("qdcount", [0, 2, 256, 65535])
    def test_question_count(self, qdcount: int) -> None:
        msg = message([A])
        assert parse(msg[:4] + struct.pack("!H", qdcount) + msg[6:]).rc == MALFORMED

    def test_id_and_flags_of_a_malformed_one(self) -> None:
        r = parse(message([A], flags=RESPONSE | 0x0200)[:40])
        assert (r.rc, r.id, r.flags) == (MALFORMED, b"\x12\x34", RESPONSE | 0x0200)

    def test_every_truncation(self) -> None:
        msg = message([A, record(labels(b"x"), 15, b"\0\1" + POINTER)], [TestKinds.SOA], [opt(), A])
        assert parse(msg).rc == OK
        for n in range(12, len(msg)):
            assert parse(msg[:n]).rc == MALFORMED

    @pytest.mark.parametrize("section", range(3))
    @pytest.mark.parametrize("count", [2, 3, 255, 256, 65535])
    def test_counts_that_lie(self, section: int, count: int) -> None:
        msg = bytearray(message([A]))
        msg[6 + 2 * section : 8 + 2 * section] = struct.pack("!H", count)
        assert parse(bytes(msg)).rc == MALFORMED

    @pytest.mark.parametrize(
        "owner",
        [
            b"\xc0\x21",  # to itself (records begin at 33)
            b"\1a\xc0\x21",  # a loop with a label
            b"\xc0\x23\0",  # forward
            b"\xc0\x00",
            b"\xc0\x0b",
            b"\xff\xff",
            b"\x40a\0",
            b"\x80a\0",
            b"\x3f\0",
        ],
    )
    def test_owner(self, owner: bytes) -> None:
        assert parse(message([owner + A[2:]])).rc == MALFORMED

    def test_pointer_to_a_pointer_that_points_at_it(self) -> None:
        # The second owner points into the first's rdata, where a pointer aims at the second.
        first = record(POINTER, 16, b"\xc0\x30")
        assert len(message([first])) == 0x2F
        assert parse(message([first, b"\xc0\x2d" + A[2:]])).rc == MALFORMED

    def test_names_made_of_a_ttl(self) -> None:
        # A TTL of 01 78 00 00 spells the name "x", until a second has passed.
        spelled = record(POINTER, 16, b"text", ttl=0x01780000)
        at = struct.pack("!H", 0xC000 | (33 + 2 + 4))
        assert parse(message([spelled, at + A[2:]])).rc == MALFORMED
        assert parse(message([spelled, record(POINTER, 5, at)])).rc == MALFORMED
        into = record(POINTER, 16, b"\1y" + at)
        assert (
            parse(message([spelled, into, struct.pack("!H", 0xC000 | (33 + 16 + 12)) + A[2:]])).rc
            == MALFORMED
        )
        # The root alone, in the TTL's first octet, and a pointer that ends there.
        root = record(POINTER, 16, b"text", ttl=30, rdclass=0x0161)
        assert parse(message([root, struct.pack("!H", 0xC000 | (33 + 2 + 2)) + A[2:]])).rc == MALFORMED
        pointer = record(POINTER, 16, b"text", ttl=0x0C000000, rdclass=0x00C0)
        assert parse(message([pointer, struct.pack("!H", 0xC000 | (33 + 2 + 3)) + A[2:]])).rc == MALFORMED
        # Names in rdata that is opaque to us, and a name in the rdata of a known type, may be aimed at.
        signed = record(POINTER, 46, bytes(18) + labels(b"x") + b"sig")
        assert parse(message([signed, struct.pack("!H", 0xC000 | (33 + 12 + 18)) + A[2:]])).rc == OK

    def test_pointers_into_the_question_aim_at_its_labels(self) -> None:
        name = labels(b"a\1b", b"\xc0\x0c")
        for target in range(12, 12 + len(name) + 4):
            owner = struct.pack("!H", 0xC000 | target)
            good = target in (12, 16, 19)  # the two labels and the root
            assert (parse(message([owner + A[2:]], name=name)).rc == OK) == good, target
            assert (parse(message([record(POINTER, 15, b"\0\1" + owner)], name=name)).rc == OK) == good, (
                target
            )

    def test_an_owner_made_of_its_own_ttl(self) -> None:
        # The question's class 00 01 begins a label of one octet that runs into the record.
        name = labels(b"a")
        msg = header(flags=RESPONSE, an=1) + question(name)
        msg += b"\xc0\x12\0\5\0\1" + bytes.fromhex("12358180 000100010000000001610000030000000000c00c")
        assert parse(msg).rc == MALFORMED

    def test_name_of_256_octets_by_pointer(self) -> None:
        long = labels(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 60)  # 254 octets
        good = message([POINTER + A[2:]], name=long)
        assert parse(good).rc == OK
        assert parse(message([b"\0" + A[2:]], name=long)).rc == OK
        assert parse(message([b"\1x" + POINTER + A[2:]], name=long)).rc == MALFORMED

    @pytest.mark.parametrize("rdtype", [2, 3, 4, 5, 7, 8, 9, 12, 39])
    @pytest.mark.parametrize(
        "rdata", [b"", b"\xc0", b"\xc0\xff", b"\1a", b"\1a\0x", b"\x0c\xc0", POINTER + b"\0", b"\x41a\0"]
    )
    def test_one_name_rdata(self, rdtype: int, rdata: bytes) -> None:
        assert parse(message([record(POINTER, rdtype, rdata), A])).rc == MALFORMED

    @pytest.mark.parametrize(
        ("rdtype", "rdata"),
        [
            (6, SOA_RDATA[:-1]),
            (6, SOA_RDATA + b"\0"),
            (6, labels(b"a")),
            (6, b"\0\xc0"),
            (14, b"\0"),
            (15, b"\0"),
            (15, b"\0\1"),
            (15, b"\0\1\0\0"),
            (17, b"\0"),
            (18, b"\0\1\xc0\xff"),
            (21, b"\0\1"),
            (24, bytes(18)),
            (26, b"\0\1\0"),
            (30, b"\x3f"),
            (33, bytes(6)),
            (33, bytes(6) + b"\1a"),
            (33, bytes(8)),
            (35, bytes(4)),
            (35, bytes(6)),
            (35, bytes(7)),
            (35, b"\0\0\0\0\xff\0\0\0"),
            (35, bytes(9)),
            (36, b"\0\1\0\0"),
        ],
    )
    def test_rdata_that_does_not_add_up(self, rdtype: int, rdata: bytes) -> None:
        assert parse(message([record(POINTER, rdtype, rdata), A])).rc == MALFORMED

    @pytest.mark.parametrize("rdtype", [26, 33, 35, 36])
    def test_types_of_class_in_alone(self, rdtype: int) -> None:
        assert parse(message([record(POINTER, rdtype, b"\xc0", rdclass=3)])).rc == OK
        assert parse(message([record(POINTER, rdtype, b"\xc0", rdclass=1)])).rc == MALFORMED

    def test_rdlength_beyond_the_end(self) -> None:
        for extra in (1, 2, 255, 65000):
            msg = bytearray(message([A]))
            msg[-6:-4] = struct.pack("!H", 4 + extra)
            assert parse(bytes(msg)).rc == MALFORMED

    def test_over_65535_octets(self) -> None:
        assert parse(message([A]) + bytes(65536)).rc == MALFORMED

    def test_the_most_records_a_message_can_hold(self) -> None:
        smallest = b"\0\0\x10" + bytes(8)
        count = (65535 - 17) // 11
        msg = message([smallest] * count, name=b"\0")
        r = parse(msg)
        assert (r.rc, len(r.ttl_off), r.plain_len) == (OK, 5956, len(msg))

    @given(st.binary(max_size=200))
    def test_any_octets(self, tail: bytes) -> None:
        for msg in (tail, message() + tail, message([A])[:-14] + tail):
            check_invariants(msg)

    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        msg = bytearray(
            message(
                [record(POINTER, 5, b"\1x" + POINTER), record(b"\xc0\x2d", 15, b"\0\1\xc0\x2d")],
                [TestKinds.SOA],
                [record(b"\1y\xc0\x0c", 33, bytes(6) + labels(b"t")), opt(options=option(3, b"id"))],
            )
        )
        for _ in range(data.draw(st.integers(1, 5))):
            msg[data.draw(st.integers(0, len(msg) - 1))] = data.draw(st.integers(0, 255))
        check_invariants(bytes(msg))


def check_invariants(msg: bytes) -> None:
    """Whatever the octets: no good response that isn't one."""
    r = parse(msg)
    if r.rc != OK:
        return
    assert r.records_off <= r.records_end <= len(msg)
    assert len(r.ttl_off) == r.ancount + r.nscount + r.arcount
    last = r.records_off
    for ttl_off in r.ttl_off:
        assert last + 5 <= ttl_off <= r.records_end - 6
        last = ttl_off + 6
    body, found = walk(msg)
    assert body == r.records_off
    assert r.ttl_off == tuple(f.ttl_off for f in found if f.rdtype != 41)
    assert r.records_end == (found[-1].end if found else body)
    assert (r.plain_len >= r.records_end - r.opt_len) or not r.compressed
    for f in found:
        assert f.start < name_end(msg, f.start) <= f.ttl_off - 4


class TestMatches:
    def test_same(self) -> None:
        assert wire.matches(message([A], name=NAME.upper()), NAME, 1, 1)

    @pytest.mark.parametrize(
        ("name", "qtype", "qclass"),
        [
            (labels(b"wwx", b"example", b"com"), 1, 1),
            (NAME, 28, 1),
            (NAME, 1, 3),
            (labels(b"www"), 1, 1),
            (b"\0", 1, 1),
        ],
    )
    def test_another_question(self, name: bytes, qtype: int, qclass: int) -> None:
        assert not wire.matches(message([A]), name, qtype, qclass)

    def test_cut_off(self) -> None:
        msg = message()
        for n in range(len(msg)):
            assert not wire.matches(msg[:n], NAME, 1, 1)
        assert wire.matches(msg, NAME, 1, 1)

    def test_question_count(self) -> None:
        assert not wire.matches(header(flags=RESPONSE, qd=0) + question(NAME), NAME, 1, 1)

    @given(wire_names, st.integers(0, 65535), st.integers(0, 65535))
    def test_any_name(self, name: bytes, qtype: int, qclass: int) -> None:
        msg = header(flags=RESPONSE) + question(name, qtype, qclass)
        assert wire.matches(msg, name.lower(), qtype, qclass)
