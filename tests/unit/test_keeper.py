# SPDX-License-Identifier: Apache-2.0
"""The keeper itself, with stand-ins for its children: what it survives, and what it leaves behind."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastdns import protocol
from fastdns.control.link import KeeperLink
from fastdns.errors import KeeperError
from fastdns.protocol import Geometry, Kind, Message

ROOT = Path(__file__).parents[2]


def play(scenario: str) -> tuple[list[dict[str, Any]], int, list[str]]:
    """Run a scenario of keeper_stand_in. What it reported, its exit code, its log."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.keeper_stand_in", scenario],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert "Traceback" not in done.stderr, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return reports, done.returncode, done.stderr.splitlines()


def test_many_deaths_leave_nothing_behind() -> None:
    reports, code, _ = play("many_deaths")
    assert code == 0
    (facts,) = reports
    assert facts["descriptors"] == facts["zombies"] == facts["known"] == 0
    assert facts["grown_kib"] < 512


def test_forks_that_fail_leave_nothing_open_and_are_tried_again() -> None:
    reports, code, log = play("failing_forks")
    assert reports == [{"descriptors": 0}]
    assert code == 2  # what the control that was forked at last left with
    assert sum("fork failed" in line for line in log) == 5


def test_forks_without_descriptors_leave_nothing_open_and_are_tried_again() -> None:
    reports, code, log = play("few_descriptors")
    assert code == 0
    assert reports == [{"left": [[]] * 6, "forked": 0}]
    assert sum("Too many open files" in line for line in log) == 6


def test_requests_that_make_no_sense_are_refused_one_by_one() -> None:
    reports, code, log = play("hostile_messages")
    assert code == 0
    first, last = reports
    assert len(first["refused"]) == 17
    assert first["held"] == 9  # config, board, post, ledger, two regions, three logs
    assert last == {"code": 0, "leaked": 0}
    assert sum("a request was refused" in line for line in log) == 17


def test_a_control_that_dies_in_its_set_up_begins_anew() -> None:
    reports, code, log = play("died_in_set_up")
    assert code == 2
    assert reports == [{"lives": 3, "leaked": 0}]
    assert sum("control (pid" in line and "killed by signal 9" in line for line in log) == 2


def test_a_control_that_dies_while_the_others_are_forked_comes_back() -> None:
    for _ in range(5):
        reports, code, log = play("died_at_the_start")
        assert reports == [{"held": 9}]
        assert code == 0
        assert any("left with code 1" in line for line in log)


def test_a_child_that_somebody_else_reaped_is_started_again() -> None:
    reports, code, _ = play("reaped_elsewhere")
    assert reports == [{"lives": 2}]
    assert code == 0


def test_orphans_are_reaped() -> None:
    reports, code, _ = play("orphans")
    assert code == 0
    assert reports == [{"zombies_of_keeper": 0}]


def test_messages_arrive_as_they_were_sent() -> None:
    geometry = Geometry(2, 8 << 20, 65536, 262144, 4096, 8192, 524288, 24, 32768)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        protocol.send(near, Message(Kind.ALLOCATE, geometry.words()))
        protocol.send(near, Message(Kind.LISTENER, (3,), (near.fileno(), far.fileno())))
        message = protocol.receive(far)
        assert message is not None
        assert message.kind == Kind.ALLOCATE
        assert Geometry.of(message.words) == geometry
        message = protocol.receive(far)
        assert message is not None
        assert (message.kind, message.words[0], len(message.descriptors)) == (Kind.LISTENER, 3, 2)
        protocol.close_all(message.descriptors)
        near.close()
        assert protocol.receive(far) is None


@pytest.mark.parametrize("data", [b"", b"x" * 7, b"\0" * protocol.MESSAGE_LEN, b"\0" * 500])
def test_what_is_no_message_closes_what_came_with_it(data: bytes) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        before = set(Path("/proc/self/fd").iterdir())
        socket.send_fds(near, [data], [near.fileno()] * 3)
        with pytest.raises(ValueError):
            protocol.receive(far)
        assert set(Path("/proc/self/fd").iterdir()) == before


def test_an_event_that_overtakes_an_answer_is_not_forgotten() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = KeeperLink(far.detach())
    with near, link._channel:
        told: list[int] = []
        link.on_overtaken = lambda: told.append(1)
        protocol.send(near, Message(Kind.RELOAD, (1, 7)))
        protocol.send(near, Message(Kind.OK))
        link.use_program(0, True)
        assert told == [1]
        assert [(one.kind, one.words[1]) for one in link.events()] == [(Kind.RELOAD, 7)]
        assert link.events() == []
        protocol.send(near, Message(Kind.ROLLED, (3,)))
        assert [one.words[0] for one in link.events()] == [3]
        protocol.send(near, Message(Kind.OK))
        with pytest.raises(KeeperError, match="not asked for"):
            link.events()
