# SPDX-License-Identifier: Apache-2.0
"""keeper/_roll: who is replaced when; keeper/_mailbox: what is told again. The clock is the test's."""

import socket
from collections.abc import Iterator

import pytest

from fastdns import protocol
from fastdns._testing.keeper import Mailbox, Table
from fastdns.protocol import Kind

COORDINATOR, WORKER_0, WORKER_1 = 1, 2, 3
KILLED = 9


def rolling(now_ms: int = 0) -> Table:
    """All run and beat, and a roll has just begun."""
    table = Table(2)
    for slot in range(4):
        table.start(slot, 100 + slot, 0)
    table.beat(*range(4))
    table.tick()
    table.begin_roll()
    return table


def replace(table: Table, slot: int, now_ms: int) -> None:
    """The child does as it was asked, and its successor starts."""
    table.die(slot, 0, now_ms)
    table.reap(slot)
    assert (table.state(slot), table.due_ms(slot)) == ("waiting", now_ms), "its successor need not wait"
    table.start(slot, 200 + slot, now_ms)


def test_one_by_one_the_coordinator_first() -> None:
    table = rolling()
    for slot in (COORDINATOR, WORKER_0, WORKER_1):
        assert table.step(True, 1000) == ("ask", slot)
        assert table.step(True, 1001) == ("nothing", slot), "asked once"
        replace(table, slot, 1002)
        assert table.step(False, 1003) == ("nothing", slot), "the successor does not serve yet"
        assert table.step(True, 1004) == ("done" if slot == WORKER_1 else "next", slot)
    assert table.step(True, 1005)[0] == "nothing"


def test_a_planned_end_is_no_death() -> None:
    table = rolling()
    for slot in (COORDINATOR, WORKER_0, WORKER_1):
        table.step(True, 10)
        replace(table, slot, 10)  # within a second of its start
        table.step(True, 10)
        assert table.facts(slot) == {"restarts": 0, "early": 0, "died_ms": 0}


def test_a_planned_end_does_not_hide_the_deaths_before_it() -> None:
    table = rolling()
    table.die(COORDINATOR, KILLED, 5000)
    table.reap(COORDINATOR)
    table.start(COORDINATOR, 300, 5000)
    assert table.facts(COORDINATOR)["restarts"] == 1
    table.begin_roll()
    table.step(True, 6000)
    replace(table, COORDINATOR, 6000)
    assert table.facts(COORDINATOR) == {"restarts": 1, "early": 0, "died_ms": 5000}


def test_new_connections_go_elsewhere_while_a_worker_leaves() -> None:
    table = rolling()
    table.step(True, 1)
    replace(table, COORDINATOR, 1)
    table.step(True, 1)
    assert (table.leaving, table.away) == (0, 0)
    assert table.step(True, 1) == ("ask", WORKER_0)
    assert (table.leaving, table.away) == (1, 0), "UDP is served to the last"
    table.die(WORKER_0, 0, 1)
    assert table.away == 1
    table.reap(WORKER_0)
    table.start(WORKER_0, 300, 1)
    assert (table.leaving, table.away) == (0, 1)
    table.step(True, 2)
    assert (table.leaving, table.away) == (0, 0), "back without waiting for a tick"


def test_who_does_not_leave_is_hurried_and_then_killed() -> None:
    table = rolling()
    assert table.step(True, 1000) == ("ask", COORDINATOR)
    assert table.step(True, 5999)[0] == "nothing"
    assert table.step(True, 6000)[0] == "hurry"
    assert table.step(True, 6001)[0] == "nothing"
    assert table.step(True, 7000)[0] == "kill"


def test_who_dies_meanwhile_is_replaced_by_that() -> None:
    """A successor of a dead child has the new configuration: it is not asked to leave once more."""
    table = rolling()
    table.die(WORKER_0, KILLED, 10)
    table.reap(WORKER_0)
    table.start(WORKER_0, 300, 10)
    table.step(True, 20)
    replace(table, COORDINATOR, 20)
    assert table.step(True, 30) == ("next", COORDINATOR)
    assert table.step(True, 30) == ("next", WORKER_0)
    assert table.step(True, 30) == ("ask", WORKER_1)
    assert table.facts(WORKER_0)["restarts"] == 1


def test_a_child_that_is_down_is_waited_for() -> None:
    table = rolling()
    table.die(COORDINATOR, KILLED, 10)
    assert table.step(True, 10)[0] == "nothing"
    table.reap(COORDINATOR)
    assert table.step(True, 10)[0] == "nothing"
    table.start(COORDINATOR, 300, 10)
    assert table.step(True, 10) == ("next", COORDINATOR)


def test_a_second_roll_begins_anew() -> None:
    table = rolling()
    table.step(True, 1)
    replace(table, COORDINATOR, 1)
    table.step(True, 1)
    table.begin_roll()
    assert table.step(True, 1) == ("ask", COORDINATOR)


def die_at_the_start(table: Table, slot: int, now_ms: int) -> None:
    """What was just started for the roll dies, and has a successor."""
    table.die(slot, KILLED, now_ms)
    table.reap(slot)
    table.start(slot, 300 + slot, now_ms)


@pytest.mark.parametrize("slot", [COORDINATOR, WORKER_0, WORKER_1])
def test_children_that_die_at_their_start_end_it(slot: int) -> None:
    """A chance kill costs one, a poisonous question two: the third death is the configuration's."""
    table = rolling()
    now_ms = 2000
    for one in range(COORDINATOR, slot):
        assert table.step(True, now_ms) == ("ask", one)
        replace(table, one, now_ms)
        assert table.step(True, now_ms) == ("next", one)
    assert table.step(True, now_ms) == ("ask", slot)
    replace(table, slot, now_ms)
    for _ in range(2):
        die_at_the_start(table, slot, now_ms + 100)
        assert table.step(False, now_ms + 100) == ("nothing", slot)
    die_at_the_start(table, slot, now_ms + 100)
    assert table.step(False, now_ms + 100) == ("failed", slot)
    assert table.step(True, now_ms + 100)[0] == "nothing", "it is over"
    table.begin_roll()
    assert table.step(True, now_ms + 200) == ("ask", COORDINATOR), "the way back begins anew"
    replace(table, COORDINATOR, now_ms + 200)
    die_at_the_start(table, COORDINATOR, now_ms + 200)
    assert table.step(True, now_ms + 200) == ("next", COORDINATOR), "what was before does not count"


def test_other_deaths_do_not_end_it() -> None:
    """Not control's, not those of children from before, not those of a child that has lived for a while."""
    table = rolling()
    for _ in range(3):
        die_at_the_start(table, 0, 10)
    table.die(WORKER_0, KILLED, 10)
    table.reap(WORKER_0)
    table.start(WORKER_0, 300, 10)
    table.beat(WORKER_0)
    table.tick()
    for now_ms in (1010, 2010, 3010):
        table.die(WORKER_0, KILLED, now_ms)
        table.reap(WORKER_0)
        table.start(WORKER_0, 300, now_ms)
        table.beat(WORKER_0)
        table.tick()
    assert table.step(True, 4000) == ("ask", COORDINATOR)


def test_children_that_hang_at_their_start_end_it_too() -> None:
    table = rolling()
    table.step(True, 10)
    replace(table, COORDINATOR, 10)
    for now_ms in (5010, 10010, 15010):
        assert table.step(False, now_ms)[0] == "nothing"
        table.kill(COORDINATOR)
        die_at_the_start(table, COORDINATOR, now_ms)
    assert table.step(False, 15010)[0] == "failed"


@pytest.fixture
def reader() -> Iterator[tuple[Mailbox, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        far.setblocking(False)
        mailbox = Mailbox()
        mailbox.read_by(near.fileno())
        yield mailbox, far
        mailbox.forget()


def test_an_event_is_sent_once(reader: tuple[Mailbox, socket.socket]) -> None:
    mailbox, far = reader
    mailbox.put(Mailbox.STOPPING, 15)
    message = protocol.receive(far)
    assert message is not None
    assert (message.kind, message.words[0]) == (Kind.STOPPING, 15)
    mailbox.put(Mailbox.ROLLED, 7)
    message = protocol.receive(far)
    assert message is not None
    assert (message.kind, message.words[0]) == (Kind.ROLLED, 7)
    with pytest.raises(BlockingIOError):
        protocol.receive(far)


def test_events_wait_for_a_reader() -> None:
    mailbox = Mailbox()
    mailbox.put(Mailbox.RELOAD, 1)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        mailbox.read_by(near.fileno())
        message = protocol.receive(far)
        assert message is not None
        assert message.kind == Kind.RELOAD
        mailbox.forget()


def test_a_reload_outlives_its_reader_and_two_deaths_end_it() -> None:
    mailbox = Mailbox()
    mailbox.put(Mailbox.RELOAD, 1)
    told = []
    for _ in range(4):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near, far:
            far.setblocking(False)
            mailbox.read_by(near.fileno())
            try:
                told.append(protocol.receive(far) is not None)
            except BlockingIOError:
                told.append(False)
            mailbox.forget()
    assert told == [True, True, False, False]


def test_a_reload_that_is_done_is_not_told_again_but_a_later_one_is(
    reader: tuple[Mailbox, socket.socket],
) -> None:
    mailbox, far = reader
    mailbox.put(Mailbox.RELOAD, 1)
    first = protocol.receive(far)
    mailbox.put(Mailbox.RELOAD, 1)
    second = protocol.receive(far)
    assert first is not None
    assert second is not None
    mailbox.done(first.words[1])
    near, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, other:
        other.setblocking(False)
        mailbox.forget()
        mailbox.read_by(near.fileno())
        assert protocol.receive(other) == second, "the first one's end is not the second's"
        mailbox.done(second.words[1])
        mailbox.forget()
        mailbox.read_by(near.fileno())
        with pytest.raises(BlockingIOError):
            protocol.receive(other)
        mailbox.forget()
