# SPDX-License-Identifier: Apache-2.0
"""One measurement of each kind: a server started, warmed, loaded, its CPU time read, stopped.

Every one starts the server anew, so that a median of rounds is also one over memory layouts and moments.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from bench import servers
from bench.cpu import tree_cpu_s
from fastdns.loadgen import LoadResult, LoadSpec, numbered_names, run, run_process
from tests.peers.run import Peer, PeerFailed, coredns

HIT_NAMES = numbered_names(10_000, "hits.test")
MISS_SUFFIX = "miss.test"
CLUSTER_SUFFIX = "default.svc.cluster.local"  # CoreDNS has the zone, and none of the names
# 0.6 ms of the floor's work, so that no server idles; a default socket queue (256 small packets) holds it
WINDOW = 192
LONE_RATE = 1000.0  # misses/s at which each wake is paid for alone
_TIMEOUT_S = 2.0
_PRELOAD_WINDOW = 64
_PRELOAD_ATTEMPTS = 5
_UPSTREAM_SHARE_MAX = 0.02  # of the server's CPU: above this, "hits" went upstream


@dataclass(frozen=True)
class Cores:
    """Which core does what; load and upstream share one when there are only two."""

    server: int
    load: int
    upstream: int


@dataclass
class Sample:
    """One server in one round."""

    server: str
    cpu_us: float
    """Server CPU per answered query, all processes."""
    busy: float
    """Server CPU per second of load: 1.0 is a saturated core."""
    load: LoadResult
    problems: list[str] = field(default_factory=list)
    """What makes the sample doubtful: lost queries, wrong answers, a load that wasn't one."""
    extra: dict[str, Any] = field(default_factory=dict)


class BenchError(Exception):
    """A measurement that can't be made; the text says why."""


def _measure(name: str, peer: Peer, spec: LoadSpec, cores: Cores, rcode: str) -> Sample:
    before = tree_cpu_s(peer.pids[0])
    result = run_process(spec, [cores.load])
    used = tree_cpu_s(peer.pids[0]) - before
    if not result.answered:
        raise BenchError(f"{name} answered nothing")
    problems = []
    if result.lost or result.answered != result.sent:
        problems.append(f"{result.lost} lost, {result.late} late of {result.sent}")
    if wrong := {code: count for code, count in result.rcodes.items() if code != rcode}:
        problems.append(f"answers that are not {rcode}: {wrong}")
    if result.mismatched or result.stray:
        problems.append(f"{result.mismatched} replies to another question, {result.stray} stray")
    return Sample(name, used / result.answered * 1e6, used / result.elapsed_s, result, problems)


def _preload(name: str, peer: Peer) -> None:
    """Bring all names into the server's cache, gently, and see each of them answered."""
    for _ in range(_PRELOAD_ATTEMPTS):
        result = run(
            LoadSpec(
                peer.server,
                names=HIT_NAMES,
                count=len(HIT_NAMES),
                window=_PRELOAD_WINDOW,
                timeout_s=_TIMEOUT_S,
            )
        )
        if result.rcodes == {"NOERROR": len(HIT_NAMES)}:
            return
    raise BenchError(f"{name} can't be warmed: {result.rcodes}, {result.lost} lost")


def floor_hits(cores: Cores, seconds: float) -> Sample:
    """The floor under the load of the hit bench."""
    spec = LoadSpec(("", 0), names=HIT_NAMES, order="random", seconds=seconds, window=WINDOW)
    with servers.floor([cores.server]) as peer:
        return _measure("floor", peer, _at(spec, peer), cores, "NOERROR")


def hits(name: str, cores: Cores, seconds: float) -> Sample:
    """10,000 names in the cache, asked at random, as fast as the server answers."""
    spec = LoadSpec(
        ("", 0), names=HIT_NAMES, order="random", seconds=seconds, window=WINDOW, timeout_s=_TIMEOUT_S
    )
    with (
        servers.upstream("a", [cores.upstream]) as up,
        servers.STARTERS[name](up.server, [cores.server]) as peer,
    ):
        _preload(name, peer)
        upstream_before = tree_cpu_s(up.pids[0])
        sample = _measure(name, peer, _at(spec, peer), cores, "NOERROR")
        upstream_s = tree_cpu_s(up.pids[0]) - upstream_before
        if upstream_s > _UPSTREAM_SHARE_MAX * sample.cpu_us * sample.load.answered / 1e6:
            sample.problems.append(f"upstream was busy for {upstream_s:.2f} s: these were not all hits")
        return sample


def floor_misses(cores: Cores, seconds: float) -> Sample:
    """The floor under the load of the miss bench."""
    spec = LoadSpec(("", 0), unique_suffix=MISS_SUFFIX, seconds=seconds, window=WINDOW)
    with servers.floor([cores.server]) as peer:
        return _measure("floor", peer, _at(spec, peer), cores, "NOERROR")


def misses(name: str, cores: Cores, seconds: float) -> Sample:
    """Every name new, NXDOMAIN from upstream over UDP, as fast as the server answers."""
    spec = LoadSpec(("", 0), unique_suffix=MISS_SUFFIX, seconds=seconds, window=WINDOW, timeout_s=_TIMEOUT_S)
    with (
        servers.upstream("nx", [cores.upstream]) as up,
        servers.STARTERS[name](up.server, [cores.server]) as peer,
    ):
        return _measure(name, peer, _at(spec, peer), cores, "NXDOMAIN")


def tcp_misses(name: str, cores: Cores, seconds: float) -> Sample:
    """Every name new, NXDOMAIN from CoreDNS over TCP, as fast as that answers."""
    spec = LoadSpec(
        ("", 0), unique_suffix=CLUSTER_SUFFIX, seconds=seconds, window=WINDOW, timeout_s=_TIMEOUT_S
    )
    with (
        coredns(cpus=[cores.upstream]) as up,
        servers.TCP_STARTERS[name](up.server, [cores.server]) as peer,
    ):
        return _measure(name, peer, _at(spec, peer), cores, "NXDOMAIN")


def lone_upstream(cores: Cores, seconds: float) -> Sample:
    """Upstream asked directly at the lone-miss rate: what is waited for without any server between."""
    spec = LoadSpec(("", 0), unique_suffix=MISS_SUFFIX, seconds=seconds, rate=LONE_RATE, sockets=4)
    with servers.upstream("nx", [cores.upstream]) as peer:
        return _measure("upstream", peer, _at(spec, peer), cores, "NXDOMAIN")


def lone_misses(name: str, cores: Cores, seconds: float) -> Sample:
    """1,000 misses a second: CPU for one, and the wait for it."""
    spec = LoadSpec(
        ("", 0), unique_suffix=MISS_SUFFIX, seconds=seconds, rate=LONE_RATE, sockets=4, timeout_s=_TIMEOUT_S
    )
    with (
        servers.upstream("nx", [cores.upstream]) as up,
        servers.STARTERS[name](up.server, [cores.server]) as peer,
    ):
        return _measure(name, peer, _at(spec, peer), cores, "NXDOMAIN")


def balance(cores: Cores, seconds: float) -> Sample:
    """One client socket at full speed, two workers of fastdns; `extra` has each worker's share."""
    spec = LoadSpec(("", 0), names=HIT_NAMES, seconds=seconds, window=WINDOW, sockets=1, timeout_s=_TIMEOUT_S)
    both = sorted({cores.server, cores.load})
    with servers.upstream("a", [cores.upstream]) as up, servers.fastdns(up.server, both, workers=2) as peer:
        _preload("fastdns", peer)
        before = worker_queries(peer)
        sample = _measure("fastdns", peer, _at(spec, peer), cores, "NOERROR")
        counts = [after - start for after, start in zip(worker_queries(peer), before, strict=True)]
        total = sum(counts)
        if total < sample.load.answered:
            sample.problems.append(f"the workers count {total} queries, {sample.load.answered} were answered")
        sample.extra["shares"] = [count / total if total else 0.0 for count in counts]
        return sample


def worker_queries(peer: Peer) -> list[int]:
    """UDP queries of each worker since its start, from `fastdns stats --json`."""
    command = [sys.executable, "-m", "fastdns", "stats", "--json", "--pid", str(peer.pids[0])]
    done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, timeout=10, check=False)
    if done.returncode != 0:
        raise BenchError(f"fastdns stats: {done.stderr.decode(errors='replace').strip()}")
    document = orjson.loads(done.stdout)
    return [int(worker["counters"]["udp_queries"]) for worker in document["workers"]]


def _at(spec: LoadSpec, peer: Peer) -> LoadSpec:
    return replace(spec, server=peer.server)


def interleaved(
    names: Iterable[str],
    rounds: int,
    base: Callable[[], Sample],
    one: Callable[[str], Sample],
    told: Callable[[str, int, Sample], None],
) -> tuple[dict[str, list[Sample]], list[str]]:
    """`rounds` times: the base, then each server followed by the base again.

    Servers' samples get `extra["ratio"]`, their CPU over the mean of the base's before and after. Returns all
    samples by name, and what failed.
    """
    samples: dict[str, list[Sample]] = {}
    failures: list[str] = []
    for number in range(1, rounds + 1):
        before = base()
        samples.setdefault(before.server, []).append(before)
        told(before.server, number, before)
        for name in names:
            try:
                sample = one(name)
            except (BenchError, PeerFailed, RuntimeError, subprocess.TimeoutExpired) as error:
                failures.append(f"{name}, round {number}: {error}")
                continue
            after = base()
            samples[before.server].append(after)
            sample.extra["ratio"] = 2 * sample.cpu_us / (before.cpu_us + after.cpu_us)
            samples.setdefault(name, []).append(sample)
            told(name, number, sample)
            before = after
            time.sleep(0.05)  # let the kernel finish what the stopped processes left
    return samples, failures
