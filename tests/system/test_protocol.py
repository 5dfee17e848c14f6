# SPDX-License-Identifier: Apache-2.0
"""What a client may ask that is unusual, over real sockets. The parsers' own tests are in tests/unit."""

import secrets
import socket
import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from tests.mock_upstream import Question, Reply, answer, mock_upstream
from tests.peers.run import Peer
from tests.system.clients import TCP, UDP, Client, Variant, receive_framed
from tests.system.server import Server, serve

NAME = "nginx-svc.default.svc.cluster.local"
ADDRESS = "10.43.10.20"
BOTH = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])


def exchange(server: Server, wire: bytes, tcp: bool) -> dns.message.Message:
    with Client(server.endpoint) as client:
        reply = client.exchange(wire, tcp)
        assert reply[2] & 0x80, "QR"
        return dns.message.from_wire(reply, ignore_trailing=False, raise_on_truncation=False)


@BOTH
@pytest.mark.parametrize(
    "opcode", [dns.opcode.IQUERY, dns.opcode.STATUS, dns.opcode.NOTIFY, dns.opcode.UPDATE, 15]
)
def test_other_opcodes(server: Server, opcode: int, tcp: bool) -> None:
    """NOTIMP, with the opcode that was sent."""
    wire = bytearray(dns.message.make_query(NAME, "A").to_wire())
    wire[2] = wire[2] & 0x87 | opcode << 3
    with Client(server.endpoint) as client:
        reply = client.exchange(bytes(wire), tcp)
    assert reply[:2] == wire[:2]
    assert reply[2] >> 3 & 15 == opcode
    assert reply[3] & 15 == dns.rcode.NOTIMP


@BOTH
@pytest.mark.parametrize("count", [0, 2, 65535])
def test_question_counts(server: Server, count: int, tcp: bool) -> None:
    """No question and more than one: FORMERR (RFC 9619)."""
    wire = bytearray(dns.message.make_query(NAME, "A").to_wire())
    wire[4:6] = struct.pack("!H", count)
    body = bytes(wire) if count else bytes(wire[:12])
    with Client(server.endpoint) as client:
        reply = client.exchange(body + (wire[12:] if count == 2 else b""), tcp)
    assert reply[3] & 15 == dns.rcode.FORMERR


@BOTH
def test_edns_version(server: Server, tcp: bool) -> None:
    """BADVERS for versions above 0, with our version in the OPT (RFC 6891 section 6.1.3)."""
    query = dns.message.make_query(NAME, "A")
    query.use_edns(1, 0, 1232)
    response = exchange(server, query.to_wire(), tcp)
    assert response.rcode() == dns.rcode.BADVERS
    assert response.edns == 0
    assert not response.answer


def generic_option(number: int, data: bytes) -> dns.edns.Option:
    return dns.edns.GenericOption(dns.edns.OptionType.make(number), data)


@BOTH
def test_edns_options_are_not_echoed(server: Server, tcp: bool) -> None:
    """Cookies, client subnet, padding, unknown ones: read over, an answer, and no option in it."""
    query = dns.message.make_query(NAME, "A")
    options = [dns.edns.CookieOption(b"01234567", b""), dns.edns.ECSOption("192.0.2.0", 24)]
    options += [
        generic_option(12, bytes(64)),
        generic_option(65001, secrets.token_bytes(100)),
    ]
    query.use_edns(0, 0, 1232, options=options)
    response = exchange(server, query.to_wire(), tcp)
    assert [str(rdata) for rdata in response.answer[0]] == [ADDRESS]
    assert response.edns == 0
    assert not response.options


def test_edns_sizes(server: Server) -> None:
    """A reply is at most the client's size, at least 512 of it count and never more than 4096."""
    name = "headless-1000.data.svc.cluster.local"
    for size, limit in ((0, 512), (100, 512), (512, 512), (1232, 1232), (4096, 4096), (65535, 4096)):
        query = dns.message.make_query(name, "A")
        query.use_edns(0, 0, size)
        with Client(server.endpoint) as client:
            reply = client.exchange(query.to_wire())
        assert reply[2] & 0x02, "TC"
        assert len(reply) <= limit
        assert limit - len(reply) < 64, "room for more records was left"


@BOTH
def test_class_chaos(server: Server, coredns: Peer, tcp: bool) -> None:
    """Another class is a question like any other: what upstream says."""
    query = dns.message.make_query("version.bind", "TXT", "CH")
    with Client(coredns.server) as reference:
        theirs = dns.message.from_wire(reference.exchange(query.to_wire(), tcp))
    response = exchange(server, query.to_wire(), tcp)
    assert response.question == query.question
    assert response.rcode() in (theirs.rcode(), dns.rcode.REFUSED, dns.rcode.NOTIMP)


@BOTH
def test_compressed_question_name(server: Server, tcp: bool) -> None:
    """A pointer in a question's name points at nothing before it: FORMERR."""
    wire = dns.message.make_query(NAME, "A").to_wire()[:12] + b"\x03www\xc0\x0c\0\1\0\1"
    with Client(server.endpoint) as client:
        assert client.exchange(wire, tcp)[3] & 15 == dns.rcode.FORMERR


def test_without_recursion_desired() -> None:
    """RD=0: answered from the cache where there is an answer, else asked as it is, and not kept."""

    def script(question: Question) -> list[Reply]:
        return [Reply(answer(question, "192.0.2.1"))]

    with mock_upstream(script) as upstream, serve(upstream.server) as server:

        def ask(name: str, recursion: bool) -> dns.message.Message:
            query = dns.message.make_query(name, "A")
            if not recursion:
                query.flags &= ~dns.flags.RD
            response = exchange(server, query.to_wire(), False)
            assert bool(response.flags & dns.flags.RD) == recursion
            assert response.answer
            return response

        for _ in range(2):
            ask("not-desired.example.test", False)
        asked = upstream.asked("not-desired.example.test")
        assert len(asked) == 2, "an answer to RD=0 was kept"
        assert not any(question.message.flags & dns.flags.RD for question in asked)
        ask("desired.example.test", True)
        ask("desired.example.test", False)
        assert len(upstream.asked("desired.example.test")) == 1


@pytest.mark.parametrize("scheme", ["udp", "tcp", "ipv6"])
def test_upstream_kinds(server: Server, coredns: Peer, scheme: str) -> None:
    """The same answers by way of an upstream that is asked over TCP only, or by IPv6."""
    from tests.peers import run as peers
    from tests.system.test_same_answers import NEGATIVE, SAMPLE, compare

    with peers.coredns(address="::1") as v6:
        upstream = {"udp": coredns.server, "tcp": coredns.server, "ipv6": v6.server}[scheme]
        text = f"[{upstream[0]}]:{upstream[1]}" if scheme == "ipv6" else f"{upstream[0]}:{upstream[1]}"
        option = f"tcp://{text}" if scheme == "tcp" else text
        with serve([], arguments=["--upstream", option]) as other:
            with Client(other.endpoint) as ours, Client(upstream) as theirs:
                for name, rdtype in (*SAMPLE[::5], *NEGATIVE):
                    for variant in (UDP, TCP, Variant(edns=1232, dnssec_ok=True)):
                        compare(ours, theirs, name, rdtype, variant)
            stats = other.stats()
            assert (stats.counter("upstream_udp") == 0) == (scheme == "tcp")


def test_more_connections_than_places(coredns: Peer) -> None:
    """3,000 TCP connections that stay: the idlest make room, and every new one is answered."""
    query = dns.message.make_query(NAME, "A").to_wire()
    framed = struct.pack("!H", len(query)) + query
    held: list[socket.socket] = []
    with serve(coredns.server) as server:
        try:
            for _ in range(3000):
                sock = socket.create_connection(server.endpoint, 3.0)
                held.append(sock)
                sock.sendall(framed)
                assert receive_framed(sock)[:2] == query[:2]
            stats = server.stats()
            assert stats.counter("tcp_accepted") >= 3000
            open_now = sum(worker["tcp_connections"] for worker in stats.workers)
            assert open_now <= 2 * 1024
            assert stats.counter("tcp_closed_cap") >= 3000 - 2 * 1024
            assert not stats.restarts
        finally:
            for sock in held:
                sock.close()


@pytest.mark.stress
def test_clients_that_do_not_read(coredns: Peer) -> None:
    """Connections that ask for 16 KB answers and read none: closed in time, nobody waits for them."""
    query = dns.message.make_query("headless-1000.data.svc.cluster.local", "A").to_wire()
    framed = (struct.pack("!H", len(query)) + query) * 200
    with serve(coredns.server) as server:
        held = []
        try:
            for _ in range(40):
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.settimeout(1.0)
                sock.connect(server.endpoint)
                held.append(sock)
                sock.setblocking(False)
                try:
                    sock.send(framed)
                except OSError:
                    continue
            with Client(server.endpoint, timeout_s=1.0) as client:
                for _ in range(50):
                    for variant in (UDP, TCP):
                        assert client.ask(NAME, "A", variant).answer
            server.wait_for(
                lambda stats: (
                    stats.counter("tcp_closed_slow") + stats.counter("tcp_buffers_full") >= len(held)
                ),
                "the end of those who don't read",
                30.0,
            )
        finally:
            for sock in held:
                sock.close()
        assert not server.stats().restarts
