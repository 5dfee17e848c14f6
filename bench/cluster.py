# SPDX-License-Identifier: Apache-2.0
"""What is behind a node's cache, and the cache with RKE2's Corefile, as a bench needs them.

CoreDNS serves the cluster's zone with the TTLs of its kubernetes plugin and logs each question; services may
be added while it runs. A scripted resolver answers for names outside.
"""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.pods import CLUSTER, Host
from bench.servers import ROOT, Upstream
from tests.mock_upstream import MockUpstream, Question, Reply, answer, failure, mock_upstream, nxdomain
from tests.peers import run as peers

TTL_S = 5  # of services and denials; CoreDNS's kubernetes plugin
_RELOAD = "200ms"  # how often CoreDNS looks for another serial

_COREDNS = """
.:{port} {{
    bind {address}
    errors
    log . "asked {{type}} {{name}} {{rcode}}"
    file {zone} {cluster} {{
        reload {reload}
    }}
}}
"""

_RKE2 = ROOT / "tests" / "data" / "corefiles" / "rke2-iptables.Corefile"
_ADDRESSES = "169.254.20.10 10.43.0.10"
PROGRAMS = {
    "fastdns": [
        sys.executable,
        "-P",
        "-c",
        "import sys; from fastdns.commands.nodecache import main; sys.exit(main())",
    ],
    "node-cache": [],
}
"""Command lines that take node-cache's arguments; empty: the peer of that name."""


@dataclass
class Cluster:
    """A running CoreDNS."""

    peer: peers.Peer
    _log: Path
    _zone: Path
    _hosts: list[Host]
    _serial: int = 1

    def add(self, host: Host) -> None:
        """One service more; CoreDNS has it a moment later."""
        self._hosts.append(host)
        self._serial += 1
        _write_zone(self._zone, self._hosts, self._serial)

    def position(self) -> int:
        """Where its log ends now."""
        return self._log.stat().st_size

    def asked(self, begin: int, end: int) -> Counter[tuple[str, str, str]]:
        """Type, name and rcode of the questions in a part of its log."""
        with self._log.open("rb") as log:
            log.seek(begin)
            lines = log.read(end - begin).decode().splitlines()
        found: Counter[tuple[str, str, str]] = Counter()
        for line in lines:
            _, mark, words = line.partition("asked ")
            if mark:
                qtype, name, rcode = words.split()
                found[qtype, name.rstrip(".").lower(), rcode] += 1
        return found


def _write_zone(path: Path, hosts: Iterable[Host], serial: int) -> None:
    # Without NS records: the kubernetes plugin has none in its answers.
    lines = [
        f"{CLUSTER}. {TTL_S} IN SOA ns.dns.{CLUSTER}. hostmaster.{CLUSTER}. {serial} 7200 1800 86400 {TTL_S}",
        *(f"{host.name}. {TTL_S} IN A {address}" for host in hosts for address in sorted(host.addresses)),
    ]
    beside = path.with_suffix(".new")
    beside.write_text("\n".join([*lines, ""]), encoding="ascii")
    beside.replace(path)


@contextlib.contextmanager
def coredns(hosts: Iterable[Host], cpus: Iterable[int]) -> Iterator[Cluster]:
    """CoreDNS with these services; it logs what it is asked."""
    program = peers.find_program("coredns")
    scratch: list[Path] = []
    mine = list(hosts)

    def configure(directory: Path, port: int) -> Sequence[str]:
        scratch[:] = [directory]
        _write_zone(directory / "cluster.zone", mine, 1)
        corefile = directory / "Corefile"
        corefile.write_text(
            _COREDNS.format(
                port=port,
                address=peers.LOOPBACK,
                zone=directory / "cluster.zone",
                cluster=CLUSTER,
                reload=_RELOAD,
            ),
            encoding="ascii",
        )
        return [program, "-conf", str(corefile)]

    with peers.start("coredns", configure, cpus=cpus) as peer:
        yield Cluster(peer, scratch[0] / "log", scratch[0] / "cluster.zone", mine)


@contextlib.contextmanager
def resolver(hosts: Iterable[Host], delay_s: float) -> Iterator[MockUpstream]:
    """A resolver for names outside, so far away; in a thread of this process."""
    known = {host.name: host for host in hosts}

    def script(question: Question) -> Sequence[Reply]:
        host = known.get(question.name)
        if host is not None:
            wire = answer(question, *host.addresses, ttl=host.ttl_s)
        else:
            wire = (
                failure(question) if question.name == "." else nxdomain(question)
            )  # the root: a health check
        return [Reply(wire, delay_s)]

    with mock_upstream(script) as upstream:
        yield upstream


def rke2(cluster: Upstream, outside: Upstream) -> Callable[[int], str]:
    """The Corefile of RKE2's chart by the port to listen on; addresses and other ports are loopback's."""

    def corefile(port: int) -> str:
        text = _RKE2.read_text(encoding="utf-8")
        for old, new in (
            (_ADDRESSES, peers.LOOPBACK),
            ("169.254.20.10:8080", f"{peers.LOOPBACK}:{peers.free_port()}"),
            (":9253", f"{peers.LOOPBACK}:{peers.free_port()}"),
            (":53 ", f":{port} "),
            ("__PILLAR__CLUSTER__DNS__", f"{cluster[0]}:{cluster[1]}"),
            ("__PILLAR__UPSTREAM__SERVERS__", f"{outside[0]}:{outside[1]}"),
        ):
            text = text.replace(old, new)
        return text

    return corefile


@contextlib.contextmanager
def node(name: str, corefile: Callable[[int], str], cpus: Iterable[int]) -> Iterator[peers.Peer]:
    """One of PROGRAMS with the Corefile that `corefile` makes for a port."""

    def configure(directory: Path, port: int) -> Sequence[str]:
        # node-cache watches the template's whole directory; in one of its own nothing else wakes it.
        template = directory / "base" / "Corefile.base"
        template.parent.mkdir(exist_ok=True)
        template.write_text(corefile(port), encoding="utf-8")
        return [
            *(PROGRAMS[name] or [peers.find_program(name)]),
            "-localip", peers.LOOPBACK, "-p", str(port),
            "-setupinterface=false", "-setupiptables=false", "-skipteardown=true",
            "-basecorefile", str(template), "-conf", str(directory / "Corefile"),
            "-metrics-listen-address", f"{peers.LOOPBACK}:{peers.free_port()}",
        ]  # fmt: skip

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with peers.start(name, configure, cpus=cpus, environment=environment) as peer:
        yield peer
