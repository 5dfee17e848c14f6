# SPDX-License-Identifier: Apache-2.0
"""``fastdns query``: ask one question and show the reply, for a quick look."""

import argparse
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from fastdns.cli import Parser
from fastdns.control.addresses import DNS_PORT, Endpoint, parse_endpoint
from fastdns.errors import UsageError

DEFAULT_SERVER: Final = Endpoint("127.0.0.1", 5300)
EXIT_ANSWERED: Final = 0
EXIT_RCODE: Final = 1
EXIT_NO_REPLY: Final = 2

_DESCRIPTION: Final = f"""\
Ask one question and show the reply.

Words may stand in any order: a type (A, AAAA, SRV, TYPE65...), @SERVER, and the name. @SERVER is
@ADDR (port {DNS_PORT}), @ADDR:PORT or @[IPV6]:PORT; without it {DEFAULT_SERVER}.
Exit code: 0 the reply is NOERROR, 1 it is another rcode, 2 no reply came or the command was wrong."""

_EXAMPLES: Final = """\
  fastdns query nginx-svc.default.svc.cluster.local
  fastdns query @169.254.20.10 kubernetes.default.svc.cluster.local AAAA
  fastdns query SRV _http._tcp.web.default.svc.cluster.local --tcp
  fastdns query -x 10.43.0.10 --short
  fastdns query --json example.com MX @[::1]:5300"""

_SENDS: Final = 3  # of a question over UDP within the time given; one lost packet isn't the server's silence
_NO_REPLY: Final = "no reply from {server} within {timeout:g} s"


@dataclass(frozen=True, slots=True)
class Question:
    """What the words on the command line asked for."""

    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType
    server: Endpoint = DEFAULT_SERVER


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with how it came."""

    message: dns.message.Message
    transport: str
    seconds: float
    octets: int
    retried_over_tcp: bool = False


class NoReplyError(Exception):
    """Nobody answered, or nothing that can be read; the text says which."""


def main(arguments: list[str]) -> int:
    """Ask, print, and return the exit code."""
    args = _parse(arguments)
    question = parse_words(args.words, args.reverse)
    message = make_message(question, args)
    try:
        reply = ask(message, question.server, args.timeout, args.tcp)
    except NoReplyError as error:
        print(f"fastdns query: {error}", file=sys.stderr)
        return EXIT_NO_REPLY
    if args.json:
        print(json.dumps(as_document(question, reply), indent=2))
    elif args.short:
        print("".join(f"{rdata.to_text()}\n" for rrset in reply.message.answer for rdata in rrset), end="")
    else:
        print(as_text(question, reply, Paint(sys.stdout.isatty() and "NO_COLOR" not in os.environ)))
    return EXIT_ANSWERED if reply.message.rcode() == dns.rcode.NOERROR else EXIT_RCODE


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("query", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="NAME [TYPE] [@SERVER]")
    parser.add_argument("-x", dest="reverse", metavar="ADDR", help="ask for the PTR of an address")
    parser.add_argument("--tcp", action="store_true", help="over TCP from the start")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="only the answers' data, one a line")
    form.add_argument("--json", action="store_true", help="the whole reply as one JSON object")
    parser.add_argument("--dnssec", action="store_true", help="set DO")
    parser.add_argument("--no-edns", action="store_true", help="without an OPT record")
    parser.add_argument("--no-recurse", action="store_true", help="clear RD: only what the cache holds")
    parser.add_argument("--timeout", type=_seconds, default=5.0, metavar="S", help="in all (%(default)s)")
    return parser.parse_intermixed_args(arguments)


def parse_words(words: Sequence[str], reverse: str | None = None) -> Question:
    """The question that the words ask, in whatever order they stand. Raises UsageError."""
    servers = [word[1:] for word in words if word.startswith("@")]
    rest = [word for word in words if not word.startswith("@")]
    if len(servers) > 1:
        raise UsageError("expected one @SERVER")
    server = parse_endpoint(servers[0]) if servers else DEFAULT_SERVER
    if reverse is not None:
        if rest:
            raise UsageError(f"-x {reverse} says it all, and {rest[0]!r} is left over")
        try:
            return Question(dns.reversename.from_address(reverse), dns.rdatatype.PTR, server)
        except (dns.exception.SyntaxError, ValueError):
            raise UsageError(f"-x: {reverse!r} is not an IP address") from None
    if not rest:
        raise UsageError("expected a name to ask for")
    if len(rest) > 2:
        raise UsageError(f"expected NAME [TYPE] [@SERVER], and {rest[2]!r} is left over")
    name, rdtype = _name_and_type(rest)
    try:
        return Question(dns.name.from_text(name), rdtype, server)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise UsageError(f"{name!r} is not a domain name: {error}") from None


def _name_and_type(words: Sequence[str]) -> tuple[str, dns.rdatatype.RdataType]:
    if len(words) == 1:
        return words[0], dns.rdatatype.A
    first, second = words
    # Of two words that could both be types the second is.
    for name, word in ((first, second), (second, first)):
        rdtype = _type_of(word)
        if rdtype is not None:
            return name, rdtype
    raise UsageError(f"neither {first!r} nor {second!r} is a type; type 65 is written TYPE65")


def _type_of(word: str) -> dns.rdatatype.RdataType | None:
    try:
        return dns.rdatatype.from_text(word)
    except (dns.exception.DNSException, ValueError):
        return None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("expected seconds, above 0 and up to 3600")
    return value


def make_message(question: Question, args: argparse.Namespace) -> dns.message.QueryMessage:
    """The query as it will be sent."""
    flags = dns.flags.Flag(0) if args.no_recurse else dns.flags.RD
    message = dns.message.make_query(question.name, question.rdtype, flags=flags)
    if not args.no_edns:
        message.use_edns(0, payload=1232, ednsflags=dns.flags.DO if args.dnssec else 0)
    return message


def ask(message: dns.message.QueryMessage, server: Endpoint, timeout: float, tcp: bool) -> Reply:
    """Ask over UDP, again over TCP when the reply is truncated. Raises NoReplyError."""
    began = time.monotonic()
    if tcp:
        return _ask_tcp(message, server, timeout, began)
    reply = _ask_udp(message, server, timeout, began)
    if not reply.message.flags & dns.flags.TC:
        return reply
    again = _ask_tcp(message, server, timeout, began)
    return Reply(again.message, again.transport, again.seconds, again.octets, retried_over_tcp=True)


def _ask_udp(message: dns.message.QueryMessage, server: Endpoint, timeout: float, began: float) -> Reply:
    where = server.sockaddr[0] if not server.scope_id else f"{server.host}%{server.scope_id}"
    with socket.socket(server.family, socket.SOCK_DGRAM) as sock, _errors(server, timeout):
        # Connected: then a port where nobody listens says so at once.
        sock.connect(server.sockaddr)
        sock.setblocking(False)
        for attempt in range(_SENDS):
            try:
                found = dns.query.udp(message, where, timeout / _SENDS, server.port, sock=sock)
            except dns.exception.Timeout:
                if attempt == _SENDS - 1:
                    raise
            else:
                return _reply(found, "UDP", began)
    raise AssertionError("the last send returns or raises")


def _ask_tcp(message: dns.message.QueryMessage, server: Endpoint, timeout: float, began: float) -> Reply:
    where = server.sockaddr[0] if not server.scope_id else f"{server.host}%{server.scope_id}"
    with _errors(server, timeout):
        return _reply(dns.query.tcp(message, where, timeout, server.port), "TCP", began)


def _reply(message: dns.message.Message, transport: str, began: float) -> Reply:
    return Reply(message, transport, time.monotonic() - began, len(message.wire or b""))


@contextlib.contextmanager
def _errors(server: Endpoint, timeout: float) -> Iterator[None]:
    """What can go wrong on the way, as one line that says what to look at."""
    try:
        yield
    except dns.exception.Timeout:
        raise NoReplyError(_NO_REPLY.format(server=server, timeout=timeout)) from None
    except ConnectionRefusedError:
        raise NoReplyError(f"nobody listens on {server}; is the server running?") from None
    except EOFError:
        raise NoReplyError(f"{server} closed the connection without a reply") from None
    except OSError as error:
        raise NoReplyError(f"{server}: {error.strerror or error}") from None
    except dns.exception.DNSException as error:
        raise NoReplyError(f"{server} sent something that is no reply to this: {error}") from None


class Paint:
    """Colours on a terminal, plain text elsewhere."""

    _CODES: Final = {"dim": "2", "good": "32", "bad": "31", "name": "36", "data": "1"}

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{self._CODES[style]}m{text}\x1b[0m" if self._on else text


def as_text(question: Question, reply: Reply, paint: Paint) -> str:
    """The reply for a reader: two lines about it, then its records."""
    message = reply.message
    rcode = message.rcode()
    rdtype = dns.rdatatype.to_text(question.rdtype)
    how = f"{reply.transport}{', UDP was truncated' if reply.retried_over_tcp else ''}"
    lines = [
        paint("dim", f";; {question.name} {rdtype} @{question.server} ({how})"),
        paint("dim", ";; ")
        + paint("bad" if rcode else "good", dns.rcode.to_text(rcode))
        + paint("dim", f", flags {dns.flags.to_text(message.flags).lower()}, {_edns_text(message)}")
        + paint("dim", f"{reply.octets} octets, {reply.seconds * 1000:.1f} ms"),
    ]
    lines += [paint("dim", f";; {option.to_text()}") for option in message.options]
    for title, section in _sections(message):
        if section:
            lines.append(paint("dim", f";; {title}"))
        for rrset in section:
            lines += _record_lines(rrset, paint)
    return "\n".join(lines)


def _edns_text(message: dns.message.Message) -> str:
    if message.edns < 0:
        return ""
    return f"EDNS {message.edns} size {message.payload}{' do' if message.ednsflags & dns.flags.DO else ''}, "


def _sections(message: dns.message.Message) -> list[tuple[str, list[dns.rrset.RRset]]]:
    return [("answer", message.answer), ("authority", message.authority), ("additional", message.additional)]


def _record_lines(rrset: dns.rrset.RRset, paint: Paint) -> list[str]:
    middle = f" {rrset.ttl} {dns.rdataclass.to_text(rrset.rdclass)} {dns.rdatatype.to_text(rrset.rdtype)} "
    return [f"{paint('name', str(rrset.name))}{middle}{paint('data', rdata.to_text())}" for rdata in rrset]


def as_document(question: Question, reply: Reply) -> dict[str, Any]:
    """The reply as plain values."""
    message = reply.message
    document: dict[str, Any] = {
        "question": {"name": str(question.name), "type": dns.rdatatype.to_text(question.rdtype)},
        "server": str(question.server),
        "transport": reply.transport,
        "truncated_over_udp": reply.retried_over_tcp,
        "rcode": dns.rcode.to_text(message.rcode()),
        "flags": dns.flags.to_text(message.flags).lower().split(),
        "time_ms": round(reply.seconds * 1000, 3),
        "octets": reply.octets,
        "edns": None,
    }
    if message.edns >= 0:
        document["edns"] = {
            "version": message.edns,
            "size": message.payload,
            "do": bool(message.ednsflags & dns.flags.DO),
            "options": [{"code": int(option.otype), "text": option.to_text()} for option in message.options],
        }
    for title, section in _sections(message):
        document[title] = [
            {
                "name": str(rrset.name),
                "ttl": rrset.ttl,
                "class": dns.rdataclass.to_text(rrset.rdclass),
                "type": dns.rdatatype.to_text(rrset.rdtype),
                "data": rdata.to_text(),
            }
            for rrset in section
            for rdata in rrset
        ]
    return document
