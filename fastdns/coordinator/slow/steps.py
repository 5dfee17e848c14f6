# SPDX-License-Identifier: Apache-2.0
"""What the loop asks of a step, and what a step may say.

A question comes to ``Step.ask``. Where the step says ``Go(..., back=True)`` or ``Ask``, the answer
comes to ``Step.answer``, with what the step gave as ``state``.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

from fastdns.errors import FastDNSError

FOLLOW_MAX = 8  #: questions that one question may lead to, one after the other


class StepError(FastDNSError):
    """A step that fails on a question: SERVFAIL, and a line where the block has `errors`."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asked; only where a block's text wants to know."""

    address: str
    port: int
    tcp: bool
    server_address: str
    server_port: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. The name is absolute, in lower case."""

    name: dns.name.Name
    rdtype: int
    rdclass: int = dns.rdataclass.IN
    want_dnssec: bool = False
    recursion_desired: bool = True
    checking_disabled: bool = False
    family: int = 0  #: the client's, 4 or 6, where answers differ by it
    client: Client | None = None

    @property
    def text(self) -> str:
        """The name as regular expressions see it, with the dot at its end."""
        return self.name.to_text()


@dataclass(frozen=True, slots=True)
class Go:
    """On to the step behind this one, with this question."""

    question: Question
    back: bool = False  #: the answer comes back here
    state: Any = None
    options: bytes = b""  #: EDNS options for the query that goes upstream, as on the wire


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the server itself, as a client would; the answer comes back here."""

    question: Question
    state: Any = None


@dataclass(frozen=True, slots=True)
class Done:
    """The answer."""

    message: dns.message.Message
    passing: bool = False  #: it depends on the client or the moment: never stored
    told: bool = False  #: the EDNS option of the step goes out with it
    translated: bool = False  #: dns64 made it of A records


@dataclass(frozen=True, slots=True)
class Fail:
    """An answer without records, of this code. SERVFAIL is one of our own failures."""

    rcode: int
    text: str = ""


Outcome = Go | Ask | Done | Fail


class Step(Protocol):
    """One plugin of a block. Its methods raise StepError."""

    def ask(self, question: Question) -> Outcome: ...

    def answer(self, question: Question, state: Any, message: dns.message.Message, /) -> Outcome:
        """``question`` is the one that came to ``ask``."""
        ...


def new_answer(question: Question, rcode: int = 0) -> dns.message.QueryMessage:
    """An empty answer to a question, authoritative."""
    message = dns.message.QueryMessage(id=0)
    message.flags = dns.flags.QR | dns.flags.AA
    message.set_rcode(dns.rcode.Rcode(rcode))
    message.question = [
        dns.rrset.RRset(
            question.name,
            dns.rdataclass.RdataClass(question.rdclass),
            dns.rdatatype.RdataType(question.rdtype),
        )
    ]
    return message


def is_below(name: dns.name.Name, zones: tuple[dns.name.Name, ...]) -> bool:
    """Whether a name lies at or below one of the zones."""
    return any(name.is_subdomain(zone) for zone in zones)


def parse_name(text: str) -> dns.name.Name:
    """An absolute name in lower case. Raises StepError."""
    try:
        return dns.name.from_text(text.lower())
    except dns.exception.DNSException as error:
        raise StepError(f"{text!r} is no name: {error}") from None
