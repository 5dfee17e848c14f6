# SPDX-License-Identifier: Apache-2.0
"""``python -m bench.isolation``: what a block with regular expressions costs the misses of other blocks.

Names never asked before flood one block as fast as it goes, while misses of another block are asked
at a fixed rate. Their waits are compared with those during the same flood of a block without regular
expressions: the difference is the Python thread's alone. Rounds are interleaved; the result is the
median of the rounds' ratios.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import servers
from fastdns.loadgen.process import finish_process, start_process
from fastdns.loadgen.spec import LoadResult, LoadSpec
from tests.peers import run as peers

HELD_TO = 1.2  # of p50 and p90

_COREFILE = """
regex.test:{port} {{
    bind {address}
    cache 30
    rewrite name regex (.*)-x(\\d+)\\.regex\\.test$ {{1}}.plain.test answer auto
    rewrite name regex (.*)\\.regex\\.test$ {{1}}.plain.test answer auto
    forward . {upstream}
}}
plain.test:{port} quiet.test:{port} {{
    bind {address}
    cache 30
    forward . {upstream}
}}
fastdns {{
    workers 1
}}
"""


@dataclass(frozen=True, slots=True)
class Round:
    """Waits of the quiet block's misses: nothing else asked, a plain flood, one of regular expressions."""

    idle: LoadResult
    plain: LoadResult
    regex: LoadResult
    flood: tuple[float, float]  #: answers a second of the two floods


@contextlib.contextmanager
def server(upstream: servers.Upstream, cpus: Iterable[int]) -> Iterator[peers.Peer]:
    """fastdns with three blocks."""

    def configure(scratch: Path, port: int) -> list[str]:
        corefile = scratch / "Corefile"
        address = f"{upstream[0]}:{upstream[1]}"
        corefile.write_text(
            _COREFILE.format(address=peers.LOOPBACK, port=port, upstream=address), encoding="utf-8"
        )
        return [
            "env",
            f"PYTHONPATH={servers.ROOT}",
            sys.executable,
            "-m",
            "fastdns",
            "serve",
            "--conf",
            str(corefile),
        ]

    with peers.start("fastdns", configure, cpus=cpus) as peer:
        yield peer


def misses(
    peer: peers.Peer, seconds: float, cpus: Iterable[int], flooded: str | None
) -> tuple[LoadResult, float]:
    """Waits of quiet.test's misses while ``flooded`` is asked without a pause, and that flood's answers/s."""
    spec = LoadSpec(
        peer.server, unique_suffix="quiet.test", seconds=seconds, rate=500, window=500, wait="poll"
    )
    if flooded is None:
        return finish_process(start_process(spec, cpus), seconds + 30), 0.0
    flood = start_process(
        LoadSpec(peer.server, unique_suffix=flooded, seconds=seconds + 1, window=256, timeout_s=5), cpus
    )
    time.sleep(0.5)  # it is under way
    quiet = finish_process(start_process(spec, cpus), seconds + 30)
    return quiet, finish_process(flood, seconds + 40).answers_per_s


def play(peer: peers.Peer, seconds: float, cpus: Iterable[int]) -> Round:
    idle, _ = misses(peer, seconds, cpus, None)
    plain, plain_rate = misses(peer, seconds, cpus, "plain.test")
    regex, regex_rate = misses(peer, seconds, cpus, "regex.test")
    return Round(idle, plain, regex, (plain_rate, regex_rate))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.isolation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load (%(default)s)")
    parser.add_argument("--server-cpu", type=int, default=0, help="core of the server (%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, help="core of load and upstream (%(default)s)")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 above {HELD_TO}")
    given = parser.parse_args()
    load = [given.load_cpu]
    with servers.upstream("a", load) as upstream, server(upstream.server, [given.server_cpu]) as peer:
        rounds = [play(peer, given.seconds, load) for _ in range(given.rounds)]
    print(f"{'misses of another block, us':<44}{'p50':>8}{'p90':>8}{'p99':>8}{'lost':>6}")
    for name in ("idle", "plain", "regex"):
        results = [getattr(one, name) for one in rounds]
        waits = [
            statistics.median(getattr(one.latency_us, what) for one in results)
            for what in ("p50", "p90", "p99")
        ]
        lost = sum(one.timeouts for one in results)
        label = {"idle": "nothing else asked", "plain": "a flood of a plain block"}.get(
            name, "a flood of a block with regular expressions"
        )
        print(f"{label:<44}{waits[0]:8.0f}{waits[1]:8.0f}{waits[2]:8.0f}{lost:6d}")
    ratios = {
        what: statistics.median(
            getattr(one.regex.latency_us, what) / getattr(one.plain.latency_us, what) for one in rounds
        )
        for what in ("p50", "p90")
    }
    rates = [statistics.median(one.flood[i] for one in rounds) for i in (0, 1)]
    print(f"floods: {rates[0]:,.0f} and {rates[1]:,.0f} answers/s; held to {HELD_TO}")
    print("ratio   " + "  ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items()))
    return 1 if given.check and max(ratios.values()) > HELD_TO else 0


if __name__ == "__main__":
    sys.exit(main())
