# SPDX-License-Identifier: Apache-2.0
"""The test cluster: its zones as files, and every name in them as a list.

Run as ``python tests/peers/make_zone.py DIRECTORY``. Deterministic: no randomness, no time. The records have
the form of CoreDNS's kubernetes plugin (TTL 5, SRV for each named port, headless services by their
endpoints, PTRs of services and pods), and beside them stands what a plain zone may hold: wildcards, CNAMEs,
MX, CAA, HTTPS, SVCB, unknown types, long TXT.
"""

import ipaddress
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "cluster.local"
REVERSE_V4 = "10.in-addr.arpa"
REVERSE_V6 = "0.0.0.0.0.0.0.0.0.0.0.0.3.4.0.0.0.0.d.f.ip6.arpa"
EXTERNAL = "example.test"
TTL = 5  # s; the kubernetes plugin's
SERIAL = 1

_POD_NET = ipaddress.IPv4Address("10.42.0.0")
_SERVICE_NET = ipaddress.IPv4Address("10.43.0.0")
_SERVICE_NET_V6 = ipaddress.IPv6Address("fd00:43::")

HEADLESS_SIZES = (3, 60, 1000)
_NAMESPACES = ("default", "kube-system", "monitoring", "shop", "data")
_SERVICES_EACH = 40


@dataclass(frozen=True)
class Record:
    """One line of a zone; `owner` is absolute, without the last dot."""

    owner: str
    rtype: str
    rdata: str
    ttl: int = TTL

    def line(self) -> str:
        return f"{self.owner}. {self.ttl} IN {self.rtype} {self.rdata}"


def _soa(zone: str, ttl: int = TTL, minimum: int = TTL) -> Record:
    return Record(
        zone, "SOA", f"ns.dns.{CLUSTER}. hostmaster.{CLUSTER}. {SERIAL} 7200 1800 86400 {minimum}", ttl
    )


def _pointer(address: ipaddress.IPv4Address | ipaddress.IPv6Address, target: str) -> Record:
    return Record(address.reverse_pointer, "PTR", f"{target}.")


def _service(name: str, number: int, port: int = 80) -> Iterator[Record]:
    """A service with a cluster IP: A, AAAA, SRV of its named port, PTRs. `number` makes the address."""
    v4 = _SERVICE_NET + number
    v6 = _SERVICE_NET_V6 + number
    yield Record(name, "A", str(v4))
    yield Record(name, "AAAA", str(v6))
    yield Record(f"_http._tcp.{name}", "SRV", f"0 100 {port} {name}.")
    yield _pointer(v4, name)
    yield _pointer(v6, name)


def _headless(name: str, size: int, first_pod: int) -> Iterator[Record]:
    """A headless service: an A record for each endpoint, and names, SRVs and PTRs of the endpoints."""
    for pod in range(first_pod, first_pod + size):
        address = _POD_NET + pod
        endpoint = f"{str(address).replace('.', '-')}.{name}"
        yield Record(name, "A", str(address))
        yield Record(endpoint, "A", str(address))
        yield Record(f"_http._tcp.{name}", "SRV", f"0 {max(1, 100 // size)} 8080 {endpoint}.")
        yield _pointer(address, endpoint)


def _services() -> Iterator[Record]:
    svc = f"svc.{CLUSTER}"
    yield from _service(f"nginx-svc.default.{svc}", 10 * 256 + 20)  # 10.43.10.20, the README's example
    yield from _service(f"kubernetes.default.{svc}", 1, 443)
    yield Record(f"_https._tcp.kubernetes.default.{svc}", "SRV", f"0 100 443 kubernetes.default.{svc}.")
    yield from _service(f"kube-dns.kube-system.{svc}", 10, 53)
    yield Record(f"_dns._udp.kube-dns.kube-system.{svc}", "SRV", f"0 100 53 kube-dns.kube-system.{svc}.")
    yield Record(f"_dns-tcp._tcp.kube-dns.kube-system.{svc}", "SRV", f"0 100 53 kube-dns.kube-system.{svc}.")
    for place, namespace in enumerate(_NAMESPACES):
        for number in range(_SERVICES_EACH):
            yield from _service(f"app-{number:03d}.{namespace}.{svc}", 20 * 256 + place * 256 + number)
    first_pod = 256
    for size in HEADLESS_SIZES:
        yield from _headless(f"headless-{size}.data.{svc}", size, first_pod)
        first_pod += 1024
    yield Record(f"external-db.shop.{svc}", "CNAME", f"db.{EXTERNAL}.")  # ExternalName
    yield Record(f"alias.default.{svc}", "CNAME", f"nginx-svc.default.{svc}.")
    yield Record(f"alias-2.default.{svc}", "CNAME", f"alias.default.{svc}.")


def _odd_records() -> Iterator[Record]:
    """Types and shapes that a cluster's zone seldom has and a cache must hand through octet for octet."""
    odd = f"odd.{CLUSTER}"
    yield Record(f"txt.{odd}", "TXT", '"short" "two strings" "with \\"quotes\\" and \\255"')
    yield Record(f"long-txt.{odd}", "TXT", " ".join(f'"{chr(97 + i) * 250}"' for i in range(8)))
    yield Record(f"unknown.{odd}", "TYPE65400", "\\# 6 010203040506")
    yield Record(f"unknown-empty.{odd}", "TYPE65401", "\\# 0")
    yield Record(
        f"https.{odd}", "HTTPS", "1 . alpn=h2,h3 ipv4hint=10.43.10.20 ipv6hint=fd00:43::a14 port=8443"
    )
    yield Record(f"https-alias.{odd}", "HTTPS", f"0 https.{odd}.")
    yield Record(f"_dns.svcb.{odd}", "SVCB", f"1 nginx-svc.default.svc.{CLUSTER}. alpn=dot port=853")
    yield Record(f"mx.{odd}", "MX", f"10 nginx-svc.default.svc.{CLUSTER}.")
    yield Record(f"mx.{odd}", "MX", f"20 mail.{EXTERNAL}.")
    yield Record(f"caa.{odd}", "CAA", '0 issue "ca.example.test"')
    yield Record(f"naptr.{odd}", "NAPTR", f'100 10 "S" "SIP+D2U" "" _sip._udp.{odd}.')
    yield Record(f"sshfp.{odd}", "SSHFP", "4 2 " + "0123456789abcdef" * 4)
    yield Record(f"tlsa.{odd}", "TLSA", "3 1 1 " + "fedcba9876543210" * 4)
    yield Record(f"loc.{odd}", "LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m")
    yield Record(f"hinfo.{odd}", "HINFO", '"x86-64" "Linux"')
    yield Record(f"*.wild.{odd}", "A", "10.43.99.1")
    yield Record(f"*.wild.{odd}", "TXT", '"any name"')
    yield Record(f"ttl0.{odd}", "A", "10.43.99.2", 0)
    yield Record(f"ttl-day.{odd}", "A", "10.43.99.3", 86400)
    yield Record(f"mixed-ttl.{odd}", "CNAME", f"ttl-day.{odd}.", 30)
    yield Record(
        f"deep.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.{odd}", "A", "10.43.99.4"
    )  # its parents are empty non-terminals
    yield Record(f"{'x' * 63}.{'y' * 63}.{'z' * 63}.{odd}", "A", "10.43.99.5")
    yield Record(f"under_score.{odd}", "A", "10.43.99.6")


def zones() -> dict[str, list[Record]]:
    """Zone name to its records, the SOA first."""
    cluster: list[Record] = [
        _soa(CLUSTER),
        Record(CLUSTER, "NS", f"ns.dns.{CLUSTER}."),
        Record(f"ns.dns.{CLUSTER}", "A", "10.43.0.10"),
        Record(f"dns-version.{CLUSTER}", "TXT", '"1.1.0"'),
    ]
    reverse_v4 = [_soa(REVERSE_V4), Record(REVERSE_V4, "NS", f"ns.dns.{CLUSTER}.")]
    reverse_v6 = [_soa(REVERSE_V6), Record(REVERSE_V6, "NS", f"ns.dns.{CLUSTER}.")]
    for record in (*_services(), *_odd_records()):
        if record.owner.endswith(REVERSE_V4):
            reverse_v4.append(record)
        elif record.owner.endswith(REVERSE_V6):
            reverse_v6.append(record)
        else:
            cluster.append(record)
    external = [
        _soa(EXTERNAL, 3600, 60),
        Record(EXTERNAL, "NS", f"ns.dns.{EXTERNAL}.", 3600),
        Record(f"ns.dns.{EXTERNAL}", "A", "192.0.2.53", 3600),
        Record(EXTERNAL, "A", "192.0.2.1", 300),
        Record(EXTERNAL, "AAAA", "2001:db8::1", 300),
        Record(EXTERNAL, "MX", f"10 mail.{EXTERNAL}.", 300),
        Record(f"www.{EXTERNAL}", "CNAME", f"{EXTERNAL}.", 300),
        Record(f"db.{EXTERNAL}", "A", "192.0.2.10", 300),
        Record(f"mail.{EXTERNAL}", "A", "192.0.2.25", 300),
        Record(f"v6only.{EXTERNAL}", "AAAA", "2001:db8::6", 300),
        Record(f"short.{EXTERNAL}", "A", "192.0.2.30", 1),
        *(Record(f"many.{EXTERNAL}", "A", f"198.51.100.{host}", 300) for host in range(1, 101)),
        *(Record(f"host-{host:03d}.{EXTERNAL}", "A", f"192.0.2.{host}", 300) for host in range(100, 200)),
    ]
    return {CLUSTER: cluster, REVERSE_V4: reverse_v4, REVERSE_V6: reverse_v6, EXTERNAL: external}


def questions(zone: str | None = None) -> list[tuple[str, str]]:
    """(name, type) of every RRset in `zone`, or in all; wildcards' own names are left out."""
    found = {
        (record.owner, record.rtype): None
        for name, records in zones().items()
        if zone is None or name == zone
        for record in records
        if not record.owner.startswith("*.")
    }
    return list(found)


def write(directory: Path) -> dict[str, Path]:
    """Write each zone to a file in `directory`; zone name to file."""
    files: dict[str, Path] = {}
    for zone, records in zones().items():
        files[zone] = directory / f"{zone}.zone"
        text = "\n".join(record.line() for record in records)
        files[zone].write_text(f"$ORIGIN .\n{text}\n", encoding="ascii")
    return files


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    target.mkdir(parents=True, exist_ok=True)
    for zone_name, zone_file in write(target).items():
        print(f"{zone_file}: {zone_name}, {len(questions(zone_name))} RRsets")
