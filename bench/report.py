# SPDX-License-Identifier: Apache-2.0
"""Samples to figures (median, lowest, highest), figures to a table and to JSON."""

import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Sample
from bench.servers import ROOT
from tests.peers.run import versions

RATIO_MAX = {"hits": 1.12, "misses": 2.6}
"""Highest multiple of the floor for fastdns, by bench; the coming forwarding engine's is 2.6 for misses."""

PLUGINS_RATIO_MAX = 1.18
"""The same for hits with the plugins that RKE2 has on: errors, cache, reload, loop, prometheus."""

LONE_WAIT_MAX_US = 150.0
"""Highest median wait for a lone miss above upstream's own."""

TCP_CPU_MAX = 0.5
"""Highest CPU for a miss over TCP to CoreDNS, as a share of node-cache's."""

SHARE_MAX = 0.6
"""Highest share of one of two workers when a single socket does all the asking."""


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, lowest and highest of at least one value."""
    found = list(values)
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def figures(samples: dict[str, list[Sample]]) -> dict[str, dict[str, Any]]:
    """The figures of one bench by server, with the samples that they come from."""
    result: dict[str, dict[str, Any]] = {}
    for name, taken in samples.items():
        result[name] = {
            "cpu_us": spread(sample.cpu_us for sample in taken),
            "answers_per_s": spread(sample.load.answers_per_s for sample in taken),
            "busy": spread(sample.busy for sample in taken),
            "p50_us": spread(sample.load.latency_us.p50 for sample in taken),
            "p99_us": spread(sample.load.latency_us.p99 for sample in taken),
            "sent": sum(sample.load.sent for sample in taken),
            "lost": sum(sample.load.lost for sample in taken),
            "problems": sorted({problem for sample in taken for problem in sample.problems}),
            "samples": [asdict(sample) for sample in taken],
        }
        if "ratio" in taken[0].extra:
            result[name]["ratio"] = spread(sample.extra["ratio"] for sample in taken)
    return result


def _span(values: dict[str, float] | None, form: str) -> str:
    if values is None:
        return ""
    median, low, high = (format(values[key], form) for key in ("median", "min", "max"))
    return f"{median} ({low}-{high})" if low != high else median


def load_rows(found: dict[str, dict[str, Any]], base: str = "floor") -> tuple[list[str], list[list[str]]]:
    """Table of a bench at saturation; ratios are to `base`."""
    header = ["server", f"x {base}", "CPU us/answer", "answers/s", "busy", "lost"]
    rows = [
        [
            name,
            _span(figure.get("ratio"), ".2f") or "1",
            _span(figure["cpu_us"], ".2f"),
            format(figure["answers_per_s"]["median"], ",.0f"),
            format(figure["busy"]["median"], ".0%"),
            str(figure["lost"]),
        ]
        for name, figure in found.items()
    ]
    return header, rows


def lone_rows(found: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Table of the lone-miss bench: CPU for one miss, and the wait above upstream's own."""
    header = ["server", "CPU us/miss", "median wait us", "above upstream's", "p99 us", "lost"]
    base = found["upstream"]["p50_us"]["median"]
    rows = [
        [
            name,
            _span(figure["cpu_us"], ".1f"),
            _span(figure["p50_us"], ".0f"),
            "" if name == "upstream" else format(figure["p50_us"]["median"] - base, "+.0f"),
            _span(figure["p99_us"], ".0f"),
            str(figure["lost"]),
        ]
        for name, figure in found.items()
    ]
    return header, rows


def _verdict(what: str, measured: float, limit: float) -> dict[str, Any]:
    return {"what": what, "measured": measured, "limit": limit, "ok": measured <= limit}


def verdicts(benches: dict[str, Any]) -> list[dict[str, Any]]:
    """What fastdns is held to, as far as it was measured: what, measured, limit, ok."""
    found = []
    for bench, limit in RATIO_MAX.items():
        if fastdns := benches.get(bench, {}).get("fastdns"):
            found.append(_verdict(f"{bench}: x floor", fastdns["ratio"]["median"], limit))
            found.append(_verdict(f"{bench}: queries lost", fastdns["lost"], 0))
    if plugins := benches.get("hits", {}).get("fastdns-plugins"):
        what = "hits with RKE2's plugins: x floor"
        found.append(_verdict(what, plugins["ratio"]["median"], PLUGINS_RATIO_MAX))
        found.append(_verdict("hits with RKE2's plugins: queries lost", plugins["lost"], 0))
    lone = benches.get("lone", {})
    if fastdns := lone.get("fastdns"):
        above = fastdns["p50_us"]["median"] - lone["upstream"]["p50_us"]["median"]
        found.append(_verdict("lone misses: us of median wait above upstream's", above, LONE_WAIT_MAX_US))
        if node_cache := lone.get("node-cache"):
            cpu, limit = fastdns["cpu_us"]["median"], node_cache["cpu_us"]["median"]
            found.append(_verdict("lone misses: CPU us, against node-cache's", cpu, limit))
    if fastdns := benches.get("tcp", {}).get("fastdns"):
        what = "misses over TCP to CoreDNS: CPU, x node-cache's"
        found.append(_verdict(what, fastdns["ratio"]["median"], TCP_CPU_MAX))
        found.append(_verdict("misses over TCP to CoreDNS: queries lost", fastdns["lost"], 0))
    if balance := benches.get("balance", {}).get("fastdns"):
        found.append(_verdict("balance: largest share", max(balance["extra"]["shares"]), SHARE_MAX))
    return found


def verdict_rows(found: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Table of what fastdns is held to."""
    header = ["held to", "measured", "at most", ""]
    rows = [
        [
            one["what"],
            format(one["measured"], ".4g"),
            format(one["limit"], ".4g"),
            "ok" if one["ok"] else "NOT MET",
        ]
        for one in found
    ]
    return header, rows


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: drawn on a terminal, plain columns in a pipe or a file."""
    if sys.stdout.isatty():
        table = Table(title=title, title_justify="left")
        for place, column in enumerate(header):
            table.add_column(column, justify="left" if place == 0 else "right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    print(f"\n{title}")
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    sys.stdout.flush()


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=ROOT)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def machine() -> dict[str, Any]:
    """Where and of what a result was taken: without it a figure can't be compared."""
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _first_line(["git", "describe", "--always", "--dirty", "--abbrev=12"]),
        "kernel": platform.release(),
        "cpu": cpu,
        "python": platform.python_version(),
        "versions": {
            **versions(),
            "unbound": _first_line(["unbound", "-V"]),
            "dnsdist": _first_line(["dnsdist", "--version"]),
        },
    }
