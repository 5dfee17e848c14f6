# SPDX-License-Identifier: Apache-2.0
"""The demo's authoritative server: positive, negative, aliases, truncation, hostile bytes."""

from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import hypothesis
import hypothesis.strategies as st
import pytest

from fastdns.demo.upstream import Zones

ZONES = Zones.load()


def ask(name: str, rdtype: str = "A", limit: int | None = None, edns: int = -1) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, use_edns=edns)
    wire = ZONES.answer(query.to_wire(), limit)
    assert wire is not None
    reply = dns.message.from_wire(wire)
    assert query.is_response(reply)
    return reply


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "answers"),
    [
        ("nginx-svc.default.svc.cluster.local", "A", "NOERROR", ["10.43.12.34"]),
        ("NGINX-svc.default.svc.cluster.LOCAL", "AAAA", "NOERROR", ["fd00:43::c22"]),
        ("nginx-svc.default.svc.cluster.local", "TXT", "NOERROR", []),
        ("default.svc.cluster.local", "A", "NOERROR", []),  # an empty name between others
        ("nothing.default.svc.cluster.local", "A", "NXDOMAIN", []),
        ("web.default.svc.cluster.local", "A", "NOERROR", ["10.42.0.11", "10.42.1.12", "10.42.2.13"]),
        ("db.default.svc.cluster.local", "A", "NOERROR", ["db.example.", "192.0.2.54"]),
        ("web.example", "CNAME", "NOERROR", ["www"]),
        ("svc-999.load.svc.cluster.local", "A", "NOERROR", ["10.43.103.249"]),
        ("svc-1000.load.svc.cluster.local", "A", "NXDOMAIN", []),
        ("34.12.43.10.in-addr.arpa", "PTR", "NOERROR", ["nginx-svc.default.svc.cluster.local."]),
        ("elsewhere.test", "A", "REFUSED", []),
        ("example", "AXFR", "REFUSED", []),
    ],
)
def test_answers(name: str, rdtype: str, rcode: str, answers: list[str]) -> None:
    reply = ask(name, rdtype)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    found = sorted(rdata.to_text() for rrset in reply.answer for rdata in rrset)
    expected = sorted(answer + ".example." if answer == "www" else answer for answer in answers)
    assert found == expected
    if rcode != "REFUSED":
        assert reply.flags & dns.flags.AA
        assert [rrset.rdtype for rrset in reply.authority] == ([] if answers else [dns.rdatatype.SOA])


def test_the_ttl_of_a_negative_answer_is_at_most_minimum() -> None:
    (soa,) = ask("nothing.example").authority  # TTL 300, MINIMUM 60; RFC 2308 s3
    assert soa.ttl == 60


def test_truncation(tmp_path: Path) -> None:
    zone = tmp_path / "large.zone"
    addresses = "".join(f"many IN A 192.0.2.{number}\n" for number in range(100))
    zone.write_text(
        f"$ORIGIN large.\n$TTL 5\n@ IN SOA ns h 1 1 1 1 1\n@ IN NS ns\nns IN A 192.0.2.1\n{addresses}"
    )
    zones = Zones.load([zone])
    plain = dns.message.make_query("many.large", "A").to_wire()
    over_udp = dns.message.from_wire(zones.answer(plain, 512) or b"")
    assert over_udp.flags & dns.flags.TC
    assert over_udp.answer == []
    over_tcp = dns.message.from_wire(zones.answer(plain, None) or b"")
    assert not over_tcp.flags & dns.flags.TC
    assert len(over_tcp.answer[0]) == 100
    larger = dns.message.make_query("many.large", "A", use_edns=0, payload=4096).to_wire()
    assert len(dns.message.from_wire(zones.answer(larger, 512) or b"").answer[0]) == 100


def test_an_alias_loop_ends(tmp_path: Path) -> None:
    zone = tmp_path / "loop.zone"
    head = "$ORIGIN loop.\n$TTL 5\n@ IN SOA ns h 1 1 1 1 1\n@ IN NS ns\nns IN A 192.0.2.1\n"
    zone.write_text(head + "a IN CNAME b\nb IN CNAME a\n")
    wire = Zones.load([zone]).answer(dns.message.make_query("a.loop", "A").to_wire(), None)
    assert dns.message.from_wire(wire or b"").rcode() == dns.rcode.SERVFAIL


@hypothesis.given(st.binary(max_size=80))
def test_hostile_bytes(wire: bytes) -> None:
    reply = ZONES.answer(wire, 512)
    if reply is not None:
        assert reply[:2] == wire[:2]
        assert reply[2] & 0x80
    else:
        assert len(wire) < 12 or wire[2] & 0x80
