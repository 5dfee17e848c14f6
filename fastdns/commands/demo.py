# SPDX-License-Identifier: Apache-2.0
"""``fastdns demo``: the server with an example upstream, a short load, a table; serves until Ctrl-C.

Three child processes: an authoritative server with a small cluster's zone (fastdns.demo.upstream),
``fastdns serve`` as an operator would start it, and the load generator while it runs.
"""

import argparse
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console
from rich.table import Table

from fastdns import snapshot
from fastdns.cli import Parser
from fastdns.control.addresses import Endpoint, parse_endpoint
from fastdns.demo.processes import Figures, figures, first_line, running, wait_until
from fastdns.errors import FastDNSError, ListenError
from fastdns.loadgen import LoadResult, LoadSpec, run_process

SHOWN_NAME: Final = "nginx-svc.default.svc.cluster.local"

_DEFAULT_LISTEN: Final = "127.0.0.1:5300"
_START_S: Final = 10.0
_LOAD_NAMES: Final = 1000  # svc-0 to svc-999 in fastdns/demo/cluster.zone
_FIRST_TIME_RATE: Final = 300.0  # the upstream is Python: what fastdns is fast at isn't shown by drowning it
_DESCRIPTION: Final = """\
Start an example upstream with a small cluster's zone and the server in front of it, load it for a
few seconds, print the figures, and serve until Ctrl-C. Needs no internet."""
_EXAMPLES: Final = """\
  fastdns demo
  fastdns demo --listen 127.0.0.1:5353 --no-load"""


class DemoError(FastDNSError):
    """The demo could not start, or what it started is gone."""


class _StopRequested(Exception):
    """SIGINT or SIGTERM came."""


def main(arguments: list[str]) -> int:
    """Show it all; returns at Ctrl-C or SIGTERM."""
    args = _parse(arguments)
    listen = parse_endpoint(args.listen)
    _check_free(listen)
    console = Console()
    with contextlib.suppress(_StopRequested), _signals_as_stop():
        with _upstream() as upstream, _server(listen, upstream) as server:
            console.print(_how_to_ask(listen), highlight=False, soft_wrap=True)
            if not args.no_load:
                console.print(_load(listen, server.pid, args.load_seconds))
            if args.once:
                return 0
            console.print(f"serving on {listen}; Ctrl-C ends it", highlight=False)
            code = server.wait()
            raise DemoError(f"the server ended by itself with exit code {code}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("demo", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument(
        "--listen", default=_DEFAULT_LISTEN, metavar="ADDR[:PORT]", help="where to serve (%(default)s)"
    )
    parser.add_argument("--no-load", action="store_true", help="only serve")
    parser.add_argument("--load-seconds", type=float, default=2.0, metavar="S", help="of each (%(default)s)")
    parser.add_argument("--once", action="store_true", help="leave after the table")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _signals_as_stop() -> Iterator[None]:
    """SIGINT and SIGTERM raise _StopRequested once; those that come during the clean-up are ignored."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _StopRequested

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_free(listen: Endpoint) -> None:
    """Raise ListenError when the address can't be bound: `serve` would say so too, but later."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(listen.family, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(listen.sockaddr)
            except OSError as error:
                raise ListenError(
                    f"{listen}: {error.strerror}; another server or demo? Choose by --listen ADDR:PORT"
                ) from None


@contextlib.contextmanager
def _upstream() -> Iterator[str]:
    with running(["fastdns.demo.upstream", "--listen", "127.0.0.1:0"], read_line=True) as process:
        address = first_line(process, _START_S)
        if address is None:
            raise DemoError("the example upstream did not start")
        yield address


@contextlib.contextmanager
def _server(listen: Endpoint, upstream: str) -> Iterator["subprocess.Popen[str]"]:
    began = time.monotonic()
    with running(["fastdns", "serve", "--listen", str(listen), "--upstream", upstream]) as process:
        ready = wait_until(lambda: process.poll() is not None or _answers(listen), _START_S)
        if process.poll() is not None:
            raise DemoError(f"the server did not start (exit code {process.returncode})")
        if not ready:
            raise DemoError(f"the server did not answer on {listen} within {_START_S:g} s")
        print(f"the server answers on {listen} after {(time.monotonic() - began) * 1000:.0f} ms")
        yield process


def _answers(listen: Endpoint) -> bool:
    """Whether a question about SHOWN_NAME is answered NOERROR within 200 ms."""
    qname = b"".join(bytes([len(label)]) + label.encode("ascii") for label in SHOWN_NAME.split(".")) + b"\0"
    message_id = os.urandom(2)
    with socket.socket(listen.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(listen.sockaddr)
            sock.send(message_id + b"\1\0\0\1\0\0\0\0\0\0" + qname + b"\0\1\0\1")
            reply = sock.recv(4096)
        except OSError:
            return False
    return reply[:2] == message_id and reply[3] & 0xF == 0


def _command_name() -> str:
    """How this user starts fastdns: the script beside the interpreter, as short as it can be said."""
    script = Path(sys.executable).with_name("fastdns")
    if not script.exists():
        return f"{sys.executable} -m fastdns"
    if shutil.which("fastdns") == str(script):
        return "fastdns"
    with contextlib.suppress(ValueError):
        return str(script.relative_to(Path.cwd()))
    return str(script)


def _how_to_ask(listen: Endpoint) -> str:
    server = "" if str(listen) == _DEFAULT_LISTEN else f" @{listen}"
    fastdns = _command_name()
    lines = [
        "ask it from another terminal:",
        f"  {fastdns} query {SHOWN_NAME}{server}",
        f"  {fastdns} query SRV _http._tcp.web.default.svc.cluster.local{server}",
        f"  {fastdns} query www.example MX --json{server}",
        f"  dig @{listen.host} -p {listen.port} {SHOWN_NAME}",
        f"  kdig @{listen.host} -p {listen.port} -x 10.43.12.34",
        f"  {fastdns} stats",
    ]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Phase:
    title: str
    result: LoadResult
    before: Figures
    after: Figures
    hits: int
    misses: int


def _load(listen: Endpoint, pid: int, seconds: float) -> Table:
    """Three loads: every name for the first time, from the cache at an even pace, and as fast as it goes."""
    spec = functools.partial(
        LoadSpec,
        (listen.host, listen.port),
        names=[(f"svc-{number}.load.svc.cluster.local", "A") for number in range(_LOAD_NAMES)],
    )
    return _table(
        [
            _phase("first time", spec(count=_LOAD_NAMES, rate=_FIRST_TIME_RATE), pid),
            _phase("cached, 5,000/s", spec(seconds=seconds, rate=5000.0), pid),
            _phase("cached, full speed", spec(seconds=seconds, window=256), pid),
        ]
    )


def _phase(title: str, spec: LoadSpec, pid: int) -> _Phase:
    before, hits, misses = figures(pid), *_lookups(pid)
    result = run_process(spec)
    after, all_hits, all_misses = figures(pid), *_lookups(pid)
    return _Phase(title, result, before, after, all_hits - hits, all_misses - misses)


def _lookups(pid: int) -> tuple[int, int]:
    """Hits and misses so far, of all workers."""
    workers = snapshot.take(pid)["workers"]
    hits, misses = (sum(worker["counters"][name] for worker in workers) for name in ("hits", "misses"))
    return hits, misses


def _table(phases: list[_Phase]) -> Table:
    table = Table(title="the server, on a machine that it shares with the load and the upstream")
    table.add_column("")
    for phase in phases:
        table.add_column(phase.title, justify="right")
    rows = {
        "queries": lambda phase: f"{phase.result.sent:,}",
        "unanswered": lambda phase: f"{phase.result.sent - phase.result.answered:,}",
        "answers/s": lambda phase: f"{phase.result.answers_per_s:,.0f}",
        "hit ratio": lambda phase: _ratio(phase.hits, phase.hits + phase.misses),
        "wait, median": lambda phase: _wait(phase.result.latency_us.p50),
        "wait, 99 %": lambda phase: _wait(phase.result.latency_us.p99),
        "server CPU an answer": _cpu_per_answer,
        "server memory (PSS)": lambda phase: f"{phase.after.pss_octets / 2**20:.1f} MiB",
    }
    for label, cell in rows.items():
        table.add_row(label, *map(cell, phases))
    return table


def _ratio(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _wait(microseconds: float) -> str:
    return f"{microseconds:,.0f} µs" if microseconds < 1000 else f"{microseconds / 1000:,.1f} ms"


def _cpu_per_answer(phase: _Phase) -> str:
    if not phase.result.answered:
        return "-"
    return f"{(phase.after.cpu_s - phase.before.cpu_s) / phase.result.answered * 1e6:.1f} µs"
