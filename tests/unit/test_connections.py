# SPDX-License-Identifier: Apache-2.0
"""Which TCP connection a question goes to, when another is opened, and when one is closed."""

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from fastdns._testing.connections import Connections

CROWD = 32
MOST = 8
NEW, STANDS = 1, 2  # what other() says
LOST = 3  # what failed() says


class Peer:
    """The upstream's end: accepts, reads queries, answers when the test says so."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.setblocking(False)
        self.accepted: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def queries(self) -> list[tuple[socket.socket, bytes]]:
        """What came since the last look, each whole, with its connection."""
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                self.accepted.append(sock)
        found = []
        for sock in self.accepted:
            with contextlib.suppress(OSError):
                data = sock.recv(1 << 20)
                while data:
                    (length,) = struct.unpack_from("!H", data)
                    found.append((sock, data[2 : 2 + length]))
                    data = data[2 + length :]
        return found


def answer(sock: socket.socket, query: bytes) -> None:
    sock.sendall(struct.pack("!H", len(query)) + query)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    for sock in (peer.listener, *peer.accepted):
        sock.close()


def stand(pool: Connections) -> None:
    """Let what connects finish, and what is put go out."""
    pool.flush()
    while pool.events(timeout_ms=5):
        pass
    pool.flush()


def ask_many(pool: Connections, count: int) -> list[int]:
    flights = [pool.ask()[0] for _ in range(count)]
    stand(pool)
    return flights


def test_questions_share_a_connection_until_it_is_crowded(peer: Peer) -> None:
    pool = Connections(peer.port)
    pool.at(1000)
    ask_many(pool, CROWD)
    assert pool.outstanding() == {0: CROWD}
    assert len(peer.queries()) == CROWD
    ask_many(pool, 16)  # the second connection is opened; the first one stands and takes these
    assert pool.outstanding() == {0: CROWD + 16, 1: 0}
    ask_many(pool, 16)
    assert pool.outstanding() == {0: CROWD + 16, 1: 16}


def test_eight_connections_at_most_with_like_numbers_on_each(peer: Peer) -> None:
    pool = Connections(peer.port, capacity=4096)
    pool.at(1000)
    ask_many(pool, 4096)
    counts = pool.outstanding()
    assert len(counts) == MOST
    assert sum(counts.values()) == 4096
    assert max(counts.values()) - min(counts.values()) <= 16
    assert pool.opened == MOST
    assert len(peer.queries()) == 4096


def test_a_silent_connection_gets_no_more_questions(peer: Peer) -> None:
    pool = Connections(peer.port)
    pool.at(1000)
    pool.measured(1000)
    slow, place = pool.ask()
    assert place == 0
    stand(pool)
    pool.at(1009)
    assert pool.ask()[1] == 0
    stand(pool)
    pool.at(1020)
    assert pool.ask()[1] == 1
    stand(pool)
    assert not pool.stuck(slow)  # not yet 100 ms
    for sock, query in peer.queries():
        if sock is peer.accepted[0]:
            answer(sock, query)
            break
    pool.events()
    assert pool.ask()[1] in (0, 1)
    stand(pool)
    assert pool.opened == 2


def test_what_stands_behind_a_slow_answer_is_moved_and_the_slow_one_is_not(peer: Peer) -> None:
    pool = Connections(peer.port)
    pool.at(1000)
    pool.measured(1000)
    (slow, _), (behind, _) = pool.ask(), pool.ask()
    stand(pool)
    assert len(peer.queries()) == 2
    pool.at(1099)
    assert not pool.stuck(behind)
    pool.at(1101)
    assert pool.stuck(behind)
    assert not pool.stuck(slow)
    assert pool.other(behind) == NEW
    pool.avoid(behind)
    assert pool.ask_again(behind) == 1
    stand(pool)
    assert pool.other(slow) == STANDS


def test_an_answer_to_another_question_means_that_all_have_their_turn(peer: Peer) -> None:
    pool = Connections(peer.port)
    pool.at(1000)
    pool.measured(1000)
    first, second, third = ask_many(pool, 3)
    sock, query = peer.queries()[0]
    pool.at(1090)
    answer(sock, query)
    assert pool.events() == [query]
    pool.at(1150)
    assert not pool.stuck(second)
    assert not pool.stuck(third)
    assert first not in (second, third)


def test_a_connection_that_is_given_up_on_is_closed_when_nothing_waits_there(peer: Peer) -> None:
    pool = Connections(peer.port)
    pool.at(1000)
    pool.measured(1000)
    (slow, _), (behind, _) = pool.ask(), pool.ask()
    stand(pool)
    pool.at(1101)
    pool.avoid(behind)
    pool.done(slow)
    pool.done(behind)
    assert pool.ask()[1] == 1, "its other end may be gone"
    pool.tend()
    assert set(pool.outstanding()) == {1}


def test_unused_connections_are_closed(peer: Peer) -> None:
    pool = Connections(peer.port, expire_ms=5000)
    pool.at(1000)
    (flight,) = ask_many(pool, 1)
    pool.done(flight)
    pool.at(5999)
    pool.tend()
    assert pool.outstanding() == {0: 0}
    pool.at(6000)
    pool.tend()
    assert pool.outstanding() == {}


def test_no_more_unused_connections_than_asked_for(peer: Peer) -> None:
    pool = Connections(peer.port, max_idle=2)
    pool.at(1000)
    flights = ask_many(pool, 1024)
    assert len(pool.outstanding()) == MOST
    for flight in flights:
        pool.done(flight)
    pool.tend()
    assert len(pool.outstanding()) == 2


def test_an_old_connection_ends_when_its_last_answer_has_come(peer: Peer) -> None:
    pool = Connections(peer.port, max_age_ms=20_000)
    pool.at(1000)
    (flight,) = ask_many(pool, 1)
    sock, query = peer.queries()[0]
    pool.done(flight)
    for now in range(1000, 10_999, 1000):  # in use, so that it isn't closed as unused
        pool.at(now)
        pool.tend()
        (flight,) = ask_many(pool, 1)
        (sock, query) = peer.queries()[0]
        answer(sock, query)
        assert pool.events() == [query]
    assert pool.draining() == set()
    assert pool.opened == 1
    pool.at(20_900)
    pool.ask()
    stand(pool)
    pool.at(21_000)
    pool.tend()
    assert pool.draining() == {0}
    sock, query = peer.queries()[-1]
    assert pool.ask()[1] == 1
    answer(sock, query)
    while pool.events():
        pass
    pool.tend()
    assert set(pool.outstanding()) == {1}
    assert pool.broken == 0


def test_connections_that_were_opened_together_end_one_by_one(peer: Peer) -> None:
    pool = Connections(peer.port, max_age_ms=20_000)
    pool.at(1000)
    ask_many(pool, 1024)
    ends: list[int] = []
    for now in range(1000, 21_100, 100):
        pool.at(now)
        peer.queries()
        for sock in peer.accepted:  # something moves on each
            sock.sendall(b"\0\0")
        while pool.events(timeout_ms=0):
            pass
        pool.tend()
        ends += [now] * (len(pool.draining()) - len(ends))
    assert len(ends) == MOST
    assert min(ends) >= 11_000
    assert len(set(ends)) > 1


def test_three_seconds_without_an_octet_are_the_end(peer: Peer) -> None:
    pool = Connections(peer.port)
    pool.at(1000)
    ask_many(pool, 2)
    pool.at(3999)
    pool.tend()
    assert pool.failed(0) == 0
    pool.at(4000)
    pool.tend()
    assert pool.failed(0)
    assert pool.broken == 1


def test_messages_in_parts_have_a_bounded_room(peer: Peer) -> None:
    pool = Connections(peer.port)
    pool.at(1000)
    ask_many(pool, 2)
    (sock, first), (_, second) = peer.queries()
    whole = struct.pack("!H", len(first)) + first + struct.pack("!H", len(second)) + second
    sock.sendall(whole[:-1])
    assert pool.events() == [first]
    sock.sendall(whole[-1:])
    assert pool.events() == [second]
    ask_many(pool, 1)
    pool.no_parts()
    sock.sendall(whole[:1])
    assert pool.events() == []
    assert (pool.full, pool.failed(0)) == (1, LOST)
