# SPDX-License-Identifier: Apache-2.0
"""Processes are killed and stopped under load, and no UDP question is lost.

The load asks each question once, from a process of its own, and counts as answered only what comes within a
second and repeats the question. Names have a TTL of 5 s, so that hits and misses are under way at every kill.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import dns.rcode
import pytest

from fastdns.loadgen.process import finish_process, start_process
from fastdns.loadgen.spec import LoadResult, LoadSpec
from tests.counts import count
from tests.peers import make_zone
from tests.peers.run import Peer
from tests.system.clients import Client
from tests.system.server import Server, is_alive, serve

RATE = 20_000  # queries a second
BACK_WITHIN_MS = 100
KILL_PAUSE_S = (
    0.36  # three roles in turn: each child lives for more than a second between its deaths (back-off)
)
REPLACED_WITHIN_S = 2.5  # a stopped child: 15 ticks of 100 ms, and what the machine adds
WARM_UP_S = 0.5
NAMES = [(name, rdtype) for name, rdtype in make_zone.questions(make_zone.CLUSTER) if "headless-" not in name]

pytestmark = pytest.mark.fault


@pytest.fixture
def victim(coredns: Peer) -> Iterator[Server]:
    """A server that may be hurt."""
    with serve(coredns.server) as server:
        yield server


def load(
    server: Server, seconds: float, rate: float = RATE, timeout_s: float = 1.0
) -> "subprocess.Popen[str]":
    """Begin the load; returns when its first queries are under way."""
    before = server.stats().counter("udp_queries")
    spec = LoadSpec(
        server.endpoint,
        names=NAMES,
        order="random",
        seconds=seconds,
        rate=rate,
        window=int(rate * timeout_s),  # what stands still for that long must not hold the rest back
        timeout_s=timeout_s,
    )
    running = start_process(spec)
    server.wait_for(lambda stats: stats.counter("udp_queries") > before + 100, "the load's first queries")
    time.sleep(WARM_UP_S)
    return running


def finish(running: "subprocess.Popen[str]", seconds: float) -> LoadResult:
    result = finish_process(running, seconds + 20.0)
    print(f"\n{result}")
    return result


def assert_all_answered(result: LoadResult) -> None:
    assert result.timeouts == 0, f"{result.timeouts} questions had no answer in time: {result}"
    assert set(result.rcodes) == {"NOERROR"}, result
    assert result.mismatched == 0, result
    assert result.refused == 0, result


def test_kill_each_role_in_turn_under_load(victim: Server) -> None:
    """SIGKILL of a worker, the coordinator, control, again and again at 20,000 queries/s: nothing is lost."""
    rounds = count("child_kills")
    seconds = rounds * 3 * (KILL_PAUSE_S + 0.35) + 3
    running = load(victim, seconds)
    gaps = []
    for number in range(rounds):
        for role, index in (("worker", number % 2), ("coordinator", 0), ("control", 0)):
            child = victim.kill_child(role, index)
            gaps.append((role, child["started_ms"] - child["died_ms"]))
            time.sleep(KILL_PAUSE_S)
    result = finish(running, seconds)
    assert_all_answered(result)
    assert max(gap for _, gap in gaps) <= BACK_WITHIN_MS, gaps
    stats = victim.stats()
    assert stats.child("coordinator")["restarts"] == rounds
    assert stats.child("control")["restarts"] == rounds
    assert stats.child("worker", 0)["restarts"] + stats.child("worker", 1)["restarts"] == rounds
    assert stats.counter("hits") > 0
    assert stats.counter("stores") > 0


@pytest.mark.stress
@pytest.mark.parametrize("role", ["worker", "coordinator", "control"])
def test_kill_one_role_under_load(victim: Server, role: str) -> None:
    """The same role each time, at the full rate, misses as many as hits."""
    rounds = count("child_kills")
    seconds = rounds * 1.6 + 3
    running = load(victim, seconds)
    gaps = []
    for _ in range(rounds):
        child = victim.kill_child(role)
        gaps.append(child["started_ms"] - child["died_ms"])
        time.sleep(1.1)
    result = finish(running, seconds)
    assert_all_answered(result)
    assert max(gaps) <= BACK_WITHIN_MS, gaps


def test_two_at_once(victim: Server) -> None:
    """A worker and the coordinator die in the same instant, in either order."""
    running = load(victim, 6.0)
    for first, second in ((("worker", 0), ("coordinator", 0)), (("coordinator", 0), ("worker", 1))):
        stats = victim.stats()
        for role, index in (first, second):
            os.kill(stats.child(role, index)["pid"], signal.SIGKILL)
        for role, index in (first, second):
            victim.wait_for_successor(stats.child(role, index))
        time.sleep(1.2)
    assert_all_answered(finish(running, 6.0))


def test_both_workers_at_once(victim: Server) -> None:
    """Nobody is left to answer: the sockets keep the packets for the successors."""
    running = load(victim, 4.0)
    stats = victim.stats()
    for index in (0, 1):
        os.kill(stats.child("worker", index)["pid"], signal.SIGKILL)
    assert_all_answered(finish(running, 4.0))
    after = victim.stats()
    assert [after.child("worker", index)["restarts"] for index in (0, 1)] == [1, 1]


@pytest.mark.parametrize("role", ["worker", "coordinator"])
def test_stopped_child_is_replaced(victim: Server, role: str) -> None:
    """SIGSTOP: without a heartbeat it is replaced after 1.5 s; what waited for it is answered then."""
    rounds = count("stopped_children")
    seconds = rounds * 4.5 + 2
    # A rate at which 4 MiB of socket hold what comes in meanwhile.
    running = load(victim, seconds, rate=2_000, timeout_s=4.4)
    for _ in range(rounds):
        before = victim.stats().child(role, 0)
        began = time.monotonic()
        os.kill(before["pid"], signal.SIGSTOP)
        with Client(victim.endpoint) as client:
            assert client.ask("nginx-svc.default.svc.cluster.local").rcode() == dns.rcode.NOERROR
        after = victim.wait_for_successor(before)
        assert 1.2 < time.monotonic() - began < REPLACED_WITHIN_S
        assert after["stuck"] == before["stuck"] + 1
        assert not is_alive(before["pid"])
        time.sleep(1.5)
    assert_all_answered(finish(running, seconds))


def test_short_stop_is_forgiven(victim: Server) -> None:
    """A child that stands still for less than 15 ticks goes on, and nobody is killed."""
    running = load(victim, 4.0, rate=2_000, timeout_s=3.0)
    for role in ("worker", "coordinator", "control"):
        pid = victim.pid(role)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.6)
        os.kill(pid, signal.SIGCONT)
    assert_all_answered(finish(running, 4.0))
    assert not any(child["restarts"] or child["stuck"] for child in victim.stats().children)


def test_coordinator_down_and_cache_full_of_answers(coredns: Peer) -> None:
    """Hits don't notice that the coordinator stands still: no question of a cached name waits for it."""
    with serve(coredns.server) as server, Client(server.endpoint) as client:
        name = "ttl-day.odd.cluster.local"
        client.ask(name)
        os.kill(server.pid("coordinator"), signal.SIGSTOP)
        slowest = 0.0
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            asked = time.monotonic()
            assert client.ask(name).rcode() == dns.rcode.NOERROR
            slowest = max(slowest, time.monotonic() - asked)
        assert slowest < 0.1


def test_killed_keeper_takes_everything_along(coredns: Peer) -> None:
    """SIGKILL of the keeper: every child dies with it (PR_SET_PDEATHSIG), and the port is free again."""
    with serve(coredns.server) as server:
        family = server.pids()
        assert len(family) == 5
        server.process.kill()
        server.process.wait(2.0)
        wait_until(lambda: not any(is_alive(pid) for pid in family), 2.0, "all children gone")
        with serve(coredns.server, listen=[server.endpoint]) as again, Client(again.endpoint) as client:
            assert client.ask("nginx-svc.default.svc.cluster.local").rcode() == dns.rcode.NOERROR


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.005)
