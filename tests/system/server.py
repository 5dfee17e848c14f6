# SPDX-License-Identifier: Apache-2.0
"""A real fastdns server for a test: started as a subprocess, ready when it answers, stopped and looked after.

    with serve(upstream=coredns.server) as server:
        ask(server.endpoint, "nginx-svc.default.svc.cluster.local", "A")
        os.kill(server.pid("worker", 0), signal.SIGKILL)
        assert server.stats().restarts == {"worker 0": 1}

Leaving the block stops the server and asserts what must hold after every test: exit code 0 within 5 s of
SIGTERM, no process of it left, and, before that, no pending question, client place, question in flight or TCP
connection that nobody waits for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastdns import _stats
from fastdns.errors import NoServerError, SegmentError
from fastdns.snapshot import open_segments
from tests.peers.run import free_port, process_tree

ROOT = Path(__file__).parents[2]
FASTDNS = [sys.executable, "-P", "-m", "fastdns"]  # PYTHONPATH says which: this tree's, or the debug build's
LOOPBACK = "127.0.0.1"
START_S = 10.0  # on a machine that compiles something else; the benchmark of the start is test_limits.py's
STOP_S = 5.0  # with questions pending
IDLE_STOP_S = 2.0
DRAIN_S = 6.0  # the longest that a client may wait is 4.5 s


class ServerError(AssertionError):
    """The server left, or didn't answer; the text has what it said."""


@dataclass(frozen=True)
class Stats:
    """A look at a server's shared memory; numbers in it may be a moment apart."""

    board: _stats.Board
    coordinator: _stats.Post
    workers: list[_stats.Region]

    @property
    def children(self) -> list[_stats.Child]:
        return self.board["children"]

    def child(self, role: str, index: int = 0) -> _stats.Child:
        return next(child for child in self.children if (child["role"], child["index"]) == (role, index))

    @property
    def restarts(self) -> dict[str, int]:
        """How often each child was started again, those that never were left out."""
        return {f"{one['role']} {one['index']}": one["restarts"] for one in self.children if one["restarts"]}

    def counter(self, name: str) -> int:
        """A counter, summed over the processes that have it."""
        blocks = (self.coordinator["counters"], *(worker["counters"] for worker in self.workers))
        return sum(block[name] for block in blocks)

    def worker_counter(self, index: int, name: str) -> int:
        return self.workers[index]["counters"][name]

    def in_use(self) -> dict[str, int]:
        """Everything that must be 0 again once no client waits."""
        used = {"inflight": self.coordinator["inflight"]}
        for worker in self.workers:
            used[f"worker {worker['index']} pending"] = worker["pending"]
            used[f"worker {worker['index']} clients"] = worker["clients"]
            used[f"worker {worker['index']} TCP"] = worker["tcp_connections"]
            used[f"worker {worker['index']} TCP blocks"] = worker["tcp_blocks"]
        return {what: count for what, count in used.items() if count}


class Server:
    """A running server. `endpoint` is its first listener's address and port."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        endpoint: tuple[str, int],
        output: Path,
        environment: dict[str, str],
    ) -> None:
        self.process = process
        self.endpoint = endpoint
        self.keeper = process.pid  # another one where the server runs below a wrapper
        self._output = output
        self._environment = environment

    def said(self) -> str:
        """What it wrote to standard output and standard error so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def stats(self) -> Stats:
        """The shared memory as it is now, by the keeper's descriptors."""
        try:
            with open_segments(self.keeper) as fds:
                board = _stats.read_board(fds["board"])
                workers = [_stats.read_region(fds[f"worker-{index}"]) for index in range(board["workers"])]
                return Stats(board, _stats.read_post(fds["coordinator"]), workers)
        except (KeyError, OSError, SegmentError, NoServerError) as error:  # not there yet, or gone
            raise ServerError(f"no stats: {error!r}\n{self.said()}") from error

    def pid(self, role: str, index: int = 0) -> int:
        """Never 0: a child may serve before the keeper has noted its PID, and kill(0) is for ourselves."""
        return self.running(role, index)["pid"]

    def running(self, role: str, index: int = 0) -> _stats.Child:
        """The board's row of a child, once it is there."""
        return self.wait_for(
            lambda stats: stats.child(role, index)["pid"] > 0, f"a running {role} {index}"
        ).child(role, index)

    def pids(self) -> list[int]:
        """The keeper and all of its children, those of the moment."""
        return process_tree(self.keeper)

    def is_serving(self) -> bool:
        """Whether all children have begun their work."""
        try:
            stats = self.stats()
        except ServerError:
            return False  # nothing is there yet
        return bool(stats.coordinator["serving"]) and all(worker["serving"] for worker in stats.workers)

    def wait_for(self, condition: Callable[[Stats], bool], what: str, timeout_s: float = 5.0) -> Stats:
        """Ask for the stats until `condition` holds."""
        deadline = time.monotonic() + timeout_s
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            if time.monotonic() > deadline:
                raise ServerError(f"{what} didn't happen within {timeout_s} s: {stats}\n{self.said()}")
            time.sleep(0.005)

    def kill_child(self, role: str, index: int = 0) -> _stats.Child:
        """SIGKILL a child; the board's row of its successor."""
        before = self.running(role, index)
        assert before["pid"] in self.pids(), "the board's PIDs are of another namespace"
        os.kill(before["pid"], signal.SIGKILL)
        after = self.wait_for_successor(before)
        assert after["restarts"] == before["restarts"] + 1
        return after

    def wait_for_successor(self, before: _stats.Child, within_s: float = 5.0) -> _stats.Child:
        """The board's row of the child that took the place of `before`."""
        role, index = before["role"], before["index"]
        row = self.wait_for(
            lambda stats: stats.child(role, index)["restarts"] > before["restarts"],
            f"another {role} {index}",
            within_s,
        ).child(role, index)
        assert row["pid"] != before["pid"]
        return row

    def assert_drained(self) -> None:
        """Nobody waits any more, so nothing may be held for anybody."""
        self.wait_for(lambda stats: not stats.in_use(), "everything in use given back", DRAIN_S)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_S) -> float:
        """Ask it to leave; seconds that it took. Asserts exit code 0 and that no process of it is left."""
        family = [(pid, _started(pid)) for pid in self.pids()]
        began = time.monotonic()
        os.kill(self.keeper, with_signal)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServerError(f"still there {timeout_s} s after {with_signal.name}:\n{self.said()}") from None
        took = time.monotonic() - began
        assert code == 0, f"exit code {code} after {with_signal.name}:\n{self.said()}"
        strays = [pid for pid, started in family if started is not None and _started(pid) == started]
        assert not strays, f"processes {strays} outlived the keeper:\n{self.said()}"
        return took


def refusal(
    arguments: Sequence[str], wrapper: Sequence[str] = (), command: Sequence[str] = ("serve",)
) -> tuple[int, str]:
    """Exit code and all output of a `fastdns serve` that is expected to leave by itself."""
    done = subprocess.run(
        [*wrapper, *FASTDNS, *command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=default_environment(),
        timeout=START_S,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def default_environment() -> dict[str, str]:
    """The tests' own, with this tree's fastdns."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def endpoint_text(endpoint: tuple[str, int]) -> str:
    address, port = endpoint
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@contextlib.contextmanager
def serve(
    upstream: tuple[str, int] | Sequence[tuple[str, int]],
    *,
    listen: Sequence[tuple[str, int]] | None = None,
    workers: int = 2,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    expect_drained: bool = True,
    wait: bool = True,
    conf: Path | None = None,
) -> Iterator[Server]:
    """Start `fastdns serve`, wait until its first listener answers, stop it at the end of the block.

    With `conf`, a Corefile, `listen` says only where it can be asked, and `upstream` nothing.

    The server may have been stopped inside the block; it is not looked after then. `environment` is all of
    the server's (fixture debug_build), `wrapper` is put before its command line.
    """
    endpoints = list(listen) if listen is not None else [(LOOPBACK, free_port())]
    upstreams = [upstream] if isinstance(upstream, tuple) else upstream
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        *wrapper,
        *FASTDNS,
        "serve",
        "--workers",
        str(workers),
        *arguments,
    ]
    if conf is not None:
        command += ["--conf", str(conf)]
    else:
        for endpoint in endpoints:
            command += ["--listen", endpoint_text(endpoint)]
        for address, port in upstreams:
            command += ["--upstream", endpoint_text((address, port))]
    variables = default_environment() if environment is None else dict(environment)
    with tempfile.TemporaryDirectory(prefix="fastdns-test-") as scratch:
        output = Path(scratch) / "output"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=variables,
                start_new_session=True,
            )
        server = Server(process, endpoints[0], output, variables)
        try:
            if wait:
                wait_until_answering(server)
            yield server
            if process.poll() is None:
                if expect_drained:
                    server.assert_drained()
                server.stop()
        finally:
            # Only after a failure is anything left to kill: the keeper takes its children with it.
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_until_answering(server: Server, timeout_s: float = START_S) -> None:
    """Wait until all workers serve, then ask the first listener until anything comes back."""
    address, port = server.endpoint
    address = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerError(f"left with {server.process.returncode} before it answered:\n{server.said()}")
        with contextlib.suppress(OSError):
            server.keeper = find_keeper(server.process.pid)
        if server.is_serving() and is_answering((address, port)):
            return
        time.sleep(0.005)
    raise ServerError(f"no answer on {server.endpoint} within {timeout_s} s:\n{server.said()}")


def find_keeper(pid: int) -> int:
    """The process itself, or below a wrapper (unshare --fork) the first one that calls itself a keeper."""
    for one in process_tree(pid):
        if Path(f"/proc/{one}/comm").read_text(encoding="utf-8").strip() == "fastdns: keeper":
            return one
    return pid


def is_answering(endpoint: tuple[str, int], timeout_s: float = 0.2) -> bool:
    """Whether anything comes back for a question that needs no upstream: one of class CH, opcode STATUS."""
    message_id = os.urandom(2)
    query = message_id + b"\x10\x00\0\1\0\0\0\0\0\0" + b"\0\0\1\0\1"
    sockaddr = socket.getaddrinfo(*endpoint, type=socket.SOCK_DGRAM)[0]
    with socket.socket(sockaddr[0], socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(sockaddr[4])
            if sock.getsockname()[:2] == sock.getpeername()[:2]:
                return False  # the kernel gave us the very port that nobody has yet: we would hear ourselves
            sock.send(query)
            return sock.recv(512)[:2] == message_id
        except OSError:
            return False


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    return _started(pid) is not None


def _started(pid: int) -> int | None:
    """Start time in clock ticks, which with the pid names a process for good; None: gone, or a zombie."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
