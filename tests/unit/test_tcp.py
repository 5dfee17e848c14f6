# SPDX-License-Identifier: Apache-2.0
"""TCP to clients: framing, answers in any order, ends of connections."""

import contextlib
import select
import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import tcp
from fastdns._testing.tcp import ANSWER_OLDEST, DROP, ECHO, LARGE, WAIT
from tests.unit.tcp_world import PATIENCE, Client, World, framed, large_reply, made, message, split

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def world() -> Iterator[World]:
    with made() as it:
        yield it


# ---- framing ----


def test_one_octet_at_a_time(world: World) -> None:
    client = world.connect()
    queries = [message(1), message(2, size=300), message(3)]
    for octet in framed(*queries):
        client.send(bytes([octet]))
        world.turn()
    assert world.replies(client, 3) == queries
    assert world.server.blocks_used == 0


def test_hundred_in_one_segment(world: World) -> None:
    client = world.connect()
    queries = [message(i, size=30) for i in range(100)]
    client.send(framed(*queries))
    assert world.server.round(1000) == 1
    assert world.server.messages == 100, "all of them in one event"
    assert world.replies(client, 100) == queries
    assert world.server.count("replies") == 100


def test_one_connection_has_a_bounded_turn(world: World) -> None:
    greedy, modest = world.connect(), world.connect()
    greedy.send(framed(*[message(i) for i in range(4000)]))
    modest.send(framed(message(1)))
    while world.server.messages < 4001:
        before = world.server.messages
        events = world.server.round(1000)
        assert 0 < world.server.messages - before <= events * (4096 // 14 + 1)
        modest.read()
        assert modest.got or before < 2000, "the modest one is served while the greedy one has more"
    assert world.replies(modest, 1) == [message(1)]
    assert len(world.replies(greedy, 4000)) == 4000


def test_largest_message_both_ways(world: World) -> None:
    client = world.connect()
    query = message(7, size=65535)
    sent = framed(query, message(8))
    received: list[bytes] = []
    while sent or len(received) < 2:
        if sent:
            with contextlib.suppress(BlockingIOError):
                sent = sent[client.sock.send(sent) :]
        world.server.round()
        client.read()
        if len(client.got) >= 2 + 65535 + 2 + 12:
            received = world.replies(client, 2)
    assert received == [query, message(8)]


def test_dropped_message_leaves_the_rest(world: World) -> None:
    client = world.connect()
    client.send(framed(message(1), message(2, DROP), message(3)))
    assert world.replies(client, 2) == [message(1), message(3)]


@pytest.mark.parametrize("length", [0, 1, 11])
def test_impossible_length_closes(world: World, length: int) -> None:
    client, other = world.connect(), world.connect()
    client.send(framed(message(1)) + struct.pack("!H", length))
    world.closed(client)
    assert split(client.got) == [message(1)], "what was whole before it is answered"
    assert world.server.count("bad") == 1
    other.send(framed(message(2)))
    assert world.replies(other, 1) == [message(2)]


@given(
    sizes=st.lists(st.one_of(st.integers(12, 80), st.integers(12, 9000)), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=30),
    kinds=st.lists(st.sampled_from([ECHO, ECHO, DROP, WAIT, ANSWER_OLDEST]), min_size=12, max_size=12),
)
def test_any_segmentation_gives_the_same_replies(sizes: list[int], cuts: list[int], kinds: list[int]) -> None:
    queries = [message(i, kinds[i], size=size) for i, size in enumerate(sizes)]
    stream = framed(*queries)
    places = sorted({cut % len(stream) for cut in cuts} | {0, len(stream)})
    with made(capacity=4) as world:
        client = world.connect()
        for start, end in pairwise(places):
            client.send(stream[start:end])
            world.server.round(1000)
        world.until(lambda: world.server.messages == len(queries))
        late = [(index, use, query) for index, use, query in world.server.waiting()]
        for index, use, query in reversed(late):
            world.server.reply(index, use, query)
        asked = [(query, kind) for query, kind in zip(queries, kinds, strict=False) if kind != DROP]
        expected = [query[:64] if kind == WAIT else query for query, kind in asked]
        assert sorted(world.replies(client, len(expected))) == sorted(expected)
        assert world.server.phases()["idle"] == 1


# ---- answers in any order ----


def test_late_replies_out_of_order_do_not_hold_up_others(world: World) -> None:
    client = world.connect()
    client.send(framed(message(1, WAIT), message(2), message(3, WAIT), message(4)))
    assert world.replies(client, 2) == [message(2), message(4)]
    first, third = world.server.waiting()
    world.server.reply(*third)
    assert world.replies(client, 1) == [message(3, WAIT)]
    assert world.server.phases()["waiting"] == 1
    world.server.reply(*first)
    assert world.replies(client, 1) == [message(1, WAIT)]
    assert world.server.phases()["idle"] == 1


def test_reply_from_within_serving(world: World) -> None:
    client = world.connect()
    client.send(framed(message(1, WAIT), message(2, ANSWER_OLDEST)))
    assert sorted(world.replies(client, 2)) == [message(1, WAIT), message(2, ANSWER_OLDEST)]
    assert world.server.phases()["idle"] == 1


def test_reply_within_serving_to_a_client_that_went(world: World) -> None:
    gone, client = world.connect(), world.connect()
    gone.send(framed(message(1, WAIT)))
    world.until(lambda: world.server.messages == 1)
    gone.reset()
    client.send(framed(message(2, ANSWER_OLDEST), message(3)))
    assert world.replies(client, 2) == [message(2, ANSWER_OLDEST), message(3)]


def test_reply_within_serving_that_closes_the_connection_itself() -> None:
    with made(pool=16 * 1024) as world:
        client = world.connect(receive_buffer=4096)
        client.send(framed(*[message(n, WAIT, 65000) for n in range(60)]))
        world.until(lambda: world.server.messages == 60)
        while world.server.open:  # until the kernel leaves so much of a reply that the pool can't hold it
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.send(framed(message(100, ANSWER_OLDEST), message(101)))
            world.turn()
            client.read(10000)
        assert world.server.count("buffers_full") == 1
        other = world.connect()
        other.send(framed(message(1)))
        assert world.replies(other, 1) == [message(1)]


def test_late_reply_for_a_closed_connection_reaches_nobody(world: World) -> None:
    gone = world.connect()
    gone.send(framed(message(1, WAIT)))
    world.until(lambda: world.server.messages == 1)
    ((connection, use, query),) = world.server.waiting()
    gone.reset()
    world.until(lambda: world.server.open == 0)
    others = [world.connect() for _ in range(1024)]  # one of them has the same place
    world.server.reply(connection, use, query)
    world.server.reply(65535, use, query)
    world.settle()
    for other in others:
        other.read()
        assert other.got == b""
    assert world.server.count("replies") == 0


def test_use_counts_of_a_successor_differ() -> None:
    uses = []
    for starts in range(3):
        with made(starts=starts) as world:
            client = world.connect()
            client.send(framed(message(1, WAIT)))
            world.until(lambda: world.server.messages == 1)
            ((connection, use, query),) = world.server.waiting()
            world.server.reply(connection, use, query)
            uses.append(use)
    assert len(set(uses)) == 3


def test_stale_event_does_not_reach_the_next_connection(world: World) -> None:
    gone = world.connect()
    gone.send(framed(message(1, WAIT)))
    world.until(lambda: world.server.messages == 1)
    ((connection, use, _),) = world.server.waiting()
    gone.reset()
    world.until(lambda: world.server.open == 0)
    for _ in range(1024):
        world.connect()
    world.server.stale_event(connection, use, select.EPOLLHUP)
    assert world.server.open == 1024
    world.server.stale_event(connection, use + 1, select.EPOLLHUP)
    assert world.server.open == 1023


def test_queries_that_wait_are_bounded_by_not_reading(world: World) -> None:
    client = world.connect()
    queries = [message(i, WAIT) for i in range(tcp.WAITING_MAX + 50)]
    client.send(framed(*queries))  # the last 50 come in one read with others
    world.settle()
    assert world.server.messages == tcp.WAITING_MAX
    waiting = world.server.waiting()
    for number, one in enumerate(waiting[: tcp.WAITING_MAX // 2], 1):
        assert world.server.messages == tcp.WAITING_MAX
        world.server.reply(*one)
        if number < tcp.WAITING_MAX // 2:
            world.server.round()
    world.until(lambda: world.server.messages == len(queries))
    for one in waiting[tcp.WAITING_MAX // 2 :] + world.server.waiting():
        world.server.reply(*one)
    assert sorted(world.replies(client, len(queries))) == sorted(queries)
    assert world.server.blocks_used == 0


# ---- ends ----


def test_reset_frees_everything(world: World) -> None:
    for kind in (ECHO, WAIT, LARGE):
        client = world.connect(receive_buffer=4096)
        client.send(framed(message(1, kind, 60000)) * 3 + b"\0")
        world.settle()
        client.reset()
    world.until(lambda: world.server.open == 0)
    assert world.server.blocks_used == 0


def test_half_close_still_gets_its_answers(world: World) -> None:
    client = world.connect()
    client.send(framed(message(1), message(2, WAIT), message(3, WAIT)) + b"\0\x20part")
    client.half_close()
    assert world.replies(client, 1) == [message(1)]
    second, third = world.server.waiting()
    world.server.reply(*third)
    world.settle()
    assert world.server.open == 1
    world.server.reply(*second)
    world.closed(client)
    assert split(client.got) == [message(3, WAIT), message(2, WAIT)]
    assert world.server.open == 0


def test_half_close_with_nothing_asked_closes(world: World) -> None:
    client = world.connect()
    client.half_close()
    world.closed(client)
    assert world.server.open == 0


def test_half_close_of_a_slow_reader(world: World) -> None:
    client = world.connect(receive_buffer=4096)
    queries = [message(n, LARGE, 60000) for n in range(12)]
    client.send(framed(*queries))
    client.half_close()
    world.settle()
    assert world.server.phases()["slow"] == 1
    world.closed(client)
    assert split(client.got) == [large_reply(one) for one in queries]
    assert world.server.open == 0


def test_drain_answers_what_is_here_and_leaves_the_backlog(world: World) -> None:
    idle, asking, waiting, partial = (world.connect() for _ in range(4))
    waiting.send(framed(message(1, WAIT)))
    world.until(lambda: world.server.messages == 1)
    partial.send(framed(message(3))[:5])
    world.settle()
    asking.send(framed(message(2)))  # in the kernel when the end begins
    backlog = Client(world.listener.getsockname())
    world.clients.append(backlog)
    left = world.server.drain()
    assert left == 2, "the one that waits, and the one that has asked just now"
    assert world.server.messages == 2
    assert world.server.drain() == 1
    world.server.reply(*world.server.waiting()[0])
    assert world.server.drain() == 0
    for client, replies in ((idle, []), (asking, [message(2)]), (waiting, [message(1, WAIT)]), (partial, [])):
        world.closed(client)
        assert split(client.got) == replies
    world.server.tick()
    assert world.server.round(0) == 0, "nobody listens any more"
    assert world.server.count("accepted") == 4
    backlog.send(framed(message(9)))
    successor = tcp.Server([world.listener.fileno()])
    for _ in range(2):
        successor.round(1000)
    backlog.sock.settimeout(PATIENCE)
    assert backlog.sock.recv(100) == framed(message(9))
