# SPDX-License-Identifier: Apache-2.0
"""What the keeper and control do beside serving: shares, steering, control's lives, stops, PID 1, the log."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.mock_upstream import MockUpstream, Question, Reply, answer, mock_upstream
from tests.peers.run import free_port
from tests.system.clients import UDP, Client
from tests.system.server import (
    FASTDNS,
    IDLE_STOP_S,
    LOOPBACK,
    STOP_S,
    Server,
    default_environment,
    is_answering,
    serve,
)

RIGHT = "192.0.2.1"
PROBES = 4  # datagrams that control sends each worker, on each address
KILLED_AT_ONCE_S = 1.0


def reply_at_once(question: Question) -> list[Reply]:
    return [Reply(answer(question, RIGHT))]


@pytest.fixture
def upstream() -> Iterator[MockUpstream]:
    with mock_upstream(reply_at_once) as running:
        yield running


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process holds, by inode."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found


def ask_with_ids(server: Server, ids: list[int], name: str) -> int:
    """Ask for `name` once with each message ID, one after another; how many answers came within 2 s each."""
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(server.endpoint)
        sock.settimeout(2.0)
        for number in ids:
            query = dns.message.make_query(name, "A", id=number)
            sock.send(query.to_wire())
            with contextlib.suppress(TimeoutError):
                answered += struct.unpack("!H", sock.recv(512)[:2])[0] == number
    return answered


def stats_command(server: Server) -> dict[str, object]:
    done = subprocess.run(
        [*FASTDNS, "stats", "--json", "--pid", str(server.process.pid)],
        capture_output=True,
        env=default_environment(),
        timeout=20,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def wait_for_probes(server: Server) -> None:
    server.wait_for(
        lambda stats: all(worker["counters"]["dropped_short"] >= PROBES for worker in stats.workers),
        "control's probes",
    )


def test_each_worker_gets_the_ids_that_are_its(upstream: MockUpstream) -> None:
    with serve(upstream.server) as server:
        wait_for_probes(server)
        before = server.stats()
        assert ask_with_ids(server, [2 * number for number in range(20)], "even.test.") == 20
        assert ask_with_ids(server, [2 * number + 1 for number in range(30)], "odd.test.") == 30
        after = server.stats()
        assert [
            after.worker_counter(index, "udp_queries") - before.worker_counter(index, "udp_queries")
            for index in (0, 1)
        ] == [20, 30]
        assert "share" not in server.said()


def test_a_worker_that_keeps_dying_has_its_share_answered_by_the_other(upstream: MockUpstream) -> None:
    """Killed again and again within a second of its start, it is left down for a while: nobody notices."""
    with serve(upstream.server) as server:
        wait_for_probes(server)
        for _ in range(8):  # the next start is 1.6 s away then
            child = server.running("worker", 1)
            os.kill(child["pid"], signal.SIGKILL)
            down = server.wait_for(
                lambda stats, died=child["died_ms"]: stats.child("worker", 1)["died_ms"] > died,  # type: ignore[misc]
                "a death",
            )
        odd = [2 * number + 1 for number in range(10)]
        assert ask_with_ids(server, odd, "steered.test.") == len(odd)
        after = server.stats()
        assert after.child("worker", 1)["state"] == "waiting"
        taken = after.worker_counter(0, "udp_queries") - down.worker_counter(0, "udp_queries")
        assert taken == len(odd)
        server.running("worker", 1)


def test_control_comes_back_and_opens_nothing(upstream: MockUpstream) -> None:
    with serve(upstream.server) as server:
        wait_for_probes(server)
        keeper = server.process.pid
        before = sockets_of(keeper)
        assert len(before) == 2 * 2 + 1  # UDP and TCP of two workers, the channel
        with Client(server.endpoint) as client:
            for number in range(3):
                server.kill_child("control")
                assert client.ask(f"n{number}.test.", "A", UDP).rcode() == dns.rcode.NOERROR
        after = sockets_of(keeper)
        assert len(after) == len(before)
        assert len(after & before) == len(before) - 1
        assert stats_command(server)["children"][0]["restarts"] == 3  # type: ignore[index]


def test_stats_do_not_need_control(upstream: MockUpstream) -> None:
    with serve(upstream.server) as server:
        with Client(server.endpoint) as client:
            for name in ("a.test.", "a.test.", "b.test."):
                client.ask(name, "A", UDP)
        control = server.pid("control")
        os.kill(control, signal.SIGSTOP)
        figures = stats_command(server)
        os.kill(control, signal.SIGCONT)
    assert set(figures) == {"keeper", "config", "children", "workers", "coordinator", "totals", "cache"}
    assert figures["config"] == {
        "number": 1,
        "listen": [f"{LOOPBACK}:{server.endpoint[1]}"],
        "upstream": [f"{upstream.server[0]}:{upstream.server[1]}"],
    }
    totals, cache = figures["totals"], figures["cache"]
    assert isinstance(totals, dict)
    assert isinstance(cache, dict)
    assert totals["counters"]["upstream_answers"] == 2
    assert totals["hit_percent"] > 0
    assert cache["entries"] == 2


def test_a_foreign_socket_is_noticed_and_its_group_left_to_the_kernel(upstream: MockUpstream) -> None:
    endpoints = [(LOOPBACK, free_port()), (LOOPBACK, free_port())]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind(endpoints[1])
        with serve(upstream.server, listen=endpoints) as server:
            until = time.monotonic() + 15
            while "does not get its share" not in server.said():
                assert time.monotonic() < until, server.said()
                time.sleep(0.05)
            lines = [line for line in server.said().splitlines() if "share" in line]
            assert len(lines) == 1
            assert lines[0].startswith(f"[WARNING] {LOOPBACK}:{endpoints[1][1]}: ")
            # By the kernel's hash both workers get something there; under the program worker 1 got nothing.
            before = server.stats()
            for _ in range(200):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.sendto(b"\0\0\1\0", endpoints[1])
            server.wait_for(
                lambda stats: all(
                    stats.worker_counter(index, "dropped_short")
                    > before.worker_counter(index, "dropped_short")
                    for index in (0, 1)
                ),
                "a share for each",
            )
            assert ask_with_ids(server, list(range(10)), "other.test.") == 10  # the first address is as ever


def test_a_stopped_worker_does_not_hold_an_idle_stop(upstream: MockUpstream) -> None:
    with serve(upstream.server) as server:
        os.kill(server.pid("worker", 1), signal.SIGSTOP)
        assert server.stop() < IDLE_STOP_S + 0.5  # killed at 2 s


@pytest.mark.slow
def test_a_stopped_worker_with_questions_is_waited_for_longer() -> None:
    with mock_upstream(lambda _: []) as silent, serve(silent.server) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(dns.message.make_query("never.test.", "A", id=1).to_wire(), server.endpoint)
            server.wait_for(lambda stats: stats.workers[1]["pending"] == 1, "a pending question")
            os.kill(server.pid("worker", 1), signal.SIGSTOP)
            took = server.stop(timeout_s=STOP_S + 1)
    assert IDLE_STOP_S < took < STOP_S + 0.5


def test_a_second_signal_ends_it_at_once(upstream: MockUpstream) -> None:
    with serve(upstream.server) as server:
        os.kill(server.pid("worker", 1), signal.SIGSTOP)
        os.kill(server.pid("coordinator"), signal.SIGSTOP)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert server.stop(signal.SIGINT) < KILLED_AT_ONCE_S


def test_hangup_is_said_to_be_ignored(upstream: MockUpstream) -> None:
    with serve(upstream.server) as server:
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 5
        while "SIGHUP ignored" not in server.said():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert is_answering(server.endpoint)


def test_a_death_is_logged_in_one_line(upstream: MockUpstream) -> None:
    with serve(upstream.server) as server:
        before = server.pid("worker", 0)
        server.kill_child("worker", 0)
        lines = [line for line in server.said().splitlines() if f"(pid {before})" in line]
    pattern = r"\[WARNING\] worker 0 \(pid \d+\) killed by signal 9 after \d+ ms; restart 1 in 0 ms"
    assert len(lines) == 1
    assert re.fullmatch(pattern, lines[0])


def test_a_log_that_nobody_reads_holds_nobody(upstream: MockUpstream) -> None:
    """Standard error is a full pipe: a child is started again all the same, and the stop is a stop."""
    endpoint = (LOOPBACK, free_port())
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    command = [*FASTDNS, "serve", "--listen", f"{LOOPBACK}:{endpoint[1]}"]
    command += ["--upstream", f"{upstream.server[0]}:{upstream.server[1]}"]
    process = subprocess.Popen(command, stderr=write_end, env=default_environment())
    try:
        server = Server(process, endpoint, Path(os.devnull), default_environment())
        until = time.monotonic() + 10
        while not is_answering(endpoint):
            assert time.monotonic() < until
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write_end, b"x")
        os.set_blocking(write_end, True)
        for role in ("control", "worker", "coordinator"):
            server.kill_child(role)
        assert is_answering(endpoint, 2.0)
        server.stop()
    finally:
        process.kill()
        process.wait()
        os.close(read_end)
        os.close(write_end)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a PID namespace")
def test_as_pid_1(upstream: MockUpstream) -> None:
    """As in a container: signals reach it, children are started again, nothing is left when it ends."""
    wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with serve(upstream.server, wrapper=wrapper, expect_drained=False, wait=False) as outer:
        until = time.monotonic() + 10
        while not is_answering(outer.endpoint):
            assert time.monotonic() < until, outer.said()
        children = Path(f"/proc/{outer.process.pid}/task/{outer.process.pid}/children").read_text()
        keeper = int(children.split()[0])
        figures = json.loads(
            subprocess.run(
                [*FASTDNS, "stats", "--json", "--pid", str(keeper)],
                capture_output=True,
                env=default_environment(),
                timeout=20,
                check=True,
            ).stdout
        )
        assert [child["pid"] for child in figures["children"]] == [2, 3, 4, 5]
        inside = [*Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()]
        for pid in inside:
            os.kill(int(pid), signal.SIGKILL)
        until = time.monotonic() + 10
        while not is_answering(outer.endpoint):
            assert time.monotonic() < until, outer.said()
        os.kill(keeper, signal.SIGTERM)
        assert outer.process.wait(STOP_S + 1) == 0
