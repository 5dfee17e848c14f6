# SPDX-License-Identifier: Apache-2.0
"""keeper/_groups: who gets which packet, asked of the real kernel."""

import select
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fastdns.keeper._groups import Group

ADDRESS = "127.0.0.1"


class Members:
    """A reuseport group with a socket for each worker, and a client."""

    def __init__(self, stack: ExitStack, kind: socket.SocketKind, workers: int) -> None:
        self.stack = stack
        self.kind = kind
        self.group = Group(stream=kind == socket.SOCK_STREAM)
        self.port = 0
        self.sockets: dict[int, socket.socket] = {}
        self.outsiders: list[socket.socket] = []
        for worker in range(workers):
            self.add(worker)
        self.client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def bind(self) -> socket.socket:
        one = self.stack.enter_context(socket.socket(socket.AF_INET, self.kind))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((ADDRESS, self.port))
        if self.kind == socket.SOCK_STREAM:
            one.listen(64)
        one.setblocking(False)
        self.port = one.getsockname()[1]
        return one

    def add(self, worker: int) -> None:
        self.sockets[worker] = self.bind()
        self.group.add(self.sockets[worker].fileno(), worker)

    def remove(self, worker: int) -> None:
        one = self.sockets.pop(worker)
        self.group.remove(one.fileno())
        one.close()

    def ask(self, message_id: int) -> int:
        """Send a datagram with this ID; the worker that got it, -1 for an outsider."""
        self.client.sendto(struct.pack(">H", message_id) + bytes(10), (ADDRESS, self.port))
        owners = {one: worker for worker, one in self.sockets.items()} | dict.fromkeys(self.outsiders, -1)
        ready, _, _ = select.select(list(owners), [], [], 5)
        assert len(ready) == 1
        assert struct.unpack(">H", ready[0].recv(512)[:2])[0] == message_id
        return owners[ready[0]]

    def connect(self) -> int:
        """Open a connection; the worker whose listener took it."""
        with socket.create_connection((ADDRESS, self.port), timeout=5):
            ready, _, _ = select.select(list(self.sockets.values()), [], [], 5)
            assert len(ready) == 1
            ready[0].accept()[0].close()
        return next(worker for worker, one in self.sockets.items() if one is ready[0])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def live(*workers: int) -> int:
    return sum(1 << worker for worker in workers)


def test_udp_is_shared_by_message_id(stack: ExitStack) -> None:
    members = Members(stack, socket.SOCK_DGRAM, 3)
    members.group.steer(live(0, 1, 2))
    assert [members.ask(number) for number in (0, 1, 2, 3, 4, 65535)] == [0, 1, 2, 0, 1, 0]


def test_udp_is_steered_away_from_a_dead_worker_and_back(stack: ExitStack) -> None:
    members = Members(stack, socket.SOCK_DGRAM, 3)
    members.group.steer(live(0, 2))
    assert [members.ask(number) for number in range(4)] == [0, 2, 0, 2]
    members.group.steer(live(1))
    assert [members.ask(number) for number in range(4)] == [1, 1, 1, 1]
    members.group.steer(live(0, 1, 2))
    assert [members.ask(number) for number in range(4)] == [0, 1, 2, 0]


def test_with_nobody_left_the_queues_are_used_as_before(stack: ExitStack) -> None:
    members = Members(stack, socket.SOCK_DGRAM, 2)
    members.group.steer(0)
    assert [members.ask(number) for number in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize("gone", range(4))
def test_closing_a_socket_moves_the_last_into_its_place(stack: ExitStack, gone: int) -> None:
    members = Members(stack, socket.SOCK_DGRAM, 4)
    members.group.steer(live(0, 1, 2, 3))
    members.remove(gone)
    rest = [worker for worker in range(4) if worker != gone]
    assert sorted(members.group.order()) == rest
    assert members.group.order()[gone : gone + 1] == ([3] if gone < 3 else [])
    for worker in rest:  # one at a time: an order that is wrong shows at once
        members.group.steer(live(worker))
        assert {members.ask(number) for number in range(6)} == {worker}
    members.add(gone)
    assert members.group.order() == [*members.group.order()[:3], gone]
    for worker in range(4):
        members.group.steer(live(worker))
        assert {members.ask(number) for number in range(6)} == {worker}


def test_a_foreign_socket_before_ours_shifts_the_shares(stack: ExitStack) -> None:
    # What control's probe looks for: with a foreign socket bound first, worker 1 gets nothing.
    members = Members(stack, socket.SOCK_DGRAM, 0)
    members.outsiders.append(members.bind())
    members.add(0)
    members.add(1)
    members.group.steer(live(0, 1))
    assert [members.ask(number) for number in range(4)] == [-1, 0, -1, 0]
    members.group.leave_to_kernel(True)
    members.group.steer(live(0, 1))
    seen: Counter[int] = Counter()
    for number in range(64):
        members.client.close()
        members.client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        seen[members.ask(number)] += 1
    assert set(seen) == {-1, 0, 1}


def test_tcp_is_the_kernels_choice_until_a_worker_is_down(stack: ExitStack) -> None:
    members = Members(stack, socket.SOCK_STREAM, 2)
    members.group.steer(live(0, 1))
    assert {members.connect() for _ in range(40)} == {0, 1}
    members.group.steer(live(1))
    assert {members.connect() for _ in range(40)} == {1}
    members.group.steer(live(0))
    assert {members.connect() for _ in range(40)} == {0}
    members.group.steer(live(0, 1))
    assert {members.connect() for _ in range(40)} == {0, 1}


def test_tcp_shares_among_those_that_live(stack: ExitStack) -> None:
    members = Members(stack, socket.SOCK_STREAM, 3)
    members.group.steer(live(0, 2))
    assert {members.connect() for _ in range(60)} == {0, 2}


def test_the_bookkeeping_refuses_what_cannot_be() -> None:
    group = Group(stream=False)
    with pytest.raises(ValueError, match="not in the group"):
        group.remove(5)
    with pytest.raises(ValueError, match="worker 16"):
        group.add(5, 16)
    for worker in range(16):
        group.add(100 + worker, worker)
    with pytest.raises(ValueError, match="more than 16"):
        group.add(5, 0)
    with pytest.raises(OSError, match="refused"):
        group.steer(live(0))  # descriptor 100 is no socket
