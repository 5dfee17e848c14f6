# SPDX-License-Identifier: Apache-2.0
"""compose_reply and compose_error: flags, TTLs, OPT, truncation."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import wire
from tests.wiretools import (
    Stored,
    as_response,
    header,
    labels,
    octets_of,
    opt,
    question,
    record,
    stored,
    text_names,
    walk,
)

AA, TC, RD, RA, AD, CD, QR = 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010, 0x8000
NXDOMAIN_ENTRY, FAILURE_ENTRY = 3, 4
NO_EDE = 0xFFFF
NAME = labels(b"www", b"example", b"com")
POINTER = b"\xc0\x0c"
A_RECORD = record(POINTER, 1, b"\x01\x02\x03\x04", ttl=30)


def entry(of: Stored, **fields: int) -> wire.Entry:
    return wire.Entry(of.records, of.ttl_off, of.counts, **fields)


def one_a(**fields: int) -> wire.Entry:
    return wire.Entry(A_RECORD, [6], (1, 0, 0), **{"ttl_s": 30, **fields})


def query(flags: int = RD, edns: bytes = b"", name: bytes = NAME, qtype: int = 1) -> bytes:
    return header(flags=flags, ar=1 if edns else 0) + question(name, qtype) + edns


def flags_of(reply: bytes) -> int:
    return int.from_bytes(reply[2:4], "big")


class TestHeader:
    def test_the_whole_reply(self) -> None:
        packet = query(name=labels(b"wWw", b"eXample", b"Com"))
        reply = wire.compose(one_a(msg_flags=AA), packet, 512, 4999)
        expected = (
            header(flags=QR | AA | RD | RA, an=1)
            + packet[12:]
            + record(POINTER, 1, b"\x01\x02\x03\x04", ttl=26)
        )
        assert reply == expected

    @pytest.mark.parametrize("edns", [b"", opt(), opt(flags=0x8000)])
    @pytest.mark.parametrize(
        "query_flags", [rd | ad | cd for rd in (0, RD) for ad in (0, AD) for cd in (0, CD)]
    )
    @pytest.mark.parametrize(
        "entry_flags", [aa | ad | ra for aa in (0, AA) for ad in (0, AD) for ra in (0, RA)]
    )
    def test_flags(self, entry_flags: int, query_flags: int, edns: bytes) -> None:
        reply = flags_of(wire.compose(one_a(msg_flags=entry_flags), query(query_flags, edns), 512))
        assert reply & (RD | CD) == query_flags & (RD | CD)
        assert reply & (QR | RA) == QR | RA
        assert reply & AA == entry_flags & AA
        wants_ad = bool(query_flags & AD) or edns == opt(flags=0x8000)
        assert bool(reply & AD) == (bool(entry_flags & AD) and wants_ad)
        assert reply & (TC | 0x7840 | 0xF) == 0

    @pytest.mark.parametrize("rcode", range(16))
    def test_rcode(self, rcode: int) -> None:
        assert flags_of(wire.compose(one_a(msg_flags=rcode), query(), 512)) & 0xF == rcode

    def test_extended_rcode(self) -> None:
        badcookie = one_a(msg_flags=7, ext_rcode=1)
        assert dns.message.from_wire(wire.compose(badcookie, query(edns=opt()), 512)).rcode() == 23
        assert dns.message.from_wire(wire.compose(badcookie, query(), 512)).rcode() == dns.rcode.SERVFAIL

    def test_tc_of_the_entry_is_passed_on(self) -> None:
        assert flags_of(wire.compose(one_a(msg_flags=TC), query(), 512)) & TC

    def test_without_records(self) -> None:
        empty = wire.Entry(b"", [], (0, 0, 0))
        assert wire.compose(empty, query(), 512) == header(flags=QR | RD | RA) + question(NAME)


class TestOpt:
    def test_in_and_out(self) -> None:
        reply = wire.compose(one_a(), query(edns=opt(4096)), 4096)
        assert reply.endswith(opt(1232))
        assert dns.message.from_wire(reply).payload == 1232

    def test_none_in_none_out(self) -> None:
        assert dns.message.from_wire(wire.compose(one_a(), query(), 512)).edns == -1

    def test_do_is_copied_and_options_are_not(self) -> None:
        sent = opt(1232, 0x8000, b"\0\x0a\0\x08abcdefgh")
        reply = dns.message.from_wire(wire.compose(one_a(), query(edns=sent), 1232))
        assert reply.ednsflags == dns.flags.DO
        assert not reply.options

    def test_arcount(self) -> None:
        with_glue = wire.Entry(A_RECORD * 2, [6, 22], (1, 0, 1))
        assert wire.compose(with_glue, query(), 512)[10:12] == b"\0\1"
        assert wire.compose(with_glue, query(edns=opt()), 512)[10:12] == b"\0\2"


class TestTtl:
    @pytest.mark.parametrize(
        ("age_ms", "ttl"),
        [(0, 30), (1, 30), (999, 30), (1000, 29), (1999, 29), (2000, 28), (29_000, 1), (29_999, 1)],
    )
    def test_less_whole_seconds_of_age(self, age_ms: int, ttl: int) -> None:
        base = 1 << 40
        reply = wire.compose(one_a(stored_ms=base), query(), 512, base + age_ms)
        assert walk(reply)[1][0].ttl == ttl

    def test_a_clock_that_is_behind(self) -> None:
        reply = wire.compose(one_a(stored_ms=10_000), query(), 512, 9_000)
        assert walk(reply)[1][0].ttl == 30

    def test_each_record_has_its_own_and_none_goes_below_0(self) -> None:
        records = [record(POINTER, 1, b"abcd", ttl=ttl) for ttl in (0, 1, 10, 11, 3600, 0x7FFFFFFF)]
        several = wire.Entry(b"".join(records), [6 + 16 * i for i in range(6)], (2, 2, 2), ttl_s=60)
        ttls = [r.ttl for r in walk(wire.compose(several, query(), 512, 10_500))[1]]
        assert ttls == [0, 0, 0, 1, 3590, 0x7FFFFFFF - 10]

    @pytest.mark.parametrize("age_ms", [30_000, 31_000, 3_600_000, 1 << 45])
    @pytest.mark.parametrize("stale_ttl_s", [0, 1, 30, 65_535])
    def test_stale(self, age_ms: int, stale_ttl_s: int) -> None:
        reply = wire.compose(one_a(stale_ttl_s=stale_ttl_s), query(edns=opt()), 512, age_ms)
        assert walk(reply)[1][0].ttl == stale_ttl_s
        [ede] = dns.message.from_wire(reply).options
        assert isinstance(ede, dns.edns.EDEOption)
        assert (ede.code, ede.text) == (3, None)

    @given(
        ttl_s=st.integers(1, 100),
        age_ms=st.integers(0, 200_000),
        kind=st.sampled_from([1, 2, NXDOMAIN_ENTRY]),
    )
    def test_every_record_has_the_stale_ttl_and_the_code_or_none(
        self, ttl_s: int, age_ms: int, kind: int
    ) -> None:
        """RFC 8767 s4, RFC 8914 s4.4, s4.20: TTL and code belong together, on all records."""
        records = [record(POINTER, 1, b"abcd", ttl=ttl_s + i) for i in range(3)]
        entry = wire.Entry(b"".join(records), [6, 22, 38], (1, 1, 1), ttl_s=ttl_s, kind=kind, stale_ttl_s=77)
        reply = wire.compose(entry, query(edns=opt()), 512, age_ms)
        codes = [o.code for o in dns.message.from_wire(reply).options if isinstance(o, dns.edns.EDEOption)]
        ttls = [r.ttl for r in walk(reply)[1] if r.rdtype == 1]
        if age_ms >= ttl_s * 1000:
            assert ttls == [77] * 3
            assert codes == [19 if kind == NXDOMAIN_ENTRY else 3]
        else:
            assert ttls == [ttl_s + i - age_ms // 1000 for i in range(3)]
            assert codes == []

    def test_stale_without_opt_says_nothing(self) -> None:
        reply = wire.compose(one_a(), query(), 512, 40_000)
        assert reply == header(flags=QR | RD | RA, an=1) + question(NAME) + A_RECORD

    def test_stale_nxdomain_has_a_code_of_its_own(self) -> None:
        reply = dns.message.from_wire(
            wire.compose(one_a(kind=NXDOMAIN_ENTRY, msg_flags=3), query(edns=opt()), 512, 40_000)
        )
        assert [o.code for o in reply.options if isinstance(o, dns.edns.EDEOption)] == [19]

    @pytest.mark.parametrize(("mark", "codes"), [(7 << 48 | 22, [22]), (7 << 48 | NO_EDE, []), (0, [])])
    def test_a_failure_of_silence_says_so_while_it_is_kept(self, mark: int, codes: list[int]) -> None:
        failure = wire.Entry(b"", [], (0, 0, 0), kind=FAILURE_ENTRY, msg_flags=2, ttl_s=5, stale_mark=mark)
        reply = dns.message.from_wire(wire.compose(failure, query(edns=opt()), 512, 4_000))
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert [o.code for o in reply.options if isinstance(o, dns.edns.EDEOption)] == codes

    def test_lifetime_0_handed_on_is_not_stale(self) -> None:
        zero = wire.Entry(record(POINTER, 1, b"abcd", ttl=0), [6], (1, 0, 0), ttl_s=0)
        reply = dns.message.from_wire(wire.compose(zero, query(edns=opt()), 512, 999))
        assert (reply.answer[0].ttl, reply.options) == (0, ())
        assert dns.message.from_wire(wire.compose(zero, query(edns=opt()), 512, 1000)).options

    def test_offsets_of_a_damaged_entry_stay_within_it(self) -> None:
        damaged = wire.Entry(A_RECORD, [13, 65535, 0], (1, 1, 1))
        assert len(wire.compose(damaged, query(), 512, 5000)) == 12 + len(question(NAME)) + 16


def many(count: int, qtype: str = "A") -> dns.message.Message:
    asked = dns.message.make_query("svc.cluster.local.", qtype)
    return as_response(
        asked, "\n".join(f"svc.cluster.local. 30 IN A 10.0.{i >> 8}.{i & 255}" for i in range(count))
    )


def check_fits(reply: bytes, full: dns.message.Message, limit: int) -> dns.message.Message:
    """A reply parses, keeps its limit, and holds a prefix of what was stored, in order."""
    assert len(reply) <= max(limit, 512)
    parsed = dns.message.from_wire(reply)
    _, got = walk(reply)
    whole = full.to_wire()
    _, want = walk(whole)
    got = [r for r in got if r.rdtype != 41]
    want = [r for r in want if r.rdtype != 41]
    assert [(r.section, r.rdtype) for r in got] == [(r.section, r.rdtype) for r in want[: len(got)]]
    required = sum(r.section < 3 for r in want)
    assert bool(parsed.flags & dns.flags.TC) == (len(got) < required)
    return parsed


class TestTruncation:
    def test_at_every_limit(self) -> None:
        full = many(60)
        kept = entry(stored(full.to_wire()))
        last = 0
        for edns in (b"", opt()):
            for limit in range(512, 1100):
                packet = query(name=labels(b"svc", b"cluster", b"local"), edns=edns)
                reply = wire.compose(kept, packet, limit)
                parsed = check_fits(reply, full, limit)
                records = len(walk(reply)[1]) - bool(edns)
                # As many as can be: another of 16 octets would not have fitted.
                assert records == min(60, (limit - 35 - (11 if edns else 0)) // 16)
                assert bool(parsed.flags & dns.flags.TC) == (records < 60)
                last = max(last, records)
        assert last == 60

    def test_a_limit_below_512_counts_as_512(self) -> None:
        kept = entry(stored(many(60).to_wire()))
        packet = query(name=labels(b"svc", b"cluster", b"local"))
        assert wire.compose(kept, packet, 100) == wire.compose(kept, packet, 512)

    def test_opt_with_ede_always_fits(self) -> None:
        full = many(200)
        kept = entry(stored(full.to_wire()), ttl_s=10)
        for limit in range(512, 700):
            reply = wire.compose(
                kept, query(name=labels(b"svc", b"cluster", b"local"), edns=opt()), limit, 20_000
            )
            parsed = check_fits(reply, full, limit)
            assert len(parsed.options) == 1

    def test_additional_alone_is_no_truncation(self) -> None:
        asked = dns.message.make_query("svc.cluster.local.", "SRV")
        full = as_response(
            asked,
            "\n".join(f"svc.cluster.local. 30 IN SRV 0 1 80 p{i}.cluster.local." for i in range(14)),
            additional=tuple(f"p{i}.cluster.local. 30 IN A 10.0.0.{i}" for i in range(14)),
        )
        kept = entry(stored(full.to_wire()))
        whole = len(full.to_wire())
        seen = set()
        for limit in range(512, whole + 1):
            reply = wire.compose(kept, query(name=labels(b"svc", b"cluster", b"local"), qtype=33), limit)
            parsed = check_fits(reply, full, limit)
            assert not parsed.flags & dns.flags.TC or sum(len(r) for r in parsed.answer) < 14
            seen.add(len(parsed.additional))
        assert seen >= set(range(1, 15))

    def test_additional_keeps_whole_rrsets(self) -> None:
        # The owner is written once, the rest point at it; type and class tell sets apart.
        addresses = "\n".join(f"ns.example.com. 30 IN A 10.0.0.{i}" for i in range(10))
        addresses6 = "\n".join(f"ns.example.com. 30 IN AAAA 2001:db8::{i}" for i in range(10))
        other = "\n".join(f"NS2.example.com. 30 IN AAAA 2001:db8::{i}" for i in range(10))
        asked = dns.message.make_query("www.example.com.", "MX")
        full = as_response(
            asked, "www.example.com. 30 IN MX 1 ns.example.com.", additional=(addresses, addresses6, other)
        )
        kept = entry(stored(full.to_wire()))
        seen = set()
        for limit in range(512, len(full.to_wire()) + 1):
            parsed = check_fits(wire.compose(kept, query(qtype=15), limit), full, limit)
            assert not parsed.flags & dns.flags.TC
            assert all(len(rrset) == 10 for rrset in parsed.additional)
            seen.add(len(parsed.additional))
        assert seen == {2, 3} or seen == {1, 2, 3}

    def test_authority_keeps_whole_rrsets_and_says_so(self) -> None:
        asked = dns.message.make_query("www.example.com.", "TXT")
        name_servers = "\n".join(f"example.com. 30 IN NS ns{i}.example.com." for i in range(20))
        full = as_response(
            asked,
            f'www.example.com. 30 IN TXT "{"x" * 250}"',
            authority=(name_servers, "example.com. 30 IN DS 1 8 2 " + "00" * 32),
        )
        kept = entry(stored(full.to_wire()))
        seen = set()
        for limit in range(512, len(full.to_wire()) + 1):
            parsed = check_fits(wire.compose(kept, query(qtype=16), limit), full, limit)
            assert all(len(rrset) in (1, 20) for rrset in parsed.authority)
            assert bool(parsed.flags & dns.flags.TC) == (len(parsed.authority) < 2)
            seen.add(len(parsed.authority))
        assert seen == {0, 1, 2}

    def test_a_section_does_not_lose_records_to_the_next(self) -> None:
        # The same RRset in authority and additional: only the additional section's copy may go.
        records = record(POINTER, 1, b"abcd") * 60
        both = wire.Entry(records, [6 + 16 * i for i in range(60)], (0, 20, 40))
        reply = wire.compose(both, query(), 512)
        assert reply[6:12] == b"\0\0\0\x14\0\0"
        assert not flags_of(reply) & TC

    @pytest.mark.parametrize(
        "offsets", [[0] * 60, [3] * 60, [6] * 60, [65535] * 60, [6, 0, *range(38, 2000, 16)][:60]]
    )
    def test_offsets_that_do_not_grow_end_the_reply(self, offsets: list[int]) -> None:
        damaged = wire.Entry(record(POINTER, 1, b"abcd") * 60, offsets, (30, 15, 15))
        reply = wire.compose(damaged, query(), 512)
        assert flags_of(reply) & TC
        assert len(walk(reply)[1]) == (1 if offsets[0] == 6 else 0)

    @pytest.mark.parametrize("available", range(0, 960, 7))
    def test_no_more_is_read_than_was_copied(self, available: int) -> None:
        full = many(60)
        of = stored(full.to_wire())
        kept = entry(of, records_avail=available)
        reply = wire.compose(kept, query(name=labels(b"svc", b"cluster", b"local")), 4096)
        check_fits(reply, full, 4096)
        assert len(walk(reply)[1]) == available // 16
        fewer = entry(of, ttl_avail=available // 20)
        assert (
            len(walk(wire.compose(fewer, query(name=labels(b"svc", b"cluster", b"local")), 4096))[1])
            == available // 20
        )

    def test_64_kib_over_tcp(self) -> None:
        records = record(POINTER, 1, b"abcd") * 4090  # 65440 octets
        big = wire.Entry(records, [6 + 16 * i for i in range(4090)], (4090, 0, 0))
        packet = query(edns=opt())
        reply = wire.compose(big, packet, 65535)
        assert len(reply) == len(packet) + len(records)
        biggest = wire.Entry(records + A_RECORD * 5, [6 + 16 * i for i in range(4095)], (4095, 0, 0))
        reply = wire.compose(biggest, packet, 65535)
        assert flags_of(reply) & TC
        assert len(reply) == len(packet) + len(records) + 3 * 16

    @given(st.data(), text_names)
    def test_random_answers(self, data: st.DataObject, name: dns.name.Name) -> None:
        owners = data.draw(st.lists(text_names, min_size=1, max_size=4))
        pick = st.sampled_from(owners)

        def lines(owner_choice: st.SearchStrategy[dns.name.Name]) -> tuple[str, ...]:
            out = []
            for _ in range(data.draw(st.integers(0, 4))):
                owner = data.draw(owner_choice)
                n = data.draw(st.integers(1, 12))
                kind = data.draw(st.sampled_from(["A 10.0.0.{}", "AAAA 2001:db8::{}", "NS n{}.", "TXT {}"]))
                out.append("\n".join(f"{owner} 60 IN {kind.format(i)}" for i in range(n)))
            return tuple(out)

        asked = dns.message.make_query(name, "A")
        full = as_response(asked, *lines(st.just(name)), authority=lines(pick), additional=lines(pick))
        kept = entry(stored(full.to_wire()), ttl_s=60)
        limit = data.draw(st.integers(512, 2000))
        edns = data.draw(st.sampled_from([b"", opt(), opt(flags=0x8000)]))
        now = data.draw(st.integers(0, 100_000))
        reply = wire.compose(kept, query(edns=edns, name=octets_of(name)), limit, now)
        parsed = check_fits(reply, full, limit)
        assert (parsed.edns == 0) == bool(edns)
        if len(full.to_wire()) + 17 <= limit:
            assert len(walk(reply)[1]) - bool(edns) == len(walk(full.to_wire())[1])


class TestError:
    @pytest.mark.parametrize("rcode", [1, 2, 4, 5])
    def test_question_is_echoed(self, rcode: int) -> None:
        packet = query(RD | CD | AD, name=labels(b"wWw"))
        reply = wire.error(packet, rcode)
        assert reply == header(flags=QR | RD | RA | CD | rcode) + question(labels(b"wWw"))

    def test_bare_header(self) -> None:
        assert wire.error(header(qd=7) + b"junk", 1) == header(flags=QR | RD | RA | 1, qd=0)

    def test_opcode_is_kept_and_nothing_else(self) -> None:
        assert wire.error(header(flags=0x2130), 4) == header(flags=QR | 0x2000 | 4, qd=0)

    def test_badvers(self) -> None:
        packet = query(edns=opt(4096, flags=0x8000, version=1))
        reply = wire.error(packet, 16)
        parsed = dns.message.from_wire(reply)
        assert parsed.rcode() == dns.rcode.BADVERS
        assert (parsed.edns, parsed.ednsflags & dns.flags.DO, parsed.payload) == (0, 0, 1232)
        assert reply == header(flags=QR | RD | RA, ar=1) + question(NAME) + opt(1232, ext_rcode=1)

    @pytest.mark.parametrize("ede", [0, 14, 22, 23, 65534])
    def test_ede(self, ede: int) -> None:
        parsed = dns.message.from_wire(wire.error(query(edns=opt(flags=0x8000)), 2, ede))
        assert parsed.ednsflags == dns.flags.DO
        assert [o.code for o in parsed.options if isinstance(o, dns.edns.EDEOption)] == [ede]

    def test_ede_needs_an_opt(self) -> None:
        assert wire.error(query(), 2, 22) == wire.error(query(), 2, NO_EDE)

    def test_extended_rcode_without_opt(self) -> None:
        assert dns.message.from_wire(wire.error(query(), 23)).rcode() == dns.rcode.SERVFAIL

    @given(st.binary(min_size=12, max_size=100))
    def test_any_octets(self, packet: bytes) -> None:
        q = wire.parse(packet)
        reply = wire.error(packet, q.rc if q.rc > 0 else 2, 22)
        parsed = dns.message.from_wire(reply)
        assert parsed.rcode() == (q.rc if q.rc > 0 else 2)
        assert len(parsed.question) == (1 if q.qname_len else 0)
        assert reply[:2] == packet[:2]
