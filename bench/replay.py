# SPDX-License-Identifier: Apache-2.0
"""``python -m bench.replay``: what the pods of a node ask, and what comes of it upstream.

40 pods with ndots:5 look up services and hosts outside, half and half, A and AAAA at once. node-cache and
fastdns get the same lookups at the same moments, each with RKE2's Corefile: cluster names are CoreDNS's, with
a TTL of 5 s, the others a resolver's 20 ms away. Meanwhile services appear that pods were already asking for.
"""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench import cluster, pods, report
from bench.pods import CLUSTER, NAMESPACE, Found, Host, Lookup
from tests.mock_upstream import MockUpstream
from tests.peers.run import PeerFailed, PeerMissing

UPSTREAM_MAX = 0.3  # questions a lookup
SEEN_MAX_S = 5.0  # from CoreDNS's first answer for a service to a pod's

_PODS = 40
_DELAY_S = 0.02  # of the resolver outside
_POLL_S = 0.05
_SETTLE_S = 0.3  # after the last lookup: what it made a server ask has come upstream
_FRESH = "fresh"  # in the names of services that appear; what is asked for them is not counted


@dataclass
class Run:
    """One server's."""

    server: str
    lookups: int
    asked: dict[str, int]  #: upstream questions by kind
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    late_ms: (
        float  #: p99 of how much later than meant a lookup began: much of it is a machine with other work
    )
    wrong: list[str] = field(default_factory=list)
    seen_s: dict[str, float] = field(default_factory=dict)  #: services that appeared, by name

    @property
    def per_lookup(self) -> float:
        return sum(self.asked.values()) / self.lookups


def _kind(qtype: str, name: str, rcode: str) -> str:
    if rcode == "NOERROR":
        return f"services, {qtype}" if name.count(".") == 4 else "names between"
    return "denied, an ancestor's" if name.count(".") <= 4 and not name.startswith("app-") else "denied"


def _fresh_services() -> list[Host]:
    """In a namespace that has others, in one that has none, and in the pods' own."""
    names = [f"{_FRESH}-1.shop", f"web.{_FRESH}-2", f"{_FRESH}-3.{NAMESPACE}"]
    return [
        Host(
            name.removesuffix(f".{NAMESPACE}"),
            f"{name}.svc.{CLUSTER}",
            frozenset({f"10.43.200.{place}"}),
            cluster.TTL_S,
        )
        for place, name in enumerate(names, 1)
    ]


async def _first_found(server: tuple[str, int], written: str, until: float) -> float:
    """When a name is found for the first time, asked for again and again; infinite: never."""
    while time.monotonic() < until:
        if (await pods.look_up(server, written)).addresses:
            return time.monotonic()
        await asyncio.sleep(_POLL_S)
    return float("inf")


async def _appears(
    server: tuple[str, int], behind: cluster.Cluster, host: Host, after_s: float
) -> tuple[str, float]:
    """How long after CoreDNS has a new service a pod that keeps asking has it."""
    until = time.monotonic() + after_s + SEEN_MAX_S + 5
    pod = asyncio.create_task(_first_found(server, host.written, until))
    await asyncio.sleep(after_s)
    behind.add(host)
    there = await _first_found(behind.peer.server, host.name, until)
    return host.name, await pod - there


async def _play(
    server: tuple[str, int], lookups: Sequence[Lookup], began: float
) -> list[tuple[Lookup, float, Found]]:
    """Each lookup with how much later than meant it began, and what came of it."""
    tasks = []
    for lookup in lookups:
        await asyncio.sleep(max(0.0, began + lookup.at_s - time.monotonic()))
        tasks.append((lookup, asyncio.create_task(pods.look_up(server, lookup.host.written))))
    played = []
    for lookup, task in tasks:
        found = await task
        played.append((lookup, found.began - began - lookup.at_s, found))
    return played


async def _replay(
    server: tuple[str, int],
    behind: cluster.Cluster,
    outside: MockUpstream,
    lookups: Sequence[Lookup],
    warm_s: float,
) -> tuple[list[tuple[Lookup, float, Found]], Counter[str], dict[str, float]]:
    """All lookups; of what went upstream, what came after the first `warm_s`."""
    began = time.monotonic()
    playing = asyncio.create_task(_play(server, lookups, began))
    fresh = [
        asyncio.create_task(_appears(server, behind, host, warm_s + 1.7 * place))
        for place, host in enumerate(_fresh_services(), 1)
    ]
    await asyncio.sleep(began + warm_s - time.monotonic())
    log_begin, counted_from = behind.position(), time.monotonic()
    played = await playing
    await asyncio.sleep(_SETTLE_S)
    asked: Counter[str] = Counter()
    for (qtype, name, rcode), count in behind.asked(log_begin, behind.position()).items():
        if _FRESH not in name:
            asked[_kind(qtype, name, rcode)] += count
    names = {lookup.host.name for lookup in lookups}
    asked["outside"] = sum(one.at >= counted_from and one.name in names for one in outside.questions)
    return played, asked, dict([await one for one in fresh])


def _share(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _judged(server: str, played: Sequence[tuple[Lookup, float, Found]], warm_s: float) -> Run:
    """Waits of what came after the first `warm_s`; mistakes of all."""
    waits = [found.wait_s * 1e3 for lookup, _, found in played if lookup.at_s >= warm_s]
    wrong = [
        f"{lookup.host.written}: {sorted(found.addresses)}, {found.failures} failures"
        for lookup, _, found in played
        if found.failures or found.addresses != lookup.host.addresses
    ]
    p50, p90, p99 = (_share(waits, share) for share in (0.5, 0.9, 0.99))
    late_ms = _share((late_s * 1e3 for _, late_s, _ in played), 0.99)
    return Run(server, len(waits), {}, p50, p90, p99, max(waits), late_ms, wrong)


def measure(
    name: str, rate: float, seconds: float, warm_s: float, exponent: float, seed: int, cores: tuple[int, int]
) -> Run:
    """One server, from its start to its end."""
    inside, beyond = pods.services(seed), pods.hosts_outside(seed)
    lookups = list(pods.sequence(inside, beyond, rate, warm_s + seconds, seed, exponent))
    with (
        cluster.coredns(inside, [cores[1]]) as behind,
        cluster.resolver(beyond, _DELAY_S) as outside,
        cluster.node(name, cluster.rke2(behind.peer.server, outside.server), [cores[0]]) as peer,
    ):
        played, asked, seen = asyncio.run(_replay(peer.server, behind, outside, lookups, warm_s))
    run = _judged(name, played, warm_s)
    run.asked, run.seen_s = dict(sorted(asked.items())), seen
    return run


def _show(runs: Sequence[Run]) -> None:
    header = [
        "server",
        "upstream/lookup",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "began late",
        "wrong",
        "seen after s",
    ]
    rows = [
        [
            run.server,
            f"{run.per_lookup:.3f}",
            *(f"{value:.1f}" for value in (run.p50_ms, run.p90_ms, run.p99_ms, run.max_ms, run.late_ms)),
            str(len(run.wrong)),
            " ".join(f"{seconds:.1f}" for seconds in run.seen_s.values()),
        ]
        for run in runs
    ]
    report.show(f"Lookups: {runs[0].lookups:,}, of the node's pods", header, rows)
    kinds = sorted({kind for run in runs for kind in run.asked})
    rows = [[kind, *(f"{run.asked.get(kind, 0) / run.lookups:.3f}" for run in runs)] for kind in kinds]
    report.show("Upstream questions a lookup", ["kind", *(run.server for run in runs)], rows)


def _misses(runs: Sequence[Run]) -> list[str]:
    """What fastdns is held to and isn't."""
    by_name = {run.server: run for run in runs}
    found = [f"{run.server}: wrong: {text}" for run in runs for text in run.wrong[:10]]
    if ours := by_name.get("fastdns"):
        if ours.per_lookup > UPSTREAM_MAX:
            found.append(f"{ours.per_lookup:.3f} upstream questions a lookup, held to {UPSTREAM_MAX}")
        if (theirs := by_name.get("node-cache")) and ours.p99_ms > theirs.p99_ms:
            found.append(f"p99 of a lookup {ours.p99_ms:.1f} ms, node-cache's {theirs.p99_ms:.1f}")
        found += [
            f"{name} was seen after {seconds:.1f} s, held to {SEEN_MAX_S}"
            for name, seconds in ours.seen_s.items()
            if seconds > SEEN_MAX_S + 2 * _POLL_S
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.add_argument("--servers", default="node-cache,fastdns", help="comma list (%(default)s)")
    parser.add_argument("--rate", type=float, default=6.0, help="lookups/s of each pod (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="that count (%(default)s)")
    parser.add_argument("--warm", type=float, default=10.0, help="seconds before that (%(default)s)")
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--server-cpu", type=int, default=0, help="core of the server (%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, help="core of pods and upstreams (%(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 when fastdns isn't what it is held to"
    )
    parser.add_argument("--output", type=Path, help="JSON file (none)")
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.load_cpu})
    cores = (given.server_cpu, given.load_cpu)
    try:
        runs = [
            measure(name, given.rate * _PODS, given.seconds, given.warm, given.exponent, given.seed, cores)
            for name in given.servers.split(",")
        ]
    except (PeerFailed, PeerMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    _show(runs)
    misses = _misses(runs)
    for miss in misses:
        print(miss)
    if given.output is not None:
        document: dict[str, Any] = {
            "machine": report.machine(),
            "command": sys.argv[1:],
            "runs": [{**asdict(run), "per_lookup": run.per_lookup} for run in runs],
            "misses": misses,
        }
        given.output.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return 1 if given.check and misses else 0


if __name__ == "__main__":
    sys.exit(main())
