# SPDX-License-Identifier: Apache-2.0
"""``python -m bench.hotset``: names in use stay in the cache, whatever else is asked.

Zipf's load over 5,000 names with TTLs of 5 to 30 s from a resolver 20 ms away: how many queries for the 1,000
hottest are hits, and how often upstream is asked. Then the same beside a flood of names never asked before:
what that takes from the hits, and what memory does.
"""

import argparse
import http.client
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from bench import cluster, report, servers
from bench.far import FarResolver, far_resolver
from fastdns.demo.processes import figures
from fastdns.loadgen import LoadResult, LoadSpec
from fastdns.loadgen.process import finish_process, start_process
from fastdns.loadgen.queries import encode_name
from tests.peers.run import LOOPBACK, Peer, PeerFailed, PeerMissing, free_port

HITS_MIN = 0.999  # of queries for hot names
UPSTREAM_MAX = 1.15  # of one question for each hot name and TTL
FLOOD_COSTS_MAX = 0.01  # of the hot names' hits
GROWTH_MAX = 0.02  # of memory during the flood

_NAMES, _HOT = 5_000, 1_000
_TTL_MIN_S, _TTL_MAX_S = 5, 30
_DELAY_S = 0.02
_WARM_S = 8.0
_START_S = 2.0  # of a load
_REPEATED_S = 1.0  # a fifth of the shortest life
_FLOOD_S = 3.0  # that a flood is under way before anything counts
_COREFILE = """
{zone}:{port} {{
    errors
    cache 30
    reload
    loop
    bind {address}
    forward . {upstream}
    prometheus {address}:{metrics}
}}
"""


@dataclass(frozen=True, slots=True)
class Name:
    """One of those that are asked by Zipf's law."""

    text: str
    qname: bytes  #: in wire form
    ttl_s: int


@dataclass(frozen=True)
class Phase:
    """What a load came to."""

    seconds: float
    hot: LoadResult
    hits: int  #: of queries for hot names, by the server's own count
    misses: int
    asked_hot: int  #: upstream
    asked_all: int
    lives_hot: float  #: one question for each hot name and TTL
    least_all: float  #: what a cache asks that waits for a query after each end
    repeated: int  #: of asked_all: put again after silence
    pss_octets: tuple[int, int]  #: at the beginning and at the end

    @property
    def hit_share(self) -> float:
        return self.hits / (self.hits + self.misses)


def _ttl_s(qname: bytes) -> int:
    return _TTL_MIN_S + zlib.crc32(qname) % (_TTL_MAX_S - _TTL_MIN_S + 1)


def _names() -> list[Name]:
    """All names, the hottest first; which are hot is a zone, so that the server counts them apart."""
    names = [f"n{place:04d}.{'hot' if place < _HOT else 'tail'}.test" for place in range(_NAMES)]
    return [Name(name, encode_name(name), _ttl_s(encode_name(name))) for name in names]


def _shares(count: int) -> list[float]:
    """Zipf's law: each name's share of the queries."""
    whole = sum(1 / place for place in range(1, count + 1))
    return [1 / place / whole for place in range(1, count + 1)]


def _load(
    server: tuple[str, int], names: Sequence[Name], first: int, rate: float, seconds: float
) -> LoadSpec:
    """`rate` queries/s for names whose hottest has this place among all."""
    last = first + len(names)
    often = [(one.text, "A") for place, one in enumerate(names, first) for _ in range(round(last / place))]
    return LoadSpec(server, names=often, order="random", rate=rate, seconds=seconds, timeout_s=5.0)


def _zone_counts(metrics: int) -> Counter[tuple[str, str]]:
    """Of each zone and counter of the cache, from /metrics."""
    connection = http.client.HTTPConnection(LOOPBACK, metrics, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in ("coredns_cache_hits_total", "coredns_cache_misses_total"):
                found[sample.labels["zones"].rstrip("."), sample.name] += int(sample.value)
    return found


class Bench:
    """A server with its upstreams, and the loads on it."""

    def __init__(
        self, peer: Peer, metrics: int, outside: FarResolver, rate: float, cores: Iterable[int]
    ) -> None:
        self._peer, self._metrics, self._outside = peer, metrics, outside
        self._rate, self._cores = rate, list(cores)
        self._names = _names()
        self._shares = _shares(_NAMES)
        self._hot_share = sum(self._shares[:_HOT])

    def play(self, seconds: float) -> Phase:
        """Hot names and the others, as often as the law says."""
        began, counts, pss = time.monotonic(), _zone_counts(self._metrics), self._pss()
        loads = [
            start_process(_load(self._peer.server, names, first, self._rate * share, seconds), self._cores)
            for names, first, share in (
                (self._names[:_HOT], 1, self._hot_share),
                (self._names[_HOT:], _HOT + 1, 1 - self._hot_share),
            )
        ]
        hot, _ = [finish_process(load, seconds + 30) for load in loads]
        pss_end = self._pss()
        counts = _zone_counts(self._metrics) - counts
        # Between the loads' start and their end, both of which take a moment.
        span_s = seconds - _START_S
        asked, repeated = self._asked(began + _START_S, began + seconds)
        return Phase(
            hot.elapsed_s,
            hot,
            counts["hot.test", "coredns_cache_hits_total"],
            counts["hot.test", "coredns_cache_misses_total"],
            sum(asked[one.qname] for one in self._names[:_HOT]),
            sum(asked[one.qname] for one in self._names),
            sum(span_s / one.ttl_s for one in self._names[:_HOT]),
            sum(
                span_s / (one.ttl_s + 1 / (self._rate * share))
                for one, share in zip(self._names, self._shares, strict=True)
            ),
            repeated,
            (pss, pss_end),
        )

    def _asked(self, begin: float, end: float) -> tuple[Counter[bytes], int]:
        """Upstream's questions by name, and how many repeat one that was not answered in time."""
        last: dict[bytes, float] = {}
        asked: Counter[bytes] = Counter()
        repeated = 0
        for at, qname in self._outside.asked:
            if begin <= at < end:
                asked[qname] += 1
                repeated += at - last.get(qname, 0.0) < _REPEATED_S
            last[qname] = at
        return asked, repeated

    def flood(self, rate: float, seconds: float) -> tuple[Phase, LoadResult]:
        """The same beside names never asked before."""
        whole = seconds + _FLOOD_S + 1
        flood = start_process(
            LoadSpec(
                self._peer.server,
                unique_suffix="flood.test",
                rate=rate,
                seconds=whole,
                window=4096,
                timeout_s=5.0,
            ),
            self._cores,
        )
        time.sleep(_FLOOD_S)
        phase = self.play(seconds)
        return phase, finish_process(flood, whole + 30)

    def _pss(self) -> int:
        return figures(self._peer.pids[0]).pss_octets


def measure(name: str, given: argparse.Namespace) -> tuple[Phase, Phase, LoadResult]:
    """One server: quiet, then flooded."""
    metrics = free_port()
    load = [given.load_cpu]
    with (
        far_resolver(_DELAY_S, _ttl_s) as outside,
        servers.upstream("nx", load) as flooded,
    ):
        upstreams = dict.fromkeys(("hot.test", "tail.test", "."), outside.server)
        upstreams["flood.test"] = flooded.server

        def corefile(port: int) -> str:
            return "".join(
                _COREFILE.format(
                    zone=zone, port=port, address=LOOPBACK, upstream=f"{at[0]}:{at[1]}", metrics=metrics
                )
                for zone, at in upstreams.items()
            )

        with cluster.node(name, corefile, [given.server_cpu]) as peer:
            bench = Bench(peer, metrics, outside, given.rate, load)
            bench.play(_WARM_S)
            quiet = bench.play(given.seconds)
            during, flood = bench.flood(given.flood_rate, given.flood_seconds)
            return quiet, during, flood


def _misses(quiet: Phase, during: Phase) -> list[str]:
    """What fastdns is held to and isn't."""
    found = []
    if quiet.hit_share < HITS_MIN:
        found.append(f"hits of hot names {quiet.hit_share:.3%}, held to {HITS_MIN:.1%}")
    if quiet.asked_hot > UPSTREAM_MAX * quiet.lives_hot:
        found.append(
            f"upstream asked {quiet.asked_hot / quiet.lives_hot:.3f} x a name and TTL, held to {UPSTREAM_MAX}"
        )
    cost = quiet.hit_share - during.hit_share
    if cost > FLOOD_COSTS_MAX:
        found.append(f"the flood costs {cost:.2%} of the hits, held to {FLOOD_COSTS_MAX:.0%}")
    begin, end = during.pss_octets
    if end > begin * (1 + GROWTH_MAX):
        found.append(f"memory grew from {begin >> 10} to {end >> 10} KiB during the flood")
    return found


def _rows(name: str, phase: Phase) -> list[str]:
    return [
        name,
        f"{phase.hit_share:.3%}",
        f"{phase.hot.latency_us.p50:.0f}",
        f"{phase.hot.latency_us.p999:.0f}",
        str(phase.hot.timeouts),
        f"{phase.asked_hot / phase.lives_hot:.3f}",
        f"{phase.asked_all / phase.least_all:.3f}",
        f"{phase.repeated / phase.asked_all:.1%}",
        f"{phase.pss_octets[0] / 2**20:.2f} {phase.pss_octets[1] / 2**20:.2f}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hotset", description=__doc__)
    parser.add_argument(
        "--servers", default="fastdns", help="comma list of fastdns, node-cache (%(default)s)"
    )
    parser.add_argument("--rate", type=float, default=20_000, help="queries/s of Zipf's load (%(default)s)")
    parser.add_argument("--seconds", type=float, default=35, help="of that alone (%(default)s)")
    parser.add_argument("--flood-rate", type=float, default=50_000, help="new names/s (%(default)s)")
    parser.add_argument("--flood-seconds", type=float, default=60, help="(%(default)s)")
    parser.add_argument("--server-cpu", type=int, default=0, help="core of the server (%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, help="core of load and upstreams (%(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 when fastdns isn't what it is held to"
    )
    parser.add_argument("--output", type=Path, help="JSON file (none)")
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.load_cpu})
    try:
        found = {name: measure(name, given) for name in given.servers.split(",")}
    except (PeerFailed, PeerMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    header = [
        "",
        "hits",
        "p50 us",
        "p99.9 us",
        "lost",
        "asked x name and TTL",
        "all x least",
        "repeated",
        "MiB",
    ]
    for name, (quiet, during, flood) in found.items():
        rows = [_rows("alone", quiet), _rows(f"{flood.answers_per_s:,.0f} new names/s", during)]
        report.show(
            f"{name}: the {_HOT:,} hottest of {_NAMES:,} names, {given.rate:,.0f} queries/s", header, rows
        )
    misses = _misses(*found["fastdns"][:2]) if "fastdns" in found else []
    for miss in misses:
        print(miss)
    if given.output is not None:
        document: dict[str, Any] = {
            "machine": report.machine(),
            "command": sys.argv[1:],
            "servers": {
                name: {"alone": asdict(quiet), "flooded": asdict(during), "flood": asdict(flood)}
                for name, (quiet, during, flood) in found.items()
            },
            "misses": misses,
        }
        given.output.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return 1 if given.check and misses else 0


if __name__ == "__main__":
    sys.exit(main())
