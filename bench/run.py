# SPDX-License-Identifier: Apache-2.0
"""``make bench``, or ``python -m bench.run``: fastdns and its peers as multiples of the floor.

Absolute times mean nothing on a shared machine; a ratio to a program that ran just before and just after
does. So rounds are interleaved (floor, server, floor, next server, floor), a server's ratio is taken to the
floors beside it, and the result is the median of rounds with the lowest and the highest.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench import measure, report, servers
from bench.measure import BenchError, Cores, Sample
from tests.peers.run import PeerFailed, PeerMissing

BENCHES = ("hits", "misses", "tcp", "lone", "balance")
_LONE_SECONDS_MIN = 3.0  # 3,000 misses: a median that stands still

_EXAMPLES = """
examples:
  make bench                                    everything that is installed, about ten minutes
  make bench BENCH_ARGS=--quick                 fastdns and the floor only, under two minutes
  python -m bench.run --benches misses --servers fastdns,dnsdist --rounds 5
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run",
        description="Server CPU per answered query, as a multiple of the floor (bench/floor.c).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--servers", help=f"comma list of {', '.join(servers.STARTERS)}; default: what is installed"
    )
    parser.add_argument("--benches", default=",".join(BENCHES), help="comma list (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each sample (%(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="fastdns only, 3 rounds of 2 s, where nothing else is said"
    )
    parser.add_argument("--server-cpu", type=int, default=0, help="core of the server (%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, help="core of the load (%(default)s)")
    parser.add_argument("--upstream-cpu", type=int, help="core of upstream (the load's)")
    parser.add_argument(
        "--nice", type=int, default=0, help="-15 keeps others' work off the cores; needs root (%(default)s)"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 when fastdns isn't what it is held to"
    )
    parser.add_argument("--output", type=Path, help="JSON file (bench/results/DATE.json)")
    return parser


def _chosen(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Servers and benches to run; what isn't here is said and left out."""
    if arguments.servers is not None:
        names = [name for name in arguments.servers.split(",") if name and name != "floor"]
    else:
        names = servers.OWN if arguments.quick else servers.default_servers()
    benches = arguments.benches.split(",")
    for name in names:
        if name not in servers.STARTERS:
            parser.error(f"unknown server {name}: use {', '.join(servers.STARTERS)}")
    for bench in benches:
        if bench not in BENCHES:
            parser.error(f"unknown bench {bench}: use {', '.join(BENCHES)}")
    here = []
    for name in names:
        reason = servers.missing(name)
        if reason is None:
            here.append(name)
        else:
            print(f"{name}: not available here ({reason})", file=sys.stderr)
    return here, benches


def _cores(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Cores:
    load = arguments.load_cpu
    cores = Cores(
        arguments.server_cpu, load, load if arguments.upstream_cpu is None else arguments.upstream_cpu
    )
    allowed = os.sched_getaffinity(0)
    if cores.server == cores.load or not {cores.server, cores.load, cores.upstream} <= allowed:
        parser.error(
            f"server and load need two different cores of {sorted(allowed)}: --server-cpu, --load-cpu"
        )
    os.nice(arguments.nice)
    os.sched_setaffinity(0, {cores.load})  # this program's own work must not fall on the server's core
    return cores


def _told(bench: str, base: str = "floor") -> Callable[[str, int, Sample], None]:
    def tell(name: str, number: int, sample: Sample) -> None:
        ratio = f", {sample.extra['ratio']:.2f} x {base}" if "ratio" in sample.extra else ""
        doubt = f"  [{'; '.join(sample.problems)}]" if sample.problems else ""
        print(f"{bench} {number} {name}: {sample.cpu_us:.2f} us{ratio}{doubt}", file=sys.stderr, flush=True)

    return tell


def _saturated(
    bench: str, names: Sequence[str], cores: Cores, rounds: int, seconds: float
) -> tuple[dict[str, Any], list[str]]:
    base = measure.floor_hits if bench == "hits" else measure.floor_misses
    one = measure.hits if bench == "hits" else measure.misses
    samples, failures = measure.interleaved(
        names, rounds, lambda: base(cores, seconds), lambda name: one(name, cores, seconds), _told(bench)
    )
    found = report.figures(samples)
    titles = {
        "hits": f"Hits: {len(measure.HIT_NAMES):,} names, one worker on one core",
        "misses": "Misses: every name new, NXDOMAIN from a UDP upstream, one core",
    }
    report.show(titles[bench], *report.load_rows(found))
    return found, failures


def _tcp(rounds: int, cores: Cores, seconds: float) -> tuple[dict[str, Any], list[str]]:
    # fastdns against node-cache, whoever else was asked for; without CoreDNS there is no upstream.
    for peer in ("coredns", "node-cache"):
        if (reason := servers.missing(peer)) is not None:
            return {}, [f"tcp: {reason}"]
    samples: dict[str, list[Sample]] = {"node-cache": [], "fastdns": []}
    tell = _told("tcp", "node-cache")
    for number in range(1, rounds + 1):
        base, own = (measure.tcp_misses(name, cores, seconds) for name in samples)
        own.extra["ratio"] = own.cpu_us / base.cpu_us
        for sample in (base, own):
            samples[sample.server].append(sample)
            tell(sample.server, number, sample)
    found = report.figures(samples)
    title = "Misses over TCP to CoreDNS: every name new, NXDOMAIN"
    report.show(title, *report.load_rows(found, "node-cache"))
    return found, []


def _lone(
    names: Sequence[str], cores: Cores, rounds: int, seconds: float
) -> tuple[dict[str, Any], list[str]]:
    # Its requirement is a comparison with node-cache in the same run, so node-cache is measured even if not
    # asked for.
    if "fastdns" in names and "node-cache" not in names and servers.missing("node-cache") is None:
        names = [*names, "node-cache"]
    seconds = max(seconds, _LONE_SECONDS_MIN)
    samples: dict[str, list[Sample]] = {"upstream": []}
    failures: list[str] = []
    tell = _told("lone")
    for number in range(1, rounds + 1):
        samples["upstream"].append(measure.lone_upstream(cores, seconds))
        tell("upstream", number, samples["upstream"][-1])
        for name in names:
            try:
                sample = measure.lone_misses(name, cores, seconds)
            except (BenchError, PeerFailed, RuntimeError) as error:
                failures.append(f"{name}, round {number}: {error}")
                continue
            samples.setdefault(name, []).append(sample)
            tell(name, number, sample)
    found = report.figures(samples)
    report.show(f"Lone misses: {measure.LONE_RATE:,.0f} a second", *report.lone_rows(found))
    return found, failures


def _balance(cores: Cores, seconds: float) -> tuple[dict[str, Any], list[str]]:
    try:
        sample = measure.balance(cores, seconds)
    except (BenchError, PeerFailed, RuntimeError) as error:
        return {}, [f"fastdns: {error}"]
    shares: list[float] = sample.extra["shares"]
    rows = [[f"worker {number}", format(share, ".1%")] for number, share in enumerate(shares)]
    report.show(
        "Balance: one client socket at full speed, two workers (none above 60 %)", ["worker", "share"], rows
    )
    return {"fastdns": asdict(sample)}, []


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.quick:
        # Only where the caller said nothing: --quick --rounds 1 is one round.
        arguments.rounds = min(arguments.rounds, 3)
        arguments.seconds = min(arguments.seconds, 2.0)
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds and --seconds must be above 0")
    names, benches = _chosen(parser, arguments)
    cores = _cores(parser, arguments)
    began = time.monotonic()
    document: dict[str, Any] = {
        "machine": report.machine(),
        "command": sys.argv[1:],
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "cores": asdict(cores),
        "benches": {},
        "failures": {},
    }
    try:
        for bench in benches:
            if bench in ("hits", "misses"):
                found, failures = _saturated(bench, names, cores, arguments.rounds, arguments.seconds)
            elif bench == "tcp" and "fastdns" in names:
                found, failures = _tcp(arguments.rounds, cores, arguments.seconds)
            elif bench == "lone":
                found, failures = _lone(names, cores, arguments.rounds, arguments.seconds)
            elif bench == "balance" and "fastdns" in names:
                found, failures = _balance(cores, arguments.seconds)
            else:
                continue
            document["benches"][bench] = found
            if failures:
                document["failures"][bench] = failures
            for failure in failures:
                print(f"{bench}: {failure}", file=sys.stderr)
        document["verdicts"] = report.verdicts(document["benches"])
        if document["verdicts"]:
            report.show("fastdns", *report.verdict_rows(document["verdicts"]))
    except (PeerMissing, BenchError, PeerFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        document["took_s"] = round(time.monotonic() - began, 1)
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        output = arguments.output or servers.ROOT / "bench" / "results" / f"{stamp}.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    print(f"\n{document['took_s']:.0f} s; all samples in {output}")
    missed = arguments.check and not all(verdict["ok"] for verdict in document["verdicts"])
    return 1 if document["failures"] or missed else 0


if __name__ == "__main__":
    sys.exit(main())
