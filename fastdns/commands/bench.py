# SPDX-License-Identifier: Apache-2.0
"""``fastdns bench``: load a server and print what it did: queries/s, waits, losses, rcodes."""

import argparse
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastdns.cli import Parser
from fastdns.control.addresses import Endpoint, parse_endpoint
from fastdns.errors import FastDNSError, UsageError
from fastdns.loadgen import LoadResult, LoadSpec, numbered_names, read_names, run_process
from fastdns.loadgen.tools import ToolMissingError, run_dnsperf, run_locust

_DESCRIPTION: Final = """\
Load a DNS server over UDP and print queries/s, waits, losses and rcodes.

tools:
  native    this package's generator: one process, faster on one core than any server on another
  dnsperf   where it is installed
  locust    where it is installed (pip install fastdns[bench]): for behaviour, not speed
  all       each of these that is there, one after another"""
_EXAMPLES: Final = """\
  fastdns bench --server 127.0.0.1:5300
  fastdns bench --server 169.254.20.10 --names 1000 --suffix svc.cluster.local --rate 5000
  fastdns bench --server 127.0.0.1:5300 --file queries.txt --tool all --json"""

_DEFAULT_SERVER: Final = "127.0.0.1:5300"


def main(arguments: list[str]) -> int:
    """Load, print, and return 0; 1 when a tool got no answer at all."""
    args = _parse(arguments)
    server = parse_endpoint(args.server)
    names = _names(args)
    results: dict[str, LoadResult] = {}
    for tool, load in _tools(args.tool).items():
        try:
            results[tool] = load(server, names, args)
        except ToolMissingError as error:
            if args.tool == tool:
                raise
            print(f"fastdns bench: without {tool}: {error}", file=sys.stderr)
    if args.json:
        document: dict[str, Any] = {"server": str(server), "seconds": args.seconds}
        document["tools"] = {tool: result.as_dict() for tool, result in results.items()}
        print(json.dumps(document, indent=2))
    else:
        _print_table(server, results)
    return 0 if all(result.answered for result in results.values()) else 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("bench", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("--server", default=_DEFAULT_SERVER, metavar="ADDR[:PORT]", help="(%(default)s)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--names", type=_positive, default=1000, metavar="N", help="numbered names (%(default)s)"
    )
    what.add_argument(
        "--file", type=Path, help="names from a file, 'name [type]' a line, as dnsperf reads it"
    )
    what.add_argument("--unique", action="store_true", help="names never asked before: all misses (native)")
    parser.add_argument("--suffix", default="example", help="of numbered and unique names (%(default)s)")
    parser.add_argument("--seconds", type=_positive, default=10, metavar="S", help="each tool (%(default)s)")
    parser.add_argument("--rate", type=_positive, metavar="QPS", help="evenly; else as fast as it goes")
    parser.add_argument("--tool", choices=("native", "dnsperf", "locust", "all"), default="native")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return value


def _names(args: argparse.Namespace) -> list[tuple[str, str]]:
    if args.unique:
        if args.tool != "native":
            raise UsageError("--unique is for --tool native")
        return []
    if args.file is None:
        return numbered_names(args.names, args.suffix)
    try:
        with args.file.open(encoding="ascii") as lines:
            names = read_names(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{args.file}: {error}") from None
    if not names:
        raise UsageError(f"{args.file}: holds no name")
    return names


_Load = Callable[[Endpoint, list[tuple[str, str]], argparse.Namespace], LoadResult]


def _tools(chosen: str) -> dict[str, _Load]:
    tools: dict[str, _Load] = {"native": _native, "dnsperf": _dnsperf, "locust": _locust}
    return tools if chosen == "all" else {chosen: tools[chosen]}


def _native(server: Endpoint, names: list[tuple[str, str]], args: argparse.Namespace) -> LoadResult:
    spec = LoadSpec(
        (server.host, server.port),
        names=names,
        unique_suffix=args.suffix if args.unique else None,
        seconds=args.seconds,
        rate=args.rate,
    )
    try:
        return run_process(spec)
    except RuntimeError as error:
        raise FastDNSError(str(error)) from None


def _dnsperf(server: Endpoint, names: list[tuple[str, str]], args: argparse.Namespace) -> LoadResult:
    program = shutil.which("dnsperf")
    if program is None:
        raise ToolMissingError("dnsperf isn't installed (Debian: apt-get install dnsperf)")
    return run_dnsperf(program, (server.host, server.port), names, args.seconds, args.rate)


def _locust(server: Endpoint, names: list[tuple[str, str]], args: argparse.Namespace) -> LoadResult:
    if importlib.util.find_spec("locust") is None:
        raise ToolMissingError("locust isn't installed (pip install fastdns[bench])")
    return run_locust((server.host, server.port), names, args.seconds, args.rate)


def _print_table(server: Endpoint, results: dict[str, LoadResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"load on {server}")
    table.add_column("")
    for tool in results:
        table.add_column(tool, justify="right")
    rows: dict[str, Callable[[LoadResult], str]] = {
        "queries": lambda result: f"{result.sent:,}",
        "answered": lambda result: f"{result.answered:,}",
        "lost": lambda result: f"{result.timeouts:,}",
        "answers/s": lambda result: f"{result.answers_per_s:,.0f}",
        "wait p50": lambda result: _wait(result.latency_us.p50),
        "wait p99": lambda result: _wait(result.latency_us.p99),
        "wait max": lambda result: _wait(result.latency_us.max),
        "rcodes": lambda result: ", ".join(f"{name} {number:,}" for name, number in result.rcodes.items()),
    }
    for label, cell in rows.items():
        table.add_row(label, *map(cell, results.values()))
    Console().print(table)


def _wait(microseconds: float) -> str:
    return f"{microseconds:,.0f} µs" if microseconds else "-"
