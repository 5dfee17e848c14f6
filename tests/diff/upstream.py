# SPDX-License-Identifier: Apache-2.0
"""What an upstream of the differential suite says: a table of responses (records.py) for tests/mock_upstream.

    "www.example.test. A": says("@ 300 A 192.0.2.1"),
    "flaky.example.test. A": (says(rcode="SERVFAIL"), says("@ 300 A 192.0.2.1")),     # first, then ever after

A name without a row at or below it is NXDOMAIN, one without a row for the type NODATA, with an SOA both.
In a record `@` is the qname as it was asked and `{n}` how often this name and type were asked so far.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.mock_upstream import Question, Reply, with_other_id, with_other_question

NEGATIVE_TTL = 60  # s; TTL and MINIMUM of the SOA where a row says nothing
PAYLOAD = 1232
_DEFAULT_FLAGS = "ra"


@dataclass(frozen=True)
class Says:
    """One response. Records are lines "OWNER TTL TYPE RDATA"; class IN, or the question's."""

    answer: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    rcode: str = "NOERROR"
    flags: str = _DEFAULT_FLAGS  #: of aa, ra, ad; tc
    delay_s: float = 0.0
    signed: tuple[str, ...] = ()  #: more answers for those who set DO
    options: tuple[tuple[int, bytes], ...] = ()  #: in its OPT, where the question had one
    opt: bool = True  #: an OPT where the question had one
    udp: str = ""  #: over UDP: "tc" cuts the answer section off, "tc-part" leaves the first half of it
    wire: str = ""  #: "silent", "other-id", "other-question", "other-type", "no-qr", "no-question", "garbage"


def says(*answer: str, **rest: object) -> Says:
    return Says(answer=answer, **rest)  # type: ignore[arg-type]


SILENT = Says(wire="silent")
Row = Says | tuple[Says, ...]


def soa(zone: str, ttl: int = NEGATIVE_TTL, minimum: int = NEGATIVE_TTL) -> str:
    below = "" if zone == "." else zone
    return f"{zone} {ttl} SOA ns.{below} hostmaster.{below} 1 7200 1800 86400 {minimum}"


@dataclass
class Table:
    """A mock upstream's script: call it with a question."""

    rows: Mapping[str, Row]
    names: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = set()
        for key in self.rows:
            name = key.split()[0]
            while name and name not in self.names:  # an empty non-terminal exists, too
                self.names.add(name)
                name = name.partition(".")[2]

    def __call__(self, question: Question) -> Sequence[Reply]:
        name = question.message.question[0].name.to_text().lower()
        rdtype = dns.rdatatype.to_text(question.rdtype)
        row = self.rows.get(f"{name} {rdtype}", self.rows.get(f"{name} *"))
        if row is None:
            row = _negative(name, exists=name in self.names)
        said = row[min(question.number, len(row)) - 1] if isinstance(row, tuple) else row
        wire = _wire(said, question)
        return [] if wire is None else [Reply(wire, said.delay_s)]


def _negative(name: str, exists: bool) -> Says:
    zone = ".".join(name.split(".")[-3:]) if name.count(".") > 1 else "."
    return Says(authority=(soa(zone),), rcode="NOERROR" if exists else "NXDOMAIN")


def _wire(said: Says, question: Question) -> bytes | None:
    """The octets to send; None for silence."""
    if said.wire == "silent":
        return None
    if said.wire == "garbage":
        return question.message.id.to_bytes(2, "big") + b"\x81\x80\0\1\0\1\0\0\0\0\xff\xff"
    response = _response(said, question)
    wire = response.to_wire(max_size=65535)
    if not question.tcp and len(wire) > (size := max(512, question.message.payload)):
        wire = _cut(response, size)
    if said.wire == "other-id":
        return with_other_id(wire)
    if said.wire == "other-question":
        return with_other_question(question, "192.0.2.66")
    if said.wire == "no-qr":
        return wire[:2] + struct.pack("!H", response.flags & ~dns.flags.QR) + wire[4:]
    return wire


def _cut(response: dns.message.Message, size: int) -> bytes:
    """As much of it as fits, in order, with TC."""
    response.flags |= dns.flags.TC
    while True:
        section = next(one for one in (response.additional, response.authority, response.answer) if one)
        section.pop()
        try:
            return response.to_wire(max_size=size)
        except dns.exception.TooBig:
            continue


def _response(said: Says, question: Question) -> dns.message.Message:
    response = dns.message.make_response(question.message, our_payload=PAYLOAD)
    response.set_rcode(dns.rcode.from_text(said.rcode))
    response.flags |= question.message.flags & dns.flags.CD  # RFC 4035 section 3.2.2
    for flag in said.flags.split():
        response.flags |= dns.flags.from_text(flag.upper())
    wants_signatures = bool(question.message.ednsflags & dns.flags.DO)
    answer = said.answer + (said.signed if wants_signatures else ())
    if said.udp and not question.tcp:
        response.flags |= dns.flags.TC
        answer = answer[: len(answer) // 2] if said.udp == "tc-part" else ()
    if answer == ("echo",):
        answer = (f'@ 30 TXT "{_echo(question)}"',)
    for section, lines in (
        (response.answer, answer),
        (response.authority, said.authority),
        (response.additional, said.additional),
    ):
        section.extend(_record(line, question) for line in lines)
    if question.message.edns >= 0:
        options: list[dns.edns.Option] = [
            dns.edns.GenericOption(dns.edns.OptionType.make(code), data) for code, data in said.options
        ]
        flags = dns.flags.DO if wants_signatures else 0
        response.use_edns(0 if said.opt else -1, flags, PAYLOAD, options=options)
    if said.wire == "no-question":
        response.question = []
    elif said.wire == "other-type":
        asked = question.message.question[0]
        response.question = [dns.rrset.RRset(asked.name, asked.rdclass, dns.rdatatype.MX)]
    return response


def _record(line: str, question: Question) -> dns.rrset.RRset:
    owner, ttl, rdtype, rdata = line.replace("{n}", str(question.number)).split(maxsplit=3)
    asked = question.message.question[0]
    name = asked.name if owner == "@" else dns.name.from_text(owner)
    rrset = dns.rrset.from_text(name, int(ttl), "IN", rdtype, rdata)
    if asked.rdclass in (dns.rdataclass.IN, dns.rdataclass.ANY, dns.rdataclass.NONE):
        return rrset
    other = dns.rrset.RRset(name, asked.rdclass, rrset.rdtype)
    octets = rrset[0].to_wire() or b""
    other.add(dns.rdata.GenericRdata(asked.rdclass, rrset.rdtype, octets), int(ttl))
    return other


def _echo(question: Question) -> str:
    """What of a question reaches upstream, the ID, the size and the way apart."""
    message = question.message
    words = [flag for flag in ("RD", "CD") if message.flags & dns.flags.from_text(flag)]
    words += ["AD"] if message.flags & dns.flags.AD and question.name.startswith("echo-ad") else []
    words += ["DO"] if message.ednsflags & dns.flags.DO else []
    words += [f"{option.otype:d}:{option.to_wire().hex()}" for option in message.options]
    return " ".join(words)


@dataclass(frozen=True)
class Asked:
    """A question that came upstream; how often is left out: a lost packet is no difference."""

    upstream: str
    name: str
    rdtype: str
    tcp: bool

    def __str__(self) -> str:
        return f"{self.name} {self.rdtype} at {self.upstream} over {'TCP' if self.tcp else 'UDP'}"


def asked(upstream: str, question: Question) -> Asked | None:
    """None for what nobody asked for: loop's probe, and the health check of an upstream."""
    rdtype = dns.rdatatype.to_text(question.rdtype)
    if rdtype == "HINFO" or (question.name, rdtype) in ((".", "NS"), ("@", "NS"), ("", "NS")):
        return None
    return Asked(upstream, question.name, rdtype, question.tcp)
