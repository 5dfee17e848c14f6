# SPDX-License-Identifier: Apache-2.0
"""The clients that pods really use: the resolver libraries of glibc and musl, kdig and dnsperf.

In a network namespace, because a C library asks port 53, and with a resolv.conf of the test's own,
bind-mounted where only the program sees it. `attempts:1`: a library that had to ask twice would hide a lost
question.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from tests.counts import count
from tests.peers import make_zone
from tests.peers import run as peers
from tests.peers.run import Peer
from tests.system.clients import TCP, Client, assert_same, assert_truncated_part
from tests.system.netns import network, skip_without_network_namespaces
from tests.system.server import Server, serve
from tests.system.test_same_answers import CLUSTER_QUESTIONS, CLUSTER_ZONES, SAMPLE

pytestmark = skip_without_network_namespaces

SOURCE = Path(__file__).parent / "resolvers" / "lookup.c"
COMPILERS = {
    "glibc": ["gcc", "-O1", "-Wall", "-Werror", str(SOURCE), "-lresolv"],
    "musl": ["musl-gcc", "-static", "-O1", "-Wall", "-Werror", str(SOURCE)],
}
RESOLV_CONF = "nameserver 127.0.0.1\noptions ndots:1 timeout:3 attempts:1\n"
HOST_NOT_FOUND, NO_DATA = 1, 4  # netdb.h
MUSL_TYPES = 255  # its res_query doesn't make questions for types above


@pytest.fixture(scope="module")
def on_port_53() -> Iterator[tuple[Server, Peer]]:
    """A server on 127.0.0.1:53 and [::1]:53 of a namespace, CoreDNS behind it; the tests run in there."""
    with network() as net, net.entered(), peers.coredns() as upstream:
        with serve(upstream.server, listen=[("127.0.0.1", 53), ("::1", 53)]) as server:
            yield server, upstream


@pytest.fixture(scope="module", params=COMPILERS)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The C program, linked with one of the libraries."""
    compiler = COMPILERS[request.param]
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    program = tmp_path_factory.mktemp(request.param) / "lookup"
    subprocess.run([*compiler[:1], "-o", str(program), *compiler[1:]], check=True)
    return request.param, program


def look_up(program: Path, lines: Sequence[str]) -> list[str]:
    """Give the lines to the program; its result lines. It sees RESOLV_CONF as /etc/resolv.conf."""
    resolv_conf = program.with_name("resolv.conf")
    resolv_conf.write_text(RESOLV_CONF, encoding="ascii")
    # The link may lead elsewhere (systemd): bind over what it leads to.
    mount = 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && exec "$2"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", str(resolv_conf), str(program)],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    results = done.stdout.splitlines()
    assert len(results) == len(lines), done.stderr
    return results


def number_of(rdtype: str) -> int:
    return int(dns.rdatatype.from_text(rdtype))


def test_res_query(on_port_53: tuple[Server, Peer], library: tuple[str, Path]) -> None:
    """The sample through res_query: each response is CoreDNS's, whole or, in musl, truncated."""
    _, upstream = on_port_53
    libc, program = library
    questions = [
        (name, rdtype) for name, rdtype in SAMPLE if libc == "glibc" or number_of(rdtype) <= MUSL_TYPES
    ]
    lines = [f"query {name} {number_of(rdtype)}" for name, rdtype in questions]
    truncated = 0
    with Client(upstream.server) as reference:
        for (name, rdtype), result in zip(questions, look_up(program, lines), strict=True):
            what = f"{libc}: {name} {rdtype}"
            theirs = reference.ask(name, rdtype, TCP)
            verdict, _, text = result.partition(" ")
            if not theirs.answer:
                reason = NO_DATA if theirs.rcode() == dns.rcode.NOERROR else HOST_NOT_FOUND
                assert (verdict, int(text)) == ("error", reason), what
                continue
            if libc == "musl" and result == f"error {NO_DATA}":
                # Its way to say that not one record had room in 512 octets.
                short = reference.ask(name, rdtype)
                assert short.flags & dns.flags.TC, what
                assert not short.answer, what
                truncated += 1
                continue
            assert verdict == "ok", f"{what}: {result}"
            ours = dns.message.from_wire(bytes.fromhex(text), raise_on_truncation=False)
            if ours.flags & dns.flags.TC:
                truncated += 1
                assert_truncated_part(ours, theirs, what)
            else:
                assert_same(ours, theirs, what)
    # glibc turns to TCP; musl doesn't know it before 1.2.4.
    assert truncated == 0 if libc == "glibc" else truncated > 0


def test_getaddrinfo(on_port_53: tuple[Server, Peer], library: tuple[str, Path]) -> None:
    """A and AAAA at once from one socket, as getaddrinfo asks: the addresses are those of the zone file."""
    libc, program = library
    zone: dict[str, set[str]] = {}
    for record in make_zone.zones()[make_zone.CLUSTER]:
        if record.rtype in ("A", "AAAA") and not record.owner.startswith("*"):
            zone.setdefault(record.owner, set()).add(record.rdata)
    stride = count("zone_stride")
    names = [name for place, name in enumerate(zone) if place % stride == 0 or "svc" not in name]
    aliases = {f"alias-2.default.svc.{make_zone.CLUSTER}": f"nginx-svc.default.svc.{make_zone.CLUSTER}"}
    missing = f"no-such-service.default.svc.{make_zone.CLUSTER}"
    results = look_up(program, [f"address {name}" for name in (*names, *aliases, missing)])
    expected = [zone[name] for name in names] + [zone[target] for target in aliases.values()]
    for name, result, addresses in zip((*names, *aliases), results[:-1], expected, strict=True):
        verdict, *found = result.split()
        assert verdict == "ok", f"{libc}: {name}: {result}"
        if len(addresses) > 40:  # more than a libc takes out of UDP
            assert set(found) <= addresses, f"{libc}: {name}"
            assert found
        else:
            assert set(found) == addresses, f"{libc}: {name}"
    assert results[-1].startswith("error"), results[-1]


def test_getnameinfo(on_port_53: tuple[Server, Peer], library: tuple[str, Path]) -> None:
    """PTR of services, IPv4 and IPv6, and of a headless service's endpoint."""
    libc, program = library
    addresses = {
        "10.43.10.20": "nginx-svc.default.svc.cluster.local",
        "fd00:43::a14": "nginx-svc.default.svc.cluster.local",
        "10.42.1.0": "10-42-1-0.headless-3.data.svc.cluster.local",
    }
    results = look_up(program, [f"name {address}" for address in addresses] + ["name 10.43.255.254"])
    assert results[:-1] == [f"ok {name}" for name in addresses.values()], libc
    assert results[-1].startswith("error")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "options",
    [(), ("+tcp",), ("+edns", "+bufsize=1232"), ("+dnssec",), ("+tcp", "+keepopen", "+dnssec"), ("+noedns",)],
    ids=" ".join,
)
def test_kdig(on_port_53: tuple[Server, Peer], address: str, options: tuple[str, ...]) -> None:
    """kdig, one run for many questions: the same lines of records as from CoreDNS, TTLs aside."""
    _, upstream = on_port_53
    if shutil.which("kdig") is None:
        pytest.skip("needs kdig: apt-get install knot-dnsutils")
    questions = SAMPLE[:: 1 + len(SAMPLE) // 120]
    ours = kdig(address, 53, questions, options)
    theirs = kdig(upstream.address, upstream.port, questions, options)
    assert ours == theirs
    assert len(ours) > len(questions) / 2


def kdig(address: str, port: int, questions: Sequence[tuple[str, str]], options: Sequence[str]) -> list[str]:
    """The record lines that kdig prints, sorted, without TTLs."""
    asked = [word for name, rdtype in questions for word in ("-q", name, "-t", rdtype)]
    shown = ["+noall", "+answer", "+authority", "+additional", "+retry=0", "+time=5"]
    done = subprocess.run(
        ["kdig", f"@{address}", "-p", str(port), *shown, *options, *asked],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = []
    for line in done.stdout.splitlines():
        assert "WARNING" not in line or "truncated reply" in line, line
        if line and not line.startswith(";"):
            owner, _ttl, rest = line.split(maxsplit=2)
            records.append(f"{owner.lower()} {rest}")
    return sorted(records)


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_dnsperf(on_port_53: tuple[Server, Peer], tmp_path: Path, mode: str) -> None:
    """dnsperf asks for all names twice at full speed: none lost, and the rcodes that the zone has."""
    server, _ = on_port_53
    if shutil.which("dnsperf") is None:
        pytest.skip("needs dnsperf")
    missing = [(f"no-such-{number}.default.svc.cluster.local", "A") for number in range(100)]
    queries = tmp_path / "queries"
    asked_once = CLUSTER_QUESTIONS + missing
    queries.write_text("".join(f"{name} {rdtype}\n" for name, rdtype in asked_once), encoding="ascii")
    command = ["dnsperf", "-s", "127.0.0.1", "-d", str(queries), "-n", "2", "-c", "8", "-t", "5", "-m", mode]
    before = server.stats()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = 2 * len(asked_once)
    assert f"Queries sent:         {asked}\n" in done.stdout, done.stdout
    assert f"Queries completed:    {asked} (100.00%)" in done.stdout, done.stdout
    assert f"NXDOMAIN {2 * len(missing)} (" in done.stdout, done.stdout
    assert f"NOERROR {asked - 2 * len(missing)} (" in done.stdout, done.stdout
    after = server.stats()
    assert after.counter(f"{mode}_queries") - before.counter(f"{mode}_queries") == asked
    assert after.counter("servfail") == before.counter("servfail")


def test_zone_has_what_these_tests_need() -> None:
    """The sample has every type of the three zones, so that the tests above mean what they say."""
    types = {rdtype for zone in CLUSTER_ZONES for _, rdtype in make_zone.questions(zone)}
    assert types <= {rdtype for _, rdtype in SAMPLE}
