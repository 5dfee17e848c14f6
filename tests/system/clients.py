# SPDX-License-Identifier: Apache-2.0
"""Clients for tests: each question is sent once, so an answer that doesn't come is a failure.

`Client` asks with dnspython's messages over UDP or TCP, `assert_same` compares two servers' responses as
resolvers see them.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

ANSWER_WITHIN_S = 5.0  # the server's own limit for a client is 4.5 s


@dataclass(frozen=True)
class Variant:
    """How a question is asked."""

    tcp: bool = False
    edns: int | None = None  # UDP size of the OPT
    dnssec_ok: bool = False
    checking_disabled: bool = False
    authentic: bool = False

    def __str__(self) -> str:
        words = ["tcp" if self.tcp else "udp", "plain" if self.edns is None else f"edns{self.edns}"]
        words += ["do"] * self.dnssec_ok + ["cd"] * self.checking_disabled + ["ad"] * self.authentic
        return "-".join(words)

    def query(self, name: str | dns.name.Name, rdtype: str) -> dns.message.Message:
        query = dns.message.make_query(name, rdtype)
        if self.edns is not None:
            query.use_edns(0, dns.flags.DO if self.dnssec_ok else 0, self.edns)
        if self.checking_disabled:
            query.flags |= dns.flags.CD
        if self.authentic:
            query.flags |= dns.flags.AD
        return query


UDP = Variant()
TCP = Variant(tcp=True)


class Client:
    """One UDP socket, connected, and one TCP connection opened when it is needed."""

    def __init__(
        self,
        endpoint: tuple[str, int],
        source: tuple[str, int] | None = None,
        timeout_s: float = ANSWER_WITHIN_S,
    ):
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        family, _, _, _, sockaddr = socket.getaddrinfo(*endpoint, type=socket.SOCK_DGRAM)[0]
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.settimeout(timeout_s)
        if source is not None:
            self._udp.bind(source)
        self._udp.connect(sockaddr)
        self._tcp: socket.socket | None = None

    def close(self) -> None:
        self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def exchange(self, wire: bytes, tcp: bool = False) -> bytes:
        """Send `wire` once; the response's octets. What has another ID is passed over."""
        if tcp:
            return self._exchange_tcp(wire)
        self._udp.send(wire)
        while True:
            reply = self._udp.recv(65535)
            if reply[:2] == wire[:2]:
                return reply

    def _exchange_tcp(self, wire: bytes) -> bytes:
        framed = struct.pack("!H", len(wire)) + wire
        for attempt in (1, 2):
            if self._tcp is None:
                self._tcp = socket.create_connection(self.endpoint, self._timeout_s)
                self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._tcp.sendall(framed)
                return receive_framed(self._tcp)
            except (ConnectionError, EOFError):
                # A connection that had been idle may be closed by the server at any moment (RFC 7766 section
                # 6.2.4).
                self._tcp.close()
                self._tcp = None
                if attempt == 2:
                    raise
        raise AssertionError

    def ask(
        self, name: str | dns.name.Name, rdtype: str = "A", variant: Variant = UDP
    ) -> dns.message.Message:
        """The response, checked to be one to this query: ID, QR, the question octet for octet."""
        query = variant.query(name, rdtype)
        wire = query.to_wire()
        reply = self.exchange(wire, variant.tcp)
        response = dns.message.from_wire(reply, raise_on_truncation=False)
        assert response.flags & dns.flags.QR
        assert response.opcode() == query.opcode()
        question_end = len(wire) - (11 if variant.edns is not None else 0)
        assert reply[12:question_end] == wire[12:question_end], (
            f"the question of {name} {rdtype} came back changed"
        )
        assert not variant.tcp or not response.flags & dns.flags.TC, "TC over TCP"
        if not variant.tcp:
            assert len(reply) <= max(512, variant.edns or 512)
        return response

    def ask_fully(
        self, name: str | dns.name.Name, rdtype: str = "A", variant: Variant = UDP
    ) -> dns.message.Message:
        """Like a resolver: once more over TCP when TC is set."""
        response = self.ask(name, rdtype, variant)
        if response.flags & dns.flags.TC:
            over_tcp = Variant(
                True, variant.edns, variant.dnssec_ok, variant.checking_disabled, variant.authentic
            )
            response = self.ask(name, rdtype, over_tcp)
        return response


def receive_framed(sock: socket.socket) -> bytes:
    """One DNS message from a TCP connection; EOFError when it is closed."""
    (length,) = struct.unpack("!H", _receive_exactly(sock, 2))
    return _receive_exactly(sock, length)


def _receive_exactly(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = sock.recv(count - len(parts))
        if not part:
            raise EOFError("the connection was closed")
        parts += part
    return bytes(parts)


def _records(section: list[dns.rrset.RRset]) -> dict[tuple[str, int, int, bytes], int]:
    """Every record of a section as (owner, type, class, rdata) to its TTL."""
    return {
        (rrset.name.canonicalize().to_text(), rrset.rdtype, rrset.rdclass, rdata.to_digestable()): rrset.ttl
        for rrset in section
        for rdata in rrset
    }


def assert_same(
    ours: dns.message.Message, theirs: dns.message.Message, what: str, short_additional: bool = False
) -> None:
    """`ours` says what `theirs` says: rcode, AA, AD, in each section the same records, no TTL higher.

    `short_additional`: there was no room for all of the additional section, which alone is no reason for TC
    (RFC 2181 section 9). RA isn't compared (an authoritative server has none), and the OPT is each server's
    own affair but for its presence and DO.
    """
    assert dns.rcode.to_text(ours.rcode()) == dns.rcode.to_text(theirs.rcode()), what
    for flag in (dns.flags.AA, dns.flags.AD, dns.flags.RD):
        assert bool(ours.flags & flag) == bool(theirs.flags & flag), f"{what}: {flag.name}"
    assert ours.flags & dns.flags.RA, f"{what}: no RA from a cache that recurses"
    assert ours.question == theirs.question, what
    for name in ("answer", "authority", "additional"):
        mine, reference = _records(getattr(ours, name)), _records(getattr(theirs, name))
        if short_additional and name == "additional":
            reference = {key: ttl for key, ttl in reference.items() if key in mine}
        assert mine.keys() == reference.keys(), (
            f"{what}: {name}: {len(mine)} records, not {len(reference)};\n"
            f"missing {sorted(reference.keys() - mine.keys())[:3]}\n"
            f"added {sorted(mine.keys() - reference.keys())[:3]}"
        )
        aged = {key: (ttl, reference[key]) for key, ttl in mine.items() if ttl > reference[key]}
        assert not aged, f"{what}: {name}: TTLs that grew: {list(aged.items())[:3]}"


def assert_truncated_part(part: dns.message.Message, whole: dns.message.Message, what: str) -> None:
    """`part` has TC and holds nothing that `whole` doesn't."""
    assert part.flags & dns.flags.TC, what
    for name in ("answer", "authority", "additional"):
        extra = _records(getattr(part, name)).keys() - _records(getattr(whole, name)).keys()
        assert not extra, f"{what}: {name}: {sorted(extra)[:3]}"


def mixed_case(name: str, seed: int) -> str:
    """`name` with letters' case by the bits of `seed` (0x20)."""
    return "".join(c.upper() if seed >> place % 61 & 1 else c.lower() for place, c in enumerate(name))


@contextlib.contextmanager
def clients(*endpoints: tuple[str, int]) -> Iterator[list[Client]]:
    """A client for each endpoint, closed at the end of the block."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Client(endpoint)) for endpoint in endpoints]
