# SPDX-License-Identifier: Apache-2.0
"""keeper/_children: back-off, heartbeats, the board; the clock is the test's."""

import errno
import os

import pytest

from fastdns import _segments, _stats, protocol
from fastdns._testing.keeper import Table
from fastdns.keeper import _loop
from fastdns.protocol import Kind

CONTROL, COORDINATOR, WORKER_0, WORKER_1 = 0, 1, 2, 3
ALL = (CONTROL, COORDINATOR, WORKER_0, WORKER_1)
KILLED = 9


def running(workers: int = 2) -> Table:
    table = Table(workers)
    for slot in range(2 + workers):
        table.start(slot, 100 + slot, 0)
    table.beat(*range(2 + workers))
    assert table.tick() == -1
    return table


def ticks(table: Table, count: int, *beating: int, late: bool = False) -> list[int]:
    """Let ticks pass while some beat; the children that a tick wanted killed."""
    stuck = []
    for _ in range(count):
        table.beat(*beating)
        slot = table.tick(late)
        if slot >= 0:
            stuck.append(slot)
    return stuck


def test_loop_and_protocol_agree_on_what_the_loop_knows() -> None:
    assert {name: Kind[name] for name in _loop.KINDS} == _loop.KINDS
    assert _loop.EVENT_LEN == protocol.MESSAGE_LEN


def test_early_deaths_wait_longer_and_longer() -> None:
    table = Table(2)
    now, delays = 1000, []
    for _ in range(10):
        table.start(WORKER_0, 100, now)
        now += 999
        table.die(WORKER_0, KILLED, now)
        table.reap(WORKER_0)
        assert table.state(WORKER_0) == "waiting"
        delays.append(table.due_ms(WORKER_0) - now)
        now = table.due_ms(WORKER_0)
    assert delays == [0, 0, 50, 100, 200, 400, 800, 1600, 2000, 2000]


def test_a_life_of_a_second_forgets_the_early_deaths() -> None:
    table = Table(2)
    for _ in range(6):
        table.start(WORKER_0, 100, 5000)
        table.die(WORKER_0, KILLED, 5001)
        table.reap(WORKER_0)
    table.start(WORKER_0, 100, 6000)
    table.die(WORKER_0, KILLED, 7000)
    assert table.due_ms(WORKER_0) == 7000
    table.reap(WORKER_0)
    table.start(WORKER_0, 100, 7000)
    table.die(WORKER_0, KILLED, 7001)
    assert table.due_ms(WORKER_0) == 7001  # the first early one again


def test_a_fork_that_fails_is_tried_again_after_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    table = Table(1)
    delays = []
    for _ in range(9):
        table.fail(WORKER_0, errno.EAGAIN, 10_000)
        assert table.state(WORKER_0) == "waiting"
        delays.append(table.due_ms(WORKER_0) - 10_000)
    assert delays == [50, 50, 50, 100, 200, 400, 800, 1600, 2000]
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"[ERROR] worker 0: fork failed ({os.strerror(errno.EAGAIN)}); again in 50 ms"
    assert len(lines) == 9


def test_a_death_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    table = running()
    table.die(WORKER_1, KILLED, 2500)
    table.die(CONTROL, 3 << 8, 2600)
    assert capfd.readouterr().err == (
        "[WARNING] worker 1 (pid 103) killed by signal 9 after 2500 ms; restart 1 in 0 ms\n"
        "[WARNING] control (pid 100) left with code 3 after 2600 ms; restart 1 in 0 ms\n"
    )


def test_packets_go_elsewhere_from_the_death_to_the_successors_first_move() -> None:
    table = running()
    assert table.away == 0
    table.die(WORKER_1, KILLED, 5000)
    assert table.away == 0b10
    table.reap(WORKER_1)
    table.start(WORKER_1, 200, 5000)
    ticks(table, 3, WORKER_0, COORDINATOR)
    assert table.away == 0b10
    ticks(table, 1, *ALL)
    assert table.away == 0


def test_the_coordinators_death_steers_nothing() -> None:
    table = running()
    table.die(COORDINATOR, KILLED, 5000)
    assert table.away == 0


def test_stuck_is_fifteen_ticks_without_a_move() -> None:
    table = running()
    others = (CONTROL, COORDINATOR, WORKER_0)
    assert ticks(table, 14, *others) == []
    table.beat(WORKER_1)
    assert ticks(table, 15, *others) == []
    assert ticks(table, 1, *others) == [WORKER_1]


def test_control_has_longer() -> None:
    table = running()
    assert ticks(table, 149, COORDINATOR, WORKER_0, WORKER_1) == []
    assert ticks(table, 1, COORDINATOR, WORKER_0, WORKER_1) == [CONTROL]


def test_a_start_has_longer() -> None:
    table = running()
    table.die(WORKER_1, KILLED, 5000)
    table.reap(WORKER_1)
    table.start(WORKER_1, 200, 5000)
    others = (CONTROL, COORDINATOR, WORKER_0)
    assert ticks(table, 49, *others) == []
    assert ticks(table, 1, *others) == [WORKER_1]


def test_late_ticks_count_for_nobody() -> None:
    table = running()
    assert ticks(table, 14) == []
    assert ticks(table, 1, late=True) == []
    assert ticks(table, 14) == []
    assert ticks(table, 1) == [COORDINATOR]


def test_one_at_a_time_is_replaced_and_each_has_its_turn() -> None:
    table = running()
    ticks(table, 14)
    replaced = []
    for _ in range(600):
        slot = table.tick()
        if slot < 0:
            continue
        replaced.append(slot)
        table.kill(slot)
        assert table.tick() == -1  # the others must wait
        table.die(slot, KILLED, 5000)
        table.reap(slot)
        table.start(slot, 300, 5000)
    # Nobody ever moves again: each is replaced in turn, none twice before the others.
    assert replaced[:3] == [COORDINATOR, WORKER_0, WORKER_1]
    assert set(replaced) == set(ALL)


def test_a_successor_that_moves_lets_the_next_be_replaced() -> None:
    table = running()
    assert ticks(table, 15, CONTROL) == [COORDINATOR]
    table.kill(COORDINATOR)
    table.die(COORDINATOR, KILLED, 5000)
    table.reap(COORDINATOR)
    table.start(COORDINATOR, 300, 5000)
    assert ticks(table, 1, COORDINATOR) == [WORKER_0]


def test_a_killed_child_is_killed_once() -> None:
    table = running()
    assert ticks(table, 15, CONTROL, COORDINATOR, WORKER_0) == [WORKER_1]
    table.kill(WORKER_1)
    assert table.state(WORKER_1) == "killed"
    assert table.away == 0b10
    assert ticks(table, 100, CONTROL, COORDINATOR, WORKER_0) == []


def test_the_board_shows_it() -> None:
    board = _segments.create_board(2)
    try:
        table = Table(2, board)
        table.start(WORKER_0, 100, 1000)
        table.beat(WORKER_0)
        table.tick()
        table.tick(True)
        table.kill(WORKER_0)
        table.die(WORKER_0, KILLED, 1500)
        waiting = _stats.read_board(board)["children"][WORKER_0]
        table.reap(WORKER_0)
        table.start(WORKER_0, 101, 1600)
        facts = _stats.read_board(board)
    finally:
        os.close(board)
    assert (waiting["state"], waiting["pid"]) == ("waiting", 0)
    assert (facts["ticks"], facts["late_ticks"]) == (2, 1)
    assert [child["state"] for child in facts["children"]] == ["waiting", "waiting", "running", "waiting"]
    child = facts["children"][WORKER_0]
    assert (child["role"], child["index"], child["pid"]) == ("worker", 0, 101)
    assert (child["restarts"], child["stuck"]) == (1, 1)
    assert (child["started_ms"], child["died_ms"]) == (1600, 1500)
    assert os.WTERMSIG(child["last_status"]) == KILLED
