# SPDX-License-Identifier: Apache-2.0
"""A small authoritative server over UDP and TCP: what fastdns asks in the demo.

    python -m fastdns.demo.upstream --listen 127.0.0.1:0 [ZONE_FILE]...

prints the address that it listens on, one line, once it does, and serves until SIGTERM or
SIGINT. Its zones are real zone files with CNAMEs, negative answers and truncation as RFC 1034
and 2308 have them; it has no cache, no forwarding, no transfers.
"""

import argparse
import asyncio
import contextlib
import signal
import struct
import sys
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Final, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.rrset
import dns.zone

from fastdns.control.addresses import Endpoint, parse_endpoint

ZONE_FILES: Final = ("cluster.zone", "reverse.zone", "example.zone")

_CNAMES_MAX: Final = 8
_UDP_SIZE: Final = 1232
_TCP_IDLE_S: Final = 30.0


class Zones:
    """Zones by origin, and the way to answer a message from them."""

    def __init__(self, zones: Iterable[dns.zone.Zone]) -> None:
        self._zones = {zone.origin: zone for zone in zones if zone.origin is not None}
        # Every name that exists, the empty ones between a zone's names too (RFC 4592 s2.2.2).
        self._names: set[dns.name.Name] = set()
        for origin, zone in self._zones.items():
            for node in zone.nodes:
                name = node
                while name not in self._names and name.is_subdomain(origin):
                    self._names.add(name)
                    name = name.parent()

    @classmethod
    def load(cls, paths: Iterable[Path] = ()) -> "Zones":
        """The zones of these files; without any, the demo's own."""
        texts = [path.read_text(encoding="ascii") for path in paths]
        if not texts:
            folder = resources.files("fastdns.demo")
            texts = [folder.joinpath(name).read_text(encoding="ascii") for name in ZONE_FILES]
        return cls(dns.zone.from_text(text, relativize=False, check_origin=True) for text in texts)

    def answer(self, wire: bytes, limit: int | None) -> bytes | None:
        """The reply to a message. `limit`: octets over UDP without EDNS; None over TCP."""
        try:
            query = dns.message.from_wire(wire, ignore_trailing=False)
        except dns.exception.DNSException:
            return _format_error(wire)
        if query.flags & dns.flags.QR:
            return None
        reply = dns.message.make_response(query, our_payload=_UDP_SIZE)
        if query.opcode() != dns.opcode.QUERY:
            reply.set_rcode(dns.rcode.NOTIMP)
        elif len(query.question) != 1:
            reply.set_rcode(dns.rcode.FORMERR)
        else:
            question = query.question[0]
            if dns.rdatatype.is_metatype(question.rdtype) or question.rdclass != dns.rdataclass.IN:
                reply.set_rcode(dns.rcode.REFUSED)
            else:
                self._fill(reply, question.name, question.rdtype)
        size = 65535 if limit is None else max(limit, query.payload if query.edns >= 0 else 0)
        return _to_wire(reply, size)

    def _fill(
        self, reply: dns.message.Message, qname: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> None:
        """RFC 1034 s4.3.2 for zones without delegations and wildcards."""
        name = qname
        for _ in range(_CNAMES_MAX):
            zone = self._zone_of(name)
            if zone is None:
                if not reply.answer:
                    reply.set_rcode(dns.rcode.REFUSED)
                return
            reply.flags |= dns.flags.AA
            found = zone.get_rdataset(name, rdtype)
            if found is not None:
                _add(reply.answer, reply, name, found)
                return
            alias = zone.get_rdataset(name, dns.rdatatype.CNAME)
            if alias is None:
                if name not in self._names:
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                self._add_soa(reply, zone)
                return
            _add(reply.answer, reply, name, alias)
            name = alias[0].target
        reply.set_rcode(dns.rcode.SERVFAIL)

    def _zone_of(self, name: dns.name.Name) -> dns.zone.Zone | None:
        for depth in range(len(name.labels)):
            zone = self._zones.get(dns.name.Name(name.labels[depth:]))
            if zone is not None:
                return zone
        return None

    @staticmethod
    def _add_soa(reply: dns.message.Message, zone: dns.zone.Zone) -> None:
        """The SOA of a negative answer, its TTL no more than MINIMUM; RFC 2308 s3."""
        assert zone.origin is not None
        soa = zone.find_rdataset(zone.origin, dns.rdatatype.SOA)
        data = soa[0]
        assert isinstance(data, dns.rdtypes.ANY.SOA.SOA)
        negative = dns.rdataset.from_rdata(min(soa.ttl, data.minimum), data)
        _add(reply.authority, reply, zone.origin, negative)


def _add(
    section: list[dns.rrset.RRset],
    reply: dns.message.Message,
    name: dns.name.Name,
    rdataset: dns.rdataset.Rdataset,
) -> None:
    rrset = reply.find_rrset(section, name, rdataset.rdclass, rdataset.rdtype, create=True)
    for rdata in rdataset:
        rrset.add(rdata, rdataset.ttl)


def _to_wire(reply: dns.message.Message, size: int) -> bytes:
    """The reply in at most `size` octets; TC and no records when it would be longer (RFC 2181 s9)."""
    try:
        return reply.to_wire(max_size=size)
    except dns.exception.TooBig:
        reply.flags |= dns.flags.TC
        reply.answer, reply.authority, reply.additional = [], [], []
        return reply.to_wire(max_size=size)


def _format_error(wire: bytes) -> bytes | None:
    """FORMERR with the ID that the sender knows, nothing for what has no header or is a response."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    return wire[:2] + bytes([0x80 | wire[2] & 0x79, dns.rcode.FORMERR]) + bytes(8)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, zones: Zones) -> None:
        self._zones = zones
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        reply = self._zones.answer(data, 512)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


async def _serve_connection(zones: Zones, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
        while True:
            async with asyncio.timeout(_TCP_IDLE_S):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                message = await reader.readexactly(length)
                reply = zones.answer(message, None)
                if reply is not None:
                    writer.write(struct.pack("!H", len(reply)) + reply)
                    await writer.drain()
    writer.close()


async def serve(zones: Zones, listen: Endpoint) -> None:
    """Answer on `listen` over UDP and TCP until SIGTERM or SIGINT; port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _serve_connection(zones, reader, writer)

    server = await asyncio.start_server(connected, listen.host, listen.port)
    port: int = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(zones), local_addr=(listen.host, port))
    print(Endpoint(listen.host, port), flush=True)
    await stopped.wait()
    transport.close()
    server.close()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``python -m fastdns.demo.upstream``."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdns.demo.upstream", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--listen", default="127.0.0.1:5301", metavar="ADDR:PORT", help="port 0: a free one")
    parser.add_argument("zones", nargs="*", type=Path, metavar="ZONE_FILE", help="default: the demo's zones")
    args = parser.parse_args(argv)
    host, _, port = args.listen.rpartition(":")
    listen = Endpoint(host, 0) if port == "0" else parse_endpoint(args.listen)
    try:
        asyncio.run(serve(Zones.load(args.zones), listen))
    except OSError as error:
        print(f"upstream: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
