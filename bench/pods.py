# SPDX-License-Identifier: Apache-2.0
"""What pods look up, and how: applications' names, a sequence of lookups, and a stub resolver under ndots:5.

A lookup is getaddrinfo of glibc or musl: A and AAAA at once from one socket, for each name of the search list
in turn, until one has an address.
"""

import asyncio
import ipaddress
import itertools
import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastdns.loadgen.queries import encode_query

NAMESPACE = "team"  # of the pods
CLUSTER = "cluster.local"
SEARCH = (f"{NAMESPACE}.svc.{CLUSTER}", f"svc.{CLUSTER}", CLUSTER)
NDOTS = 5
PATIENCE_S = 5.0  # of libc, for one attempt

_NAMESPACES = (
    NAMESPACE,
    "shop",
    "billing",
    "search",
    "auth",
    "media",
    "jobs",
    "data",
    "monitoring",
    "ingress",
)
_SERVICES = 200
_DOMAINS = 40
_HOSTS = 300
_TLDS = ("com", "io", "net", "org")
_LABELS = ("api", "www", "s3.eu-west-1", "auth", "cdn", "events", "hooks.eu", "storage", "mx", "login")
_TTLS_S = (30, 60, 120, 300)
_AAAA_SHARE = 0.4  # of hosts outside
_FULL_SHARE = 0.2  # of services that are written with the cluster's domain
_TYPE_A, _TYPE_AAAA = 1, 28
_HEADER = struct.Struct("!2xHHHHH")
_RECORD = struct.Struct("!HHIH")


@dataclass(frozen=True, slots=True)
class Host:
    """Something with addresses."""

    written: str  #: as the application's configuration has it
    name: str  #: absolute, without the last dot
    addresses: frozenset[str]
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """One of a sequence."""

    at_s: float
    host: Host


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a lookup."""

    addresses: frozenset[str]
    failures: int  #: replies that are neither NOERROR nor NXDOMAIN, and replies that did not come
    began: float  #: time.monotonic()
    wait_s: float


def services(seed: int) -> list[Host]:
    """The cluster's, with an IPv4 address each, the most asked first."""
    chance = random.Random(seed)
    found = []
    for number in range(_SERVICES):
        namespace = _NAMESPACES[number % len(_NAMESPACES)]
        short = f"app-{number:03d}" if namespace == NAMESPACE else f"app-{number:03d}.{namespace}"
        name = f"app-{number:03d}.{namespace}.svc.{CLUSTER}"
        address = str(ipaddress.IPv4Address("10.43.1.0") + number)
        found.append(Host(name if chance.random() < _FULL_SHARE else short, name, frozenset({address}), 5))
    return found


def hosts_outside(seed: int) -> list[Host]:
    """Hosts of other people's domains, the most asked first."""
    chance = random.Random(seed)
    domains = [f"vendor-{number:02d}.{_TLDS[number % len(_TLDS)]}" for number in range(_DOMAINS)]
    names = [f"{label}.{domain}" for label, domain in itertools.product(_LABELS, domains)]
    found = []
    for number, name in enumerate(chance.sample(names, _HOSTS)):
        addresses = {str(ipaddress.IPv4Address("198.18.0.0") + number)}
        if chance.random() < _AAAA_SHARE:
            addresses.add(str(ipaddress.IPv6Address("2001:db8::") + number))
        found.append(Host(name, name, frozenset(addresses), chance.choice(_TTLS_S)))
    return found


def sequence(
    inside: Sequence[Host],
    outside: Sequence[Host],
    rate: float,
    seconds: float,
    seed: int,
    exponent: float = 1.0,
) -> Iterator[Lookup]:
    """Lookups at random moments, half of them inside; which host, by Zipf's law."""
    chance = random.Random(seed)
    weights = [
        list(itertools.accumulate((place + 1) ** -exponent for place in range(len(hosts))))
        for hosts in (inside, outside)
    ]
    at_s = chance.expovariate(rate)
    while at_s < seconds:
        side = chance.random() < 0.5
        (host,) = chance.choices((inside, outside)[side], cum_weights=weights[side])
        yield Lookup(at_s, host)
        at_s += chance.expovariate(rate)


def candidates(written: str) -> list[str]:
    """What is asked in turn for a name with fewer than NDOTS dots; resolv.conf(5)."""
    below = [f"{written}.{domain}" for domain in SEARCH]
    return [written, *below] if written.count(".") >= NDOTS else [*below, written]


async def look_up(server: tuple[str, int], written: str) -> Found:
    """getaddrinfo: the first of the candidates that has an address."""
    began = time.monotonic()
    failures = 0
    addresses: set[str] = set()
    for name in candidates(written):
        replies = await _ask_both(server, name)
        failures += 2 - len(replies)
        for reply in replies:
            rcode, more = read_reply(reply)
            failures += rcode not in (0, 3)  # NOERROR, NXDOMAIN
            addresses |= more
        if addresses:
            break
    return Found(frozenset(addresses), failures, began, time.monotonic() - began)


async def _ask_both(server: tuple[str, int], name: str) -> list[bytes]:
    """The replies about A and AAAA that came in time."""
    loop = asyncio.get_running_loop()
    first = random.getrandbits(16)
    replies: dict[bytes, bytes] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server)
        for number, qtype in enumerate(("A", "AAAA")):
            message_id = (first + number) & 0xFFFF
            sock.send(message_id.to_bytes(2, "big") + encode_query(name, qtype)[2:])
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(replies) < 2:
                    reply = await loop.sock_recv(sock, 4096)
                    replies[reply[:2]] = reply
        except TimeoutError:
            pass
    return list(replies.values())


def read_reply(reply: bytes) -> tuple[int, set[str]]:
    """Its rcode and the addresses of its answer section."""
    flags, qdcount, ancount, _, _ = _HEADER.unpack_from(reply)
    pos = _HEADER.size
    for _ in range(qdcount):
        pos = _after_name(reply, pos) + 4
    addresses = set()
    for _ in range(ancount):
        pos = _after_name(reply, pos)
        rtype, _, _, octets = _RECORD.unpack_from(reply, pos)
        pos += _RECORD.size
        if rtype in (_TYPE_A, _TYPE_AAAA):
            addresses.add(str(ipaddress.ip_address(reply[pos : pos + octets])))
        pos += octets
    return flags & 15, addresses


def _after_name(message: bytes, pos: int) -> int:
    while length := message[pos]:
        if length & 0xC0:  # a compression pointer ends a name; RFC 1035 s4.1.4
            return pos + 2
        pos += length + 1
    return pos + 1
