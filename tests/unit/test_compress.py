# SPDX-License-Identifier: Apache-2.0
"""compress_records: the same records, smaller, without OPT."""

import io
import struct

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.renderer
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import wire
from tests.rdata_samples import samples
from tests.wiretools import as_response, header, labels, octets_of, opt, question, record, text_names, walk

NAME = labels(b"www", b"example", b"com")
QNAME = "www.example.com."
RESPONSE = 0x8180
SOA_RDATA = labels(b"ns") + labels(b"admin") + struct.pack("!5I", 1, 2, 3, 4, 60)


def uncompressed(message: dns.message.Message) -> bytes:
    """The message as CoreDNS has it over TCP: every name whole."""
    out = io.BytesIO()
    sections = (message.answer, message.authority, message.additional)
    counts = [sum(len(rrset) for rrset in section) for section in sections]
    out.write(header(message.id, RESPONSE, 1, *counts))
    [asked] = message.question
    out.write(octets_of(asked.name) + struct.pack("!HH", asked.rdtype, asked.rdclass))
    for section in sections:
        for rrset in section:
            for rdata in rrset:
                octets = octets_of(rdata)
                out.write(
                    octets_of(rrset.name)
                    + struct.pack("!HHIH", rrset.rdtype, rrset.rdclass, rrset.ttl, len(octets))
                )
                out.write(octets)
    return out.getvalue()


def rewritten(msg: bytes) -> bytes:
    """The message with its records compressed by us, OPT gone."""
    parsed = wire.parse_answer(msg)
    records, offsets = wire.compress(msg)
    counts = struct.pack("!3H", parsed.ancount, parsed.nscount, parsed.arcount)
    out = msg[:6] + counts + msg[12 : parsed.records_off] + records
    again = wire.parse_answer(out)
    assert again.rc == 0
    assert [parsed.records_off + off for off in offsets] == list(again.ttl_off)
    assert (again.plain_len, again.min_ttl) == (parsed.plain_len, parsed.min_ttl)
    assert again.kind == parsed.kind or parsed.rcode > 15  # an extended rcode goes with the OPT
    return out


def records_of(msg: bytes) -> list[tuple[int, str, int, int, int, str]]:
    """Each record with its names spelled out in their own case, in order."""
    message = dns.message.from_wire(msg, one_rr_per_rrset=True)
    return [
        (number, str(rrset.name), rrset.ttl, rrset.rdclass, rrset.rdtype, str(rrset[0]))
        for number, section in enumerate((message.answer, message.authority, message.additional))
        for rrset in section
    ]


class TestRoundTrip:
    @pytest.mark.parametrize(("rdtype", "text"), samples())
    def test_every_type(self, rdtype: str, text: str) -> None:
        asked = dns.message.make_query(QNAME, rdtype)
        line = f"{QNAME} 77 IN {rdtype} {text}"
        response = as_response(asked, line, additional=(f"x.{line}", f"y.{line}"))
        for msg in (uncompressed(response), response.to_wire()):
            out = rewritten(msg)
            assert records_of(out) == records_of(msg)
            assert len(out) <= len(msg)

    @pytest.mark.parametrize(("rdtype", "text"), samples())
    def test_rdata_of_types_that_must_not_be_compressed_stays_whole(self, rdtype: str, text: str) -> None:
        asked = dns.message.make_query("example.com.", rdtype)
        response = as_response(asked, f"example.com. 77 IN {rdtype} {text}")
        out = rewritten(uncompressed(response))
        [found] = walk(out)[1]
        may = {"NS", "CNAME", "PTR", "MX", "SOA"}
        if rdtype not in may:
            assert out[found.ttl_off + 6 : found.end] == octets_of(response.answer[0][0])
        elif "example.com." in text:
            assert found.end - found.ttl_off - 6 < len(octets_of(response.answer[0][0]))

    @given(st.data(), text_names)
    def test_random_messages(self, data: st.DataObject, name: dns.name.Name) -> None:
        owners = [*data.draw(st.lists(text_names, min_size=1, max_size=4)), name]
        owners += [dns.name.Name((b"sub", *owner.labels)) for owner in owners]

        def lines() -> tuple[str, ...]:
            out = []
            for rdtype, text in data.draw(st.lists(st.sampled_from(samples()), max_size=5)):
                target = data.draw(st.sampled_from(owners))
                rdata = text.replace("example.com.", str(target))
                out.append(f"{data.draw(st.sampled_from(owners))} 9 IN {rdtype} {rdata}")
            return tuple(out)

        asked = dns.message.make_query(name, "A")
        response = as_response(asked, *lines(), authority=lines(), additional=lines())
        for msg in (uncompressed(response), response.to_wire()):
            out = rewritten(msg)
            theirs, ours = records_of(msg), records_of(out)
            # Letter case may change only to that of the question.
            assert [str(r).lower() for r in theirs] == [str(r).lower() for r in ours]
        assert len(out) <= len(uncompressed(response))

    def test_as_small_as_dnspython_makes_it(self) -> None:
        asked = dns.message.make_query("_http._tcp.web.default.svc.cluster.local.", "SRV")
        pods = [f"10-0-0-{i}.web.default.svc.cluster.local." for i in range(50)]
        response = as_response(
            asked,
            "\n".join(f"_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 2 80 {pod}" for pod in pods),
            additional=tuple(f"{pod} 5 IN A 10.0.0.{i}" for i, pod in enumerate(pods)),
        )
        out = rewritten(uncompressed(response))
        assert len(out) <= len(response.to_wire())


class TestCase:
    def test_owner_case_is_kept(self) -> None:
        other = labels(b"MAIL", b"Other", b"org")
        msg = header(flags=RESPONSE, an=3) + question(NAME)
        msg += record(other, 1, b"abcd") + record(other.lower(), 1, b"abcd") + record(other, 1, b"efgh")
        out = rewritten(msg)
        assert [r[1] for r in records_of(out)] == ["MAIL.Other.org.", "mail.other.org.", "MAIL.Other.org."]

    def test_against_the_question_case_does_not_matter(self) -> None:
        msg = (
            header(flags=RESPONSE, an=1)
            + question(labels(b"wWw", b"eXample", b"com"))
            + record(NAME, 1, b"abcd")
        )
        out = rewritten(msg)
        assert out.endswith(record(b"\xc0\x0c", 1, b"abcd"))


class TestOpt:
    @pytest.mark.parametrize("place", range(4))
    def test_is_left_out(self, place: int) -> None:
        additional = [record(NAME, 1, b"abc%d" % i) for i in range(3)]
        additional.insert(place, opt(options=b"\0\x0a\0\2ab"))
        msg = (
            header(flags=RESPONSE, an=1, ar=4)
            + question(NAME)
            + record(NAME, 5, b"\1x" + NAME)
            + b"".join(additional)
        )
        expected = [record(b"\xc0\x0c", 5, b"\1x\xc0\x0c")] + [
            record(b"\xc0\x0c", 1, b"abc%d" % i) for i in range(3)
        ]
        assert wire.compress(msg)[0] == b"".join(expected)

    def test_alone(self) -> None:
        msg = header(flags=RESPONSE, ar=1) + question(NAME) + opt()
        assert wire.compress(msg) == (b"", [])


class TestLimits:
    def test_headless_service_of_2000_addresses(self) -> None:
        addresses = [record(NAME, 1, struct.pack("!I", 0x0A000000 + i), ttl=5) for i in range(2000)]
        msg = header(flags=RESPONSE, an=2000) + question(NAME) + b"".join(addresses)
        assert len(msg) < 65536
        records, offsets = wire.compress(msg)
        assert len(records) == 2000 * 16
        assert offsets == [6 + 16 * i for i in range(2000)]

    def test_pointers_reach_16383_and_no_further(self) -> None:
        # A TXT pushes the first copy of a name to each side of the border.
        target = labels(b"some", b"where")
        for start in range(16384 - 12, 16384 + 3):
            padding = start - 10 - (12 + len(NAME) + 4 + 12)
            txt = record(b"\xc0\x0c", 16, bytes(padding + 10))
            msg = header(flags=RESPONSE, an=3) + question(NAME) + txt
            first = len(msg)
            msg += record(target, 1, b"abcd") + record(target, 1, b"efgh")
            out = rewritten(msg)
            assert records_of(out) == records_of(msg)
            second = walk(out)[1][2]
            label = out[second.start]
            if first < 16384:
                assert label == 0xC0 | first >> 8
            elif first + 5 < 16384:
                assert out[second.start : second.start + 5] == b"\4some"
            else:
                assert out[second.start : second.ttl_off - 4] == target

    def test_what_grows_beyond_a_message_is_refused(self) -> None:
        # SRV targets that came compressed are written whole.
        long = labels(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 60)
        srv = record(b"\xc0\x0c", 33, bytes(6) + b"\xc0\x0c")
        for count, fits in ((239, True), (240, False)):
            msg = header(flags=RESPONSE, an=count) + question(long, 33) + srv * count
            records, _ = wire.compress(msg)
            assert bool(records) == fits
            assert len(records) == (count * (2 + 10 + 6 + len(long)) if fits else 0)

    def test_exactly_65535(self) -> None:
        base = header(flags=RESPONSE, an=2) + question(NAME) + record(b"\xc0\x0c", 33, bytes(6) + b"\xc0\x0c")
        grown = len(NAME) - 2
        for octets, fits in ((65535, True), (65536, False)):
            rest = octets - len(base) - grown - 12
            msg = base + record(b"\xc0\x0c", 16, bytes(rest))
            records, _ = wire.compress(msg)
            assert bool(records) == fits
            assert not fits or 12 + len(NAME) + 4 + len(records) == octets

    def test_more_names_than_are_remembered(self) -> None:
        owners = [labels(b"%x" % i, b"%x" % (i * 7919)) for i in range(2300)]
        msg = (
            header(flags=RESPONSE, an=2300) + question(NAME) + b"".join(record(o, 1, b"abcd") for o in owners)
        )
        out = rewritten(msg)
        assert records_of(out) == records_of(msg)

    def test_names_of_many_labels(self) -> None:
        deep = b"".join(b"\1%c" % (97 + i % 26) for i in range(127)) + b"\0"
        shifted = [b"\1%c" % (128 + i) + deep[2:] for i in range(26)]
        msg = header(flags=RESPONSE, an=26) + question(deep, 2)
        msg += b"".join(record(deep, 2, name) for name in shifted)
        out = rewritten(msg)
        assert records_of(out) == records_of(msg)
        assert len(out) == 12 + 255 + 4 + 26 * (2 + 10 + 4)

    def test_names_made_to_cost_much(self) -> None:
        # Nearly equal names of 127 labels: the budget ends the search, not the answer.
        tail = b"\1a" * 120 + b"\0"
        names = [
            b"\1a" * 4 + b"\1%c\1%c" % (128 + i % 26, 128 + i // 26) + tail[:-3] + b"\0" for i in range(200)
        ]
        msg = header(flags=RESPONSE, an=200) + question(tail) + b"".join(record(n, 2, n) for n in names[:120])
        msg = msg[:6] + struct.pack("!H", 120) + msg[8:]
        out = rewritten(msg)
        assert records_of(out) == records_of(msg)

    def test_root_names(self) -> None:
        msg = header(flags=RESPONSE, an=2) + question(b"\0", 2)
        msg += record(b"\0", 2, b"\0") + record(b"\0", 6, b"\0\0" + bytes(20))
        assert wire.compress(msg)[0] == msg[17:]


class TestHostile:
    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        msg = bytearray(
            header(flags=RESPONSE, an=2, ns=1, ar=3)
            + question(NAME)
            + record(b"\xc0\x0c", 5, b"\1x\xc0\x10")
            + record(b"\xc0\x2d", 15, b"\0\1\xc0\x2d")
            + record(b"\xc0\x10", 6, SOA_RDATA)
            + record(b"\1y\xc0\x0c", 33, bytes(6) + b"\xc0\x0c")
            + opt()
            + record(b"\xc0\x2d", 35, b"\0\1\0\2\1u\1v\1w\xc0\x2d")
        )
        for _ in range(data.draw(st.integers(1, 5))):
            msg[data.draw(st.integers(12, len(msg) - 1))] = data.draw(st.integers(0, 255))
        if wire.parse_answer(bytes(msg)).rc == 0:
            rewritten(bytes(msg))
