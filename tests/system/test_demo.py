# SPDX-License-Identifier: Apache-2.0
"""`fastdns demo`: it shows, serves, and leaves nothing behind, however it ends."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rcode
import psutil
import pytest

from fastdns.commands.demo import SHOWN_NAME
from tests.peers.run import free_port

pytestmark = pytest.mark.system

_START_S = 30.0
_STOP_S = 12.0


@contextlib.contextmanager
def demo(port: int, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "fastdns", "demo", "--listen", f"127.0.0.1:{port}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """What is printed until `text` has come."""
    assert process.stdout is not None
    seen = ""
    deadline = time.monotonic() + _START_S
    while text not in seen:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        # Not readline: what it reads ahead select doesn't see.
        more = os.read(process.stdout.fileno(), 65536) if ready else b""
        assert more, f"{text!r} did not come after:\n{seen}"
        seen += more.decode()
    return seen


def ask(port: int, name: str = SHOWN_NAME) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", timeout=5, port=port)


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    assert len(processes) >= 5  # upstream, keeper, control, coordinator, workers
    _, alive = psutil.wait_procs(processes, timeout=_STOP_S)
    for process in alive:
        process.kill()
    assert alive == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(number: signal.Signals) -> None:
    port = free_port()
    with demo(port, "--no-load") as process:
        shown = read_until(process, "Ctrl-C ends it")
        assert f"query {SHOWN_NAME} @127.0.0.1:{port}" in shown
        reply = ask(port)
        assert [rdata.to_text() for rdata in reply.answer[0]] == ["10.43.12.34"]
        assert ask(port, "nothing.example").rcode() == dns.rcode.NXDOMAIN
        started = family(process)
        process.send_signal(number)
        assert process.wait(_STOP_S) == 0
        assert_gone(started)


def test_killed_it_leaves_nothing_behind() -> None:
    port = free_port()
    with demo(port, "--no-load") as process:
        read_until(process, "Ctrl-C ends it")
        started = family(process)
        process.kill()
        process.wait()
        assert_gone(started)


def test_the_table() -> None:
    port = free_port()
    with demo(port, "--once", "--load-seconds", "0.3") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    ratios = next(line for line in output.splitlines() if "hit ratio" in line)
    assert ratios.count("100.0 %") == 2
    assert " 0.0 %" in ratios
    for label in ("queries", "answers/s", "wait, median", "server CPU an answer", "server memory"):
        assert label in output


def test_a_taken_port_is_said_at_once() -> None:
    port = free_port()
    with demo(port, "--no-load") as first:
        read_until(first, "Ctrl-C ends it")
        with demo(port) as second:
            output, _ = second.communicate(timeout=_START_S)
        assert second.returncode == 2
        assert output.startswith(f"fastdns demo: 127.0.0.1:{port}: Address already in use")
        first.send_signal(signal.SIGINT)
        assert first.wait(_STOP_S) == 0


def test_a_dead_server_ends_the_demo() -> None:
    port = free_port()
    with demo(port, "--no-load") as process:
        read_until(process, "Ctrl-C ends it")
        started = family(process)
        keeper = next(child for child in started if "serve" in child.cmdline() or child.children())
        keeper.kill()
        output, _ = process.communicate(timeout=_STOP_S)
        assert process.returncode == 1
        assert "the server ended by itself with exit code -9" in output
        assert_gone(started)
