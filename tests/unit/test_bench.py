# SPDX-License-Identifier: Apache-2.0
"""The benches' own parts: floor and upstream answer as told, CPU time is all of a tree's, figures add up."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from bench import measure, report, servers
from bench.cpu import tree_cpu_s
from bench.measure import BenchError, Sample
from fastdns.loadgen import LoadResult, LoadSpec, numbered_names, run
from tests.peers.run import LOOPBACK, Peer, PeerMissing, start

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """floor and upstream, compiled for this session."""
    target: Path = tmp_path_factory.mktemp("bench-tools")
    make = ["make", "-s", "-f", "bench/bench.mk", "bench-tools", f"BENCH_BUILD={target}"]
    try:
        subprocess.run(make, cwd=servers.ROOT, check=True, timeout=60)
    except FileNotFoundError as error:
        raise PeerMissing(f"{error.filename} isn't here: apt-get install make gcc") from error
    return target


@pytest.fixture
def floor(tools: Path) -> Iterator[Peer]:
    with start("floor", lambda _, port: [str(tools / "floor"), LOOPBACK, str(port)]) as peer:
        yield peer


@pytest.fixture(params=["nx", "a"])
def upstream(tools: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Peer]]:
    mode = str(request.param)
    with start("upstream", lambda _, port: [str(tools / "upstream"), LOOPBACK, str(port), mode]) as peer:
        yield mode, peer


def ask(peer: Peer, name: str, qtype: str, **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, qtype, **options)  # type: ignore[arg-type]
    return dns.query.udp(query, peer.address, 5, peer.port)


def test_floor_flips_qr_and_nothing_else(floor: Peer) -> None:
    query = dns.message.make_query("www.example.test", "AAAA", use_edns=0)
    reply = dns.query.udp(query, floor.address, 5, floor.port)
    assert reply.flags == query.flags | dns.flags.QR
    reply.flags = query.flags
    assert reply.to_wire() == query.to_wire()


def test_floor_loses_nothing(floor: Peer) -> None:
    spec = LoadSpec(floor.server, names=numbered_names(100, "hits.test"), count=20_000, window=128)
    result = run(spec)
    assert (result.answered, result.lost, result.mismatched) == (20_000, 0, 0)


def test_upstream_answers_by_its_mode(upstream: tuple[str, Peer]) -> None:
    mode, peer = upstream
    reply = ask(peer, "WWW.Example.test", "A", use_edns=0)
    assert reply.flags & (dns.flags.QR | dns.flags.AA | dns.flags.RA)
    assert reply.edns == -1
    assert reply.question[0].name.to_text() == "WWW.Example.test."
    if mode == "a":
        assert reply.rcode() == dns.rcode.NOERROR
        assert reply.answer[0].ttl == 3600
        address = reply.answer[0][0].to_text()
        assert address.startswith("10.")
        assert ask(peer, "www.example.test", "A").answer[0][0].to_text() == address
        assert ask(peer, "other.example.test", "A").answer[0][0].to_text() != address
        reply = ask(peer, "www.example.test", "AAAA")
        assert reply.rcode() == dns.rcode.NOERROR
    else:
        assert reply.rcode() == dns.rcode.NXDOMAIN
    assert reply.answer == []
    soa = reply.authority[0]
    assert (soa.rdtype, soa.name.to_text(), soa.ttl, soa[0].minimum) == (dns.rdatatype.SOA, "test.", 60, 60)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 11,
        b"\0" * 12,
        b"\1\2\1\0\0\1\0\0\0\0\0\0\3ww",
        b"\1\2\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",
        b"\1\2\x81\0\0\1\0\0\0\0\0\0\0\0\1\0\1",
        b"\1\2\1\0\0\2\0\0\0\0\0\0\0\0\1\0\1",
        b"\1\2\1\0\0\1\0\0\0\0\0\0" + b"\1a" * 2000 + b"\0\0\1\0\1",
    ],
)
def test_upstream_survives_nonsense(tools: Path, message: bytes) -> None:
    program = str(tools / "upstream")
    with start("upstream", lambda _, port: [program, LOOPBACK, str(port), "nx"]) as peer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(message, peer.server)
        assert ask(peer, "www.example.test", "A").rcode() == dns.rcode.NXDOMAIN


def test_cpu_of_a_tree_has_the_living_and_the_dead() -> None:
    # A parent that starts one child which burns 0.3 s and ends, then another that burns 0.3 s and stays.
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        f"child = subprocess.Popen([sys.executable, '-c', {burn + 'time.sleep(60)'!r}])\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while tree_cpu_s(process.pid) < 0.6 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        total = tree_cpu_s(process.pid)
        assert 0.6 <= total < 1.5
        assert tree_cpu_s(process.pid) - total < 0.05
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sample(server: str, cpu_us: float, **extra: float) -> Sample:
    load = LoadResult(
        sent=100, answered=100, timeouts=0, late=0, lost=0, stray=0, mismatched=0, truncated=0, refused=0,
        send_errors=0, held_back=0, in_flight=0, elapsed_s=1.0, answers_per_s=100.0, octets_in=0,
    )  # fmt: skip
    return Sample(server, cpu_us, 1.0, load, extra=dict(extra))


def test_rounds_are_interleaved_and_ratios_are_to_the_floors_beside() -> None:
    order: list[str] = []
    floors = iter([2.0, 4.0, 4.0, 2.0, 2.0, 2.0])

    def base() -> Sample:
        order.append("floor")
        return sample("floor", next(floors))

    def one(name: str) -> Sample:
        order.append(name)
        if name == "broken":
            raise BenchError("no")
        return sample(name, 6.0)

    samples, failures = measure.interleaved(
        ["x", "broken", "y"], 2, base, one, lambda name, number, taken: None
    )
    assert order == ["floor", "x", "floor", "broken", "y", "floor"] * 2
    assert [taken.extra["ratio"] for taken in samples["x"]] == [2.0, 3.0]
    assert [taken.extra["ratio"] for taken in samples["y"]] == [1.5, 3.0]
    assert failures == ["broken, round 1: no", "broken, round 2: no"]


def test_figures_tables_and_verdicts() -> None:
    samples = {
        "floor": [sample("floor", cpu) for cpu in (2.0, 3.0, 2.5)],
        "fastdns": [sample("fastdns", 2.75, ratio=ratio) for ratio in (1.10, 1.30, 1.11)],
    }
    found = report.figures(samples)
    assert found["fastdns"]["ratio"] == {"median": 1.11, "min": 1.10, "max": 1.30}
    header, rows = report.load_rows(found)
    assert all(len(row) == len(header) for row in rows)
    assert rows[1][:2] == ["fastdns", "1.11 (1.10-1.30)"]
    verdicts = report.verdicts(
        {"hits": found, "misses": {}, "balance": {"fastdns": {"extra": {"shares": [0.7, 0.3]}}}}
    )
    assert [(verdict["what"].partition(":")[0], verdict["ok"]) for verdict in verdicts] == [
        ("hits", True),
        ("hits", True),
        ("balance", False),
    ]
    assert len(report.verdict_rows(verdicts)[1]) == 3


def test_a_table_in_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    report.show("Title", ["server", "x"], [["floor", "1"], ["a-longer-name", "12.5"]])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Title",
        "server            x",
        "floor             1",
        "a-longer-name  12.5",
    ]
