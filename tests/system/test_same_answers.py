# SPDX-License-Identifier: Apache-2.0
"""fastdns says what its upstream says, for all of a zone's names, whichever way they are asked.

Every question goes to the upstream and twice to fastdns, so that the second answer comes out of the cache;
answers are compared record by record (clients.assert_same).
"""

import ipaddress
import secrets
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

from tests.counts import count
from tests.peers import make_zone
from tests.peers.run import Peer
from tests.system.clients import (
    TCP,
    UDP,
    Client,
    Variant,
    assert_same,
    assert_truncated_part,
    clients,
    mixed_case,
)
from tests.system.server import Server, serve

# CoreDNS doesn't compress over TCP, so that this one has no room in 64 KiB: it sends 958 of the 1,000 and TC.
TOO_LARGE = ("_http._tcp.headless-1000.data.svc.cluster.local", "SRV")
ASKED_FOR_EACH_NAME = ("A", "AAAA")
VARIANTS = (
    TCP,
    Variant(edns=512),
    Variant(edns=1232),
    Variant(edns=4096),
    Variant(edns=1232, dnssec_ok=True),
    Variant(edns=1232, checking_disabled=True),
    Variant(edns=1232, authentic=True),
    Variant(tcp=True, edns=1232, dnssec_ok=True),
)


def all_questions(zones: Iterable[str]) -> list[tuple[str, str]]:
    """Each RRset of the zones, and A and AAAA of each name: what a pod's stub resolver asks, there or not."""
    found: dict[tuple[str, str], None] = {}
    for zone in zones:
        for name, rdtype in make_zone.questions(zone):
            found[name, rdtype] = None
            if not zone.endswith(".arpa"):
                found.update(((name, other), None) for other in ASKED_FOR_EACH_NAME)
    found.pop(TOO_LARGE, None)
    return list(found)


def is_odd(question: tuple[str, str]) -> bool:
    """Questions of which there is only one of a kind: asked in every variant, whatever is left out."""
    return (
        ".odd." in question[0]
        or "headless-" in question[0].split(".")[0]
        or question[1] not in ("A", "AAAA", "SRV", "PTR")
    )


def sample(questions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The odd ones, and some of the many that are alike."""
    stride = count("zone_stride")
    return [one for place, one in enumerate(questions) if is_odd(one) or place % stride == 0]


CLUSTER_ZONES = (make_zone.CLUSTER, make_zone.REVERSE_V4, make_zone.REVERSE_V6)
CLUSTER_QUESTIONS = all_questions(CLUSTER_ZONES)
SAMPLE = sample(CLUSTER_QUESTIONS)

NEGATIVE = (
    ("no-such-service.default.svc.cluster.local", "A"),
    ("no-such-service.default.svc.cluster.local", "AAAA"),
    ("no-such-service.default.svc.cluster.local", "TYPE65399"),
    ("nginx-svc.default.svc.cluster.local", "MX"),
    ("nginx-svc.default.svc.cluster.local", "TYPE65399"),
    ("svc.cluster.local", "A"),  # an empty non-terminal: NODATA
    ("e.f.g.h.i.j.k.l.m.n.o.p.odd.cluster.local", "TXT"),
    ("below.nginx-svc.default.svc.cluster.local", "A"),
    ("255.255.43.10.in-addr.arpa", "PTR"),
    ("nginx-svc.default.svc.cluster.local.default.svc.cluster.local", "A"),  # ndots:5 search lists make these
    ("any-name.wild.odd.cluster.local", "A"),
    ("any-name.wild.odd.cluster.local", "TXT"),
    ("any-name.wild.odd.cluster.local", "AAAA"),
    ("cluster.local", "SOA"),
    ("cluster.local", "NS"),
)


def compare(ours: Client, theirs: Client, name: str, rdtype: str, variant: Variant) -> None:
    """One question to both, twice. Where UDP has no room: a part must be right, TCP has the rest."""
    for turn in ("first", "second"):
        what = f"{name} {rdtype} {variant} ({turn})"
        response, reference = ours.ask(name, rdtype, variant), theirs.ask(name, rdtype, variant)
        short_additional = False
        if (response.flags | reference.flags) & dns.flags.TC:
            assert not variant.tcp
            short_additional = not response.flags & dns.flags.TC
            over_tcp = Variant(
                True, variant.edns, variant.dnssec_ok, variant.checking_disabled, variant.authentic
            )
            whole = theirs.ask(name, rdtype, over_tcp)
            if response.flags & dns.flags.TC:
                assert_truncated_part(response, whole, what)
                response = ours.ask(name, rdtype, over_tcp)
            reference = whole
        assert_same(response, reference, what, short_additional)
        has_opt = response.edns >= 0
        assert has_opt == (variant.edns is not None), (
            f"{what}: an OPT in the reply if and only if the query had one"
        )
        if has_opt:
            assert bool(response.ednsflags & dns.flags.DO) == variant.dnssec_ok, what


@pytest.mark.slow
def test_every_name_over_udp(server: Server, coredns: Peer) -> None:
    """All names of the cluster's zones, plain UDP; the second time each is a hit, but for TTL 0."""
    before = server.stats()
    with clients(server.endpoint, coredns.server) as (ours, theirs):
        for name, rdtype in CLUSTER_QUESTIONS:
            compare(ours, theirs, name, rdtype, UDP)
    after = server.stats()
    hits = after.counter("hits") - before.counter("hits")
    misses = after.counter("misses") - before.counter("misses")
    assert hits >= 0.99 * len(CLUSTER_QUESTIONS), (
        f"{hits} hits for {len(CLUSTER_QUESTIONS)} questions asked twice"
    )
    assert misses >= 0.9 * len(CLUSTER_QUESTIONS)  # some were asked by earlier tests within their 5 s
    assert after.counter("servfail") == before.counter("servfail")


@pytest.mark.parametrize("variant", [UDP, *VARIANTS], ids=str)
def test_names_in_every_variant(server: Server, coredns: Peer, variant: Variant) -> None:
    """UDP, TCP, EDNS sizes, DO, CD and AD."""
    with clients(server.endpoint, coredns.server) as (ours, theirs):
        for name, rdtype in SAMPLE:
            compare(ours, theirs, name, rdtype, variant)


@pytest.mark.parametrize("variant", [UDP, *VARIANTS], ids=str)
def test_negative_answers(server: Server, coredns: Peer, variant: Variant) -> None:
    """NXDOMAIN, NODATA, empty non-terminals and wildcards, with the SOA that says for how long (RFC 2308)."""
    with clients(server.endpoint, coredns.server) as (ours, theirs):
        for name, rdtype in NEGATIVE:
            compare(ours, theirs, name, rdtype, variant)
        response = ours.ask("no-such-service.default.svc.cluster.local", "A", variant)
        assert response.rcode() == dns.rcode.NXDOMAIN
        assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]
        response = ours.ask("nginx-svc.default.svc.cluster.local", "MX", variant)
        assert response.rcode() == dns.rcode.NOERROR
        assert not response.answer
        assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]


def test_mixed_case_is_echoed(server: Server, coredns: Peer) -> None:
    """0x20: the question comes back with the letters as they were sent: misses, hits, negative answers."""
    names = [
        ("nginx-svc.default.svc.cluster.local", "A"),
        ("_http._tcp.app-007.shop.svc.cluster.local", "SRV"),
    ]
    names += [
        (f"no-such-{secrets.token_hex(4)}.default.svc.cluster.local", "A"),
        ("20.10.43.10.in-addr.arpa", "PTR"),
    ]
    with clients(server.endpoint, coredns.server) as (ours, theirs):
        for seed in range(0, 1 << 61, (1 << 61) // 10 + 12345):
            for name, rdtype in names:
                for variant in (UDP, TCP, Variant(edns=1232)):
                    cased = mixed_case(name, seed ^ 0x155555555555555)
                    compare(ours, theirs, cased, rdtype, variant)  # Client.ask compares the question's octets


def test_thousand_addresses(server: Server, coredns: Peer) -> None:
    """A headless service with 1,000 endpoints: TC over UDP at any size, all of them over TCP, hit or miss."""
    name = "headless-1000.data.svc.cluster.local"
    with clients(server.endpoint, coredns.server) as (ours, theirs):
        for variant in (UDP, Variant(edns=1232), Variant(edns=4096)):
            for _ in range(2):
                assert ours.ask(name, "A", variant).flags & dns.flags.TC
        for _ in range(2):
            response = ours.ask(name, "A", TCP)
            assert sum(len(rrset) for rrset in response.answer) == 1000
            assert_same(response, theirs.ask(name, "A", TCP), name)


def test_upstream_that_truncates_over_tcp(server: Server, coredns: Peer) -> None:
    """Over 64 KiB: what upstream had room for is handed on with its TC and not kept (RFC 2181 s9)."""
    name, rdtype = TOO_LARGE
    wire = TCP.query(name, rdtype).to_wire()
    with clients(server.endpoint, coredns.server) as (ours, theirs):
        reference = dns.message.from_wire(theirs.exchange(wire, tcp=True), raise_on_truncation=False)
        assert reference.flags & dns.flags.TC
        before = server.stats().counter("hits")
        for _ in range(2):
            assert ours.ask(name, rdtype).flags & dns.flags.TC
            octets = ours.exchange(wire, tcp=True)
            response = dns.message.from_wire(octets, raise_on_truncation=False)
            assert_truncated_part(response, reference, name)
            assert sum(len(rrset) for rrset in response.answer) > 900
        assert server.stats().counter("hits") == before


def test_odd_octets_in_names(server: Server, coredns: Peer) -> None:
    """Names are octets: dots, zeros, spaces and octets above 127 inside of labels come back as they went."""
    cluster = dns.name.from_text("cluster.local")
    odd = [b"a.b", b"\0", b" ", b"\xff\xfe", b"*", b"A\\B", b"x" * 63]
    with clients(server.endpoint, coredns.server) as (ours, theirs):
        for label in odd:
            name = dns.name.Name((label, secrets.token_hex(4).encode())).concatenate(cluster)
            for _ in range(2):
                assert_same(ours.ask(name), theirs.ask(name), repr(name))
        longest = dns.name.Name((b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 47)).concatenate(cluster)
        assert len(longest.to_wire() or b"") == 255
        assert_same(ours.ask(longest), theirs.ask(longest), "a name of 255 octets")


def test_external_zone_of_nsd(nsd: Peer) -> None:
    """NSD as upstream, other names, other TTLs, in every variant; NSD compresses its answers itself."""
    with serve(nsd.server) as server, clients(server.endpoint, nsd.server) as (ours, theirs):
        questions = all_questions([make_zone.EXTERNAL])
        for variant in (UDP, *VARIANTS):
            for name, rdtype in questions if variant == UDP else sample(questions):
                compare(ours, theirs, name, rdtype, variant)
            compare(ours, theirs, "no-such-name.example.test", "A", variant)
            compare(ours, theirs, "www.example.test", "MX", variant)


def test_addresses_are_those_of_the_zone_file(server: Server) -> None:
    """What the zone file says, so that the comparison can't be of two empty answers."""
    with Client(server.endpoint) as client:
        response = client.ask("nginx-svc.default.svc.cluster.local", "A")
        assert [str(rdata) for rdata in response.answer[0]] == ["10.43.10.20"]
        response = client.ask("nginx-svc.default.svc.cluster.local", "AAAA")
        assert [str(rdata) for rdata in response.answer[0]] == ["fd00:43::a14"]
        pointer = ipaddress.ip_address("fd00:43::a14").reverse_pointer
        response = client.ask(pointer, "PTR")
        assert [str(rdata) for rdata in response.answer[0]] == ["nginx-svc.default.svc.cluster.local."]
        response = client.ask("unknown.odd.cluster.local", "TYPE65400")
        assert response.answer[0][0].to_generic().data == b"\1\2\3\4\5\6"
