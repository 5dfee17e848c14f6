# SPDX-License-Identifier: Apache-2.0
"""TCP to clients: time limits, the cap on connections, the pool, descriptors."""

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing import tcp
from fastdns._testing.tcp import LARGE, WAIT
from tests.unit.tcp_world import Client, World, framed, large_reply, made, message, split

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def world() -> Iterator[World]:
    with made() as it:
        yield it


# ---- clients that don't read, don't finish, don't ask ----


def fill(world: World, client: Client, size: int = 60000) -> int:
    """Ask for large replies until the server keeps some of them. Returns how many were asked for."""
    for n in range(1000):
        client.send(framed(message(n, LARGE, size)))
        world.turn()
        if world.server.phases()["slow"]:
            return n + 1
    raise AssertionError("the kernel takes everything")


def test_huge_replies_to_a_slow_reader(world: World) -> None:
    slow, other = world.connect(receive_buffer=4096), world.connect()
    asked = fill(world, slow)
    assert world.server.blocks_used > 0
    served = world.server.messages
    more = [message(1000 + i, LARGE, 50000) for i in range(20)]
    slow.send(framed(*more))
    world.settle()
    assert world.server.messages == served, "it is not read while it doesn't read"
    other.send(framed(message(1)))
    assert world.replies(other, 1) == [message(1)]
    expected = [large_reply(one) for one in [*(message(n, LARGE, 60000) for n in range(asked)), *more]]
    got = b""
    while len(got) < sum(len(one) + 2 for one in expected):
        world.server.round()
        slow.read(5000)
        got, slow.got = got + slow.got, b""
    assert split(got) == expected
    assert world.server.blocks_used == 0
    assert world.server.phases()["idle"] == 2


def test_reader_without_progress_is_closed(world: World) -> None:
    client = world.connect(receive_buffer=4096)
    client.send(framed(message(1, WAIT)))
    fill(world, client)
    ((connection, use, _),) = world.server.waiting()
    world.server.reply(connection, use, bytes(60000))
    world.server.now += 4999
    assert world.server.tick() == 1
    assert world.server.open == 1
    kept = world.server.blocks_used
    while world.server.blocks_used == kept:
        client.read(4096)
        world.server.round(1)
    assert world.server.blocks_used > 0
    world.server.now += 4999
    assert world.server.tick() == 1
    assert world.server.open == 1, "progress begins its time anew"
    world.server.now += 1
    world.server.tick()
    assert world.server.open == 0
    assert world.server.count("slow") == 1


def test_late_replies_to_a_client_that_does_not_read_are_bounded(world: World) -> None:
    client = world.connect(receive_buffer=4096)
    client.send(framed(*[message(i, WAIT) for i in range(200)]))
    world.until(lambda: world.server.messages == 200)
    for connection, use, _ in world.server.waiting():
        world.server.reply(connection, use, bytes(60000))
        assert world.server.blocks_used <= tcp.UNSENT_MAX // tcp.BLOCK + 1
    assert world.server.open == 0
    assert world.server.count("slow") == 1


def test_started_message_must_be_finished(world: World) -> None:
    client = world.connect()
    client.send(framed(message(1)))
    assert world.replies(client, 1)
    octets = framed(message(2, size=100))
    for octet in octets[:5]:  # each octet in time, the message not
        client.send(bytes([octet]))
        world.turn()
        world.server.now += 999
        world.server.tick()
    assert world.server.open == 1
    world.server.now += 5
    world.server.tick()
    assert world.server.open == 0
    assert world.server.count("slow") == 1
    world.closed(client)


def test_next_started_message_has_its_own_time(world: World) -> None:
    client = world.connect()
    octets = framed(*[message(i) for i in range(20)])
    for at in range(0, len(octets), 7):  # always in the middle of one
        client.send(octets[at : at + 7])
        world.turn()
        world.server.now += 2000
        world.server.tick()
    assert len(world.replies(client, 20)) == 20


def test_first_query_must_come(world: World) -> None:
    client, quick = world.connect(), world.connect()
    quick.send(framed(message(1)))
    assert world.replies(quick, 1)
    world.server.now += 2999
    world.server.tick()
    assert world.server.open == 2
    world.server.now += 1
    world.server.tick()
    assert world.server.phases() | {"free": 0} == {"free": 0, "first": 0, "idle": 1, "slow": 0, "waiting": 0}
    assert world.server.count("idle") == 1
    world.closed(client)


def test_idle_time_begins_with_the_last_activity(world: World) -> None:
    client = world.connect()
    for n in range(5):
        client.send(framed(message(n)))
        assert world.replies(client, 1)
        world.server.now += 9999
        world.server.tick()
    client.send(framed(message(9, WAIT)))
    world.until(lambda: world.server.messages == 6)
    world.server.now += 100_000
    world.server.tick()
    assert world.server.open == 1, "a connection with a query at the coordinator is not idle"
    world.server.reply(*world.server.waiting()[0])
    assert world.replies(client, 1)
    world.server.now += 9999
    assert world.server.tick() == 1
    assert world.server.open == 1
    world.server.now += 1
    assert world.server.tick() == 100
    assert world.server.open == 0
    assert world.server.count("idle") == 1
    world.closed(client)


def test_each_listener_has_its_own_times(world: World) -> None:
    """A connection that may stay longer does not keep a later one that may not."""
    patient, idle, brief = world.connect(listener=1), world.connect(listener=1), world.connect()
    world.server.allow(1, 5000, 20_000)
    for client in (idle, brief):
        client.send(framed(message(1)))
        assert world.replies(client, 1)
    late = world.connect()
    world.server.now += 3000
    assert world.server.tick() == 100
    assert world.server.open == 3
    world.closed(late)
    world.server.now += 1999
    assert world.server.tick() == 1
    world.server.now += 1
    world.server.tick()
    world.closed(patient)
    world.server.now += 5000
    world.server.tick()
    world.closed(brief)
    assert world.server.open == 1
    world.server.now += 9999
    assert world.server.tick() == 1
    world.server.now += 1
    world.server.tick()
    world.closed(idle)


# ---- queries on a connection ----


def test_after_its_last_query_a_connection_is_closed(world: World) -> None:
    world.server.limit(0, 3)
    client, other = world.connect(), world.connect(listener=1)
    for n in range(3):
        assert not client.closed
        client.send(framed(message(n)))
        assert world.replies(client, 1) == [message(n)]
    world.closed(client)
    assert world.server.count("queries") == 1
    for n in range(4):
        other.send(framed(message(n)))
        assert world.replies(other, 1)
    assert world.server.open == 1


def test_what_is_sent_beyond_the_last_query_is_not_served(world: World) -> None:
    """Be it in the same segment, or not read yet; answers that are late still come."""
    world.server.limit(0, 3)
    client = world.connect()
    asked = [message(1, WAIT), message(2), message(3, WAIT)]
    client.send(framed(*asked, *[message(n) for n in range(4, 400)]))
    assert world.replies(client, 1) == [message(2)]
    client.send(framed(message(400)))
    world.settle()
    for connection, use, query in world.server.waiting():
        world.server.reply(connection, use, query)
    world.closed(client)
    assert split(client.got) == [asked[0], asked[2]]
    assert world.server.messages == 3
    assert world.server.count("queries") == 1


def test_the_last_reply_to_a_slow_reader_is_whole(world: World) -> None:
    world.server.limit(0, 12)
    client = world.connect(receive_buffer=4096)
    queries = [message(n, LARGE, 60000) for n in range(12)]
    client.send(framed(*queries))
    world.settle()
    assert world.server.phases()["slow"] == 1
    world.closed(client)
    assert split(client.got) == [large_reply(one) for one in queries]


# ---- the cap ----


def test_cap_closes_the_idlest() -> None:
    with made(capacity=3) as world:
        clients = [world.connect() for _ in range(3)]
        for n in (1, 2, 0, 1):  # 2 is the one longest without a query
            world.server.now += 10
            clients[n].send(framed(message(n)))
            assert world.replies(clients[n], 1)
        world.server.now += 10
        late = world.connect()
        world.closed(clients[2])
        assert world.server.count("cap") == 1
        for client in (clients[0], clients[1], late):
            client.send(framed(message(5)))
            assert world.replies(client, 1) == [message(5)]


@pytest.mark.parametrize("order", ["idle", "first"])
def test_cap_closes_the_idlest_whether_it_has_asked_or_not(order: str) -> None:
    with made(capacity=2) as world:
        clients = {}
        for kind in (order, *({"idle", "first"} - {order})):
            clients[kind] = world.connect()
            if kind == "idle":
                clients[kind].send(framed(message(1)))
                assert world.replies(clients[kind], 1)
            world.server.now += 10
        world.connect()
        world.closed(clients[order])
        assert world.server.count("cap") == 1


def test_cap_spares_those_that_wait_and_refuses_when_all_do() -> None:
    with made(capacity=3) as world:
        clients = [world.connect() for _ in range(3)]
        for n in (0, 1):
            clients[n].send(framed(message(n, WAIT)))
            world.until(lambda n=n: world.server.messages == n + 1)  # type: ignore[misc]
        clients[2].send(framed(message(2))[:5])  # has nothing at the coordinator
        world.settle()
        fourth = world.connect()
        world.closed(clients[2])
        fourth.send(framed(message(4, WAIT)))
        world.until(lambda: world.server.messages == 3)
        fifth = world.connect()
        world.closed(fifth)
        assert world.server.count("cap") == 2
        for one in world.server.waiting():
            world.server.reply(*one)
        assert world.replies(clients[0], 1) == [message(0, WAIT)]
        assert world.replies(clients[1], 1) == [message(1, WAIT)]
        assert world.replies(fourth, 1) == [message(4, WAIT)]


def test_thousand_connections(world: World) -> None:
    clients = [world.connect() for _ in range(1024)]
    assert world.server.open == 1024
    for round_ in range(2):
        for n, client in enumerate(clients):
            client.send(framed(message(n))[: 7 if round_ else None])
        world.settle()
        if round_:
            assert world.server.phases()["slow"] == 1024, "each has a part of a query in the pool"
            for n, client in enumerate(clients):
                client.send(framed(message(n))[7:])
        for n, client in enumerate(clients):
            assert world.replies(client, 1) == [message(n)]
    assert world.server.blocks_used == 0
    world.connect()
    assert world.server.open == 1024
    assert world.server.count("cap") == 1


# ---- the pool ----


def test_empty_pool_costs_the_slowest_not_the_newcomer() -> None:
    with made(pool=16 * 1024) as world:
        hoarders = [world.connect() for _ in range(8)]
        for hoarder in hoarders:
            world.server.now += 1
            hoarder.send(struct.pack("!H", 60000) + bytes(3000))
            world.settle()
        assert world.server.count("buffers_full") == 3, "16 KiB hold five times 3,002 octets"
        for hoarder in hoarders:
            hoarder.read()
        assert [hoarder.closed for hoarder in hoarders] == [True] * 3 + [False] * 5
        good = world.connect()
        query = framed(message(1, size=900))
        for at in range(0, len(query), 10):
            good.send(query[at : at + 10])
            world.turn()
        assert world.replies(good, 1) == [message(1, size=900)]
        assert world.server.count("buffers_full") == 3


def test_empty_pool_spares_the_one_that_has_just_finished() -> None:
    with made(pool=16 * 1024) as world:
        good, hoarder = world.connect(), world.connect()
        octets = framed(message(1), message(2, size=4000))
        good.send(octets[:5])
        world.settle()
        hoarder.send(struct.pack("!H", 60000) + bytes(14000))
        world.settle()
        good.send(octets[5:3000])
        world.closed(hoarder)
        good.send(octets[3000:])
        assert world.replies(good, 2) == [message(1), message(2, size=4000)]
        assert world.server.count("buffers_full") == 1


def test_reply_larger_than_the_pool_closes_its_connection() -> None:
    with made(pool=16 * 1024) as world:
        client, other = world.connect(receive_buffer=4096), world.connect()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for n in range(1000):
                client.send(framed(message(n, LARGE, 60000)))
                world.turn()
                if world.server.open == 1:
                    break
        assert world.server.count("buffers_full") == 1
        other.send(framed(message(1)))
        assert world.replies(other, 1) == [message(1)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 700), st.booleans()), max_size=80))
def test_chains_against_a_model(steps: list[tuple[int, int, bool]]) -> None:
    pool = tcp.Pool(12)
    model = [b""] * 4
    skipped = [0] * 4
    fresh = iter(range(1 << 30))
    for chain, n, take in steps:
        if take:
            gone = min(n, len(model[chain]))
            pool.take(chain, gone)
            model[chain] = model[chain][gone:]
            skipped[chain] = (skipped[chain] + gone) % tcp.BLOCK if model[chain] else 0
        else:
            data = bytes(next(fresh) % 251 for _ in range(n))
            held = sum(-(-(len(model[i]) + skipped[i]) // tcp.BLOCK) for i in range(4) if i != chain)
            fits = held - (-(len(model[chain]) + skipped[chain] + n) // tcp.BLOCK) <= 12
            assert pool.append(chain, data) == fits
            if fits:
                model[chain] += data
        assert [pool.content(i) for i in range(4)] == model
        assert pool.free_blocks == 12 - sum(-(-(len(model[i]) + skipped[i]) // tcp.BLOCK) for i in range(4))


def test_region_too_small_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(MemoryError):
        tcp.Server([listener.fileno()], pool=1000)


# ---- descriptors ----


def test_without_descriptors_the_idlest_goes_and_the_loop_rests() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with made() as world:
        try:
            first = world.connect()
            late = [Client(world.listener.getsockname()) for _ in range(2)]
            world.clients += late
            highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
            holes = [os.dup(0) for _ in range(highest)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(*holes, highest) + 1, hard))
            world.until(lambda: world.server.count("accepted") == 3)
            assert world.server.count("cap") == 2, "each took the place of the one before"
            late[1].send(framed(message(1, WAIT)))
            world.until(lambda: world.server.messages == 1)
            os.close(holes.pop())
            third = Client(world.listener.getsockname())
            world.clients.append(third)
            assert world.server.round(1000) == 1
            assert world.server.count("accept_failed") == 1, "all have queries waiting"
            assert world.server.round(0) == 0, "the listener is left alone until the next tick"
            world.server.tick()
            assert world.server.round(1000) == 1
            assert world.server.count("accept_failed") == 2
            for fd in holes:
                os.close(fd)
            world.server.tick()
            world.until(lambda: world.server.count("accepted") == 4)
            third.send(framed(message(5)))
            assert world.replies(third, 1) == [message(5)]
            world.closed(first)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
