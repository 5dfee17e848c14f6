# SPDX-License-Identifier: Apache-2.0
"""The seed corpus: real messages of every kind, one a file. ``python -m tests.fuzz.make_seeds [FOLDER]``.

What fuzzing found worth keeping is added by ``make fuzz-merge``; nothing here removes a file.
"""

import hashlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name

from tests.rdata_samples import samples
from tests.wiretools import as_response, header, labels, opt, option, question, record

HERE = Path(__file__).parent / "corpus"
RESPONSE = 0x8180
NAMES = [
    "nginx-svc.default.svc.cluster.local.",
    "www.Example.com.",
    ".",
    "1.0.0.10.in-addr.arpa.",
    "a." * 127,
    f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}.",
]


def ask(name: str, rdtype: str, **options: Any) -> dns.message.QueryMessage:
    """A query whose ID is always the same, so that a seed keeps its file's name."""
    return dns.message.make_query(name, rdtype, id=0x1234, **options)


def queries() -> Iterator[bytes]:
    """Queries that are good, and some that nearly are."""
    for text in NAMES:
        for qtype in ("A", "SRV"):
            yield ask(text, qtype).to_wire()
            yield ask(text, qtype, want_dnssec=True, payload=4096).to_wire()
    sets: list[list[dns.edns.Option]] = [
        [dns.edns.CookieOption(bytes(range(8)), b"")],
        [dns.edns.ECSOption("192.0.2.0", 24), dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(60))],
    ]
    for options in sets:
        yield ask(NAMES[0], "AAAA", use_edns=0, options=options).to_wire()
    name = labels(b"www", b"example", b"com")
    tsig = record(labels(b"key"), 250, bytes(30), ttl=0, rdclass=255)
    for number in (0, 41, 249, 252, 255, 65535):
        yield header() + question(name, number)
    yield header(ar=2) + question(name) + opt() + tsig
    yield header(ar=2) + question(name) + tsig + opt(flags=0x8000)
    yield header(ar=2) + question(name) + opt() + opt()
    yield header(ar=1) + question(name) + opt(version=1)
    yield header(ar=1) + question(name) + record(b"\xc0\x0c", 250, b"")
    yield header(ar=1) + question(name) + opt(options=option(10, bytes(8)) + b"\0")
    yield header(flags=0x2000) + question(name)
    yield header(flags=RESPONSE) + question(name)
    yield header(qd=0)
    yield header() + question(b"\xc0\x0c")


def responses() -> Iterator[bytes]:
    """Responses: every type, every kind, compressed and not, and some that nearly are."""
    for rdtype, text in samples():
        query = ask("www.example.com.", rdtype, use_edns=0)
        line = f"IN {rdtype} {text}"
        yield as_response(
            query, f"www.example.com. 300 {line}", additional=(f"x.example.com. 5 {line}",)
        ).to_wire()
    query = ask("www.example.com.", "A", use_edns=0)
    soa = "example.com. 300 IN SOA ns.example.com. admin.example.com. 1 2 3 4 60"
    cname = "www.example.com. 60 IN CNAME web.other.org."
    yield as_response(query, cname, "web.other.org. 30 IN A 10.0.0.1").to_wire()
    yield as_response(query, cname, authority=(soa,)).to_wire()
    yield as_response(query, authority=(soa,)).to_wire()
    yield as_response(query, authority=(soa,), flags=3).to_wire()
    yield as_response(query, authority=("example.com. 9 IN NS ns1.example.com.",)).to_wire()
    yield as_response(query, flags=2).to_wire()
    service = "_http._tcp.web.default.svc.cluster.local."
    pods = [f"10-0-0-{i}.web.default.svc.cluster.local." for i in range(30)]
    srv = as_response(
        ask(service, "SRV", use_edns=0),
        "\n".join(f"{service} 5 IN SRV 0 2 80 {pod}" for pod in pods),
        additional=tuple(f"{pod} 5 IN A 10.0.0.{i}" for i, pod in enumerate(pods)),
    )
    yield srv.to_wire(max_size=65535)
    name = labels(b"web", b"default", b"svc", b"cluster", b"local")
    addresses = b"".join(record(name, 1, struct.pack("!I", i), ttl=5) for i in range(40))
    yield header(flags=RESPONSE, an=40) + question(name) + addresses
    sets = b"".join(record(b"\xc0\x0c", 2, b"\2n%d\xc0\x0c" % (i % 10)) for i in range(20))
    glue = b"".join(record(b"\2n%d\xc0\x0c" % (i // 4), 28, bytes(15) + b"%c" % i) for i in range(20))
    yield header(flags=RESPONSE, ns=20, ar=20) + question(name) + sets + glue
    yield (
        header(flags=RESPONSE, an=1, ar=3)
        + question(name)
        + record(name, 1, b"abcd")
        + opt()
        + 2 * record(name, 1, b"efgh")
    )
    # What loadbalance turns, and names that lead into it: to an owner, an address, an exchange.
    moving = b"".join(record(b"\xc0\x0c", 1, b"\1%c\0\x09" % (97 + i)) for i in range(4))
    mail = b"".join(record(b"\xc0\x0c", 15, b"\0%c\2m%c\xc0\x0c" % (i, 97 + i)) for i in range(4))
    for owner in (b"\xc0\x0c", b"\xc0\x17", b"\xc0\x23", b"\xc0\x33", b"\xc0\x25", b"\xc0\x38"):
        for body in (moving, mail):
            answers = header(flags=RESPONSE, an=4, ar=1) + question(labels(b"www", b"a"))
            yield answers + body + record(owner, 16, b"\1x")
    for owner in (b"\xc0\x0c", b"\1a\xc0\x1f", b"\xc0\x1f", b"\xc0\x02", b"\x41a\0"):
        yield header(flags=RESPONSE, an=1) + question(labels(b"a")) + record(owner, 5, b"\1x" + owner)


def write(folder: Path, octets: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(octets).hexdigest()).write_bytes(octets)


def main() -> None:
    """Write both corpora."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for packet in queries():
        write(folder / "query", packet)
    # Reply limit, age (0.1 s), lifetime (s), flags, octets copied; see _targets.pyx.
    parameters = [
        struct.pack("!HHBBH", 512, 31, 30, 0x03, 0),
        struct.pack("!HHBBH", 1232, 400, 30, 0x0D, 0),
        struct.pack("!HHBBH", 65535, 0, 0, 0x80, 300),
    ]
    for i, message in enumerate(responses()):
        write(folder / "response", parameters[i % len(parameters)] + message)


if __name__ == "__main__":
    main()
