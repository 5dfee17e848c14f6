# SPDX-License-Identifier: Apache-2.0
"""The coordinator's parts by themselves: timers, the in-flight table, round-trip times, queries, sockets."""

import math
import os
import random
import socket
import struct
from collections.abc import Iterator

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing.flights import (
    RoundTrips,
    Sockets,
    Table,
    Timers,
    query,
    random_numbers,
)

ALONE = 2
LATE_SHARE = 20


def expired(timers: Timers, now_ms: int) -> set[int]:
    found = set()
    while (index := timers.pop(now_ms)) is not None:
        assert index not in found
        found.add(index)
    return found


# ------------------------------------------------------------------------------- timers ----


def test_a_timer_goes_off_when_it_is_due_and_not_before() -> None:
    timers = Timers(4, 1000)
    timers.set(2, 1005)
    for now in range(1000, 1005):
        assert timers.wait(now, 100) <= 1005 - now
        assert timers.pop(now) is None
    assert timers.pop(1005) == 2
    assert timers.pop(1005) is None
    assert timers.wait(1005, 100) == 100


@pytest.mark.parametrize("due", [0, 999, 1000, 1001])
def test_what_is_past_goes_off_within_a_millisecond(due: int) -> None:
    timers = Timers(1, 1000)
    assert timers.pop(1000) is None
    timers.set(0, due)
    assert timers.wait(1000, 100) <= 1
    assert timers.pop(1001) == 0


@pytest.mark.parametrize("ahead", [4095, 4096, 4097, 8192, 60_000, 2**30])
def test_timers_beyond_a_lap(ahead: int) -> None:
    timers = Timers(1, 77)
    timers.set(0, 77 + ahead)
    now = 77
    while now + 1000 < 77 + ahead and now < 100_000:
        now += 1000
        assert timers.pop(now) is None
    assert timers.pop(77 + ahead - 1) is None
    assert timers.pop(77 + ahead) == 0


@pytest.mark.parametrize("pause", [4096, 5000, 100_000, 2**31 - 5000])
def test_a_long_pause_misses_nothing(pause: int) -> None:
    timers = Timers(3000, 50)
    for i in range(3000):
        timers.set(i, 50 + i * 2)
    late = {i for i in range(3000) if 50 + i * 2 > 50 + pause}
    assert expired(timers, 50 + pause) == set(range(3000)) - late
    assert timers.count == len(late)


@given(
    st.integers(0, 2**33),
    st.lists(st.tuples(st.sampled_from("scpw"), st.integers(0, 15), st.integers(0, 9000)), max_size=150),
)
def test_timers_against_a_dict(start: int, steps: list[tuple[str, int, int]]) -> None:
    timers = Timers(16, start)
    model: dict[int, int] = {}
    now = start
    for what, index, ms in steps:
        if what == "s":
            timers.set(index, now + ms)
            model[index] = max(now + ms, now + 1)
        elif what == "c":
            timers.clear(index)
            model.pop(index, None)
        elif what == "p":
            now += ms
            due = {i for i, at in model.items() if at <= now}
            assert expired(timers, now) == due
            for i in due:
                del model[i]
        else:
            first = min(model.values(), default=now + 100) - now
            assert timers.wait(now, 100) <= max(first, 0)
        assert timers.count == len(model)


def test_waiting_is_not_polling() -> None:
    """With one timer far ahead the sleeps are as long as may be, but for the end of a lap."""
    timers = Timers(1, 0)
    timers.set(0, 3000)
    now = wakes = 0
    while timers.pop(now) is None:
        now += max(timers.wait(now, 100), 1)
        wakes += 1
    assert now == 3000
    assert wakes <= 32


def test_random_numbers_use_all_bits() -> None:
    numbers = random_numbers(10_000)
    assert len(set(numbers)) > 9000
    for bit in range(16):
        assert 4700 < sum(n >> bit & 1 for n in numbers) < 5300


# -------------------------------------------------------------------------------- table ----


def key(number: int, *, key_hash: int = 5, long: bool = False, flags: int = 1) -> tuple[int, bytes, int, int]:
    label = str(number).encode()
    name = bytes([len(label)]) + label + (b"\x3f" + b"x" * 63 if long else b"") + b"\0"
    return key_hash, name, 1, flags


def test_equal_hashes_are_no_equal_questions() -> None:
    table = Table(64)
    flights = {i: table.add(key(i, long=i % 5 == 0)) for i in range(60)}
    assert len(set(flights.values())) == 60
    for i, index in flights.items():
        assert table.find(key(i, long=i % 5 == 0)) == index
        assert table.qname(index or 0) == key(i, long=i % 5 == 0)[1]
    assert table.find((6, *key(0)[1:])) is None
    assert table.find(key(60)) is None


def test_what_is_alone_is_not_found() -> None:
    table = Table(64)
    first = table.add(key(1, flags=ALONE))
    second = table.add(key(1, flags=ALONE))
    assert first is not None
    assert second not in (None, first)
    assert table.find(key(1)) is None
    table.remove(first)
    assert table.used == 1


def test_full_and_free_again() -> None:
    table = Table(64)
    flights = [table.add(key(i)) for i in range(64)]
    assert None not in flights
    assert table.add(key(64)) is None
    table.remove(flights[10] or 0)
    assert table.find(key(10)) is None
    assert table.add(key(64)) is not None


def test_long_names_have_places_of_their_own() -> None:
    table = Table(64)
    long = [table.add(key(i, long=True)) for i in range(16)]
    assert None not in long
    assert table.add(key(16, long=True)) is None
    assert table.add(key(16)) is not None
    table.remove(long[3] or 0)
    assert table.add(key(17, long=True)) is not None
    assert table.qname(long[4] or 0) == key(4, long=True)[1]


def test_capacity_is_bounded() -> None:
    assert Table(1).capacity == 64
    assert Table(1 << 20).capacity == 16384


def test_tickets() -> None:
    table = Table(64, workers=16)
    index = table.add(key(1))
    assert index is not None
    assert table.waiting(index) == {}
    assert not table.join(index, 15, 7)
    assert not table.join(index, 0, 0)
    assert table.join(index, 15, 8)
    assert table.waiting(index) == {0: 0, 15: 8}
    table.remove(index)
    assert table.waiting(table.add(key(2)) or 0) == {}


def test_attempts_by_channel_and_id() -> None:
    table = Table(64)
    a, b = (table.add(key(i)) or 0 for i in range(2))
    table.attempt(a, 0, 100)
    table.attempt(a, 1, 100)
    table.attempt(b, 0, 101)
    assert table.find_attempt(0, 100) == table.find_attempt(1, 100) == a
    assert table.find_attempt(0, 101) == b
    assert table.find_attempt(1, 101) is None
    assert table.on_channel(0) == [(b, 101), (a, 100)]
    table.remove_attempt(0, 100)
    assert table.find_attempt(0, 100) is None
    assert table.of_flight(a) == [(1, 100)]
    table.remove(b)
    assert table.find_attempt(0, 101) is None
    assert table.on_channel(0) == []
    assert table.extra == 0


def test_retries_never_take_the_room_of_first_attempts() -> None:
    table = Table(64, channels=4)
    greedy = table.add(key(0)) or 0
    for i in range(500):
        table.attempt(greedy, 0, i)
    assert len(table.of_flight(greedy)) == 65  # its first, and all that others leave
    assert table.of_flight(greedy)[0] == (0, 499)  # the newest stay
    others = [table.add(key(i)) or 0 for i in range(1, 64)]
    for index in others:
        table.attempt(index, 1, index)
        table.attempt(index, 2, index)
    for index in others:
        # Each found room; for a second one it had to give up its own first.
        assert table.of_flight(index) == [(2, index)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 70), st.integers(0, 3)), max_size=300))
def test_table_against_a_model(steps: list[tuple[int, int, int]]) -> None:
    table = Table(64, channels=4)
    flights: dict[int, int] = {}
    attempts: dict[tuple[int, int], int] = {}
    for what, number, channel in steps:
        here = key(number, key_hash=number % 7, long=number % 9 == 0)
        index = flights.get(number)
        if what <= 1 and index is None:
            added = table.add(here)
            if added is not None:
                flights[number] = added
            else:
                assert len(flights) == 64 or number % 9 == 0
        elif what == 2 and index is not None:
            table.remove(index)
            del flights[number]
            attempts = {at: f for at, f in attempts.items() if f != index}
        elif what in (3, 4) and index is not None and (channel, number) not in attempts:
            table.attempt(index, channel, number)
            attempts[channel, number] = index
        elif what == 5 and (channel, number) in attempts:
            table.remove_attempt(channel, number)
            del attempts[channel, number]
        assert table.used == len(flights)
    for number in range(71):
        assert table.find(key(number, key_hash=number % 7, long=number % 9 == 0)) == flights.get(number)
    for at in [(c, n) for c in range(4) for n in range(71)]:
        assert table.find_attempt(*at) == attempts.get(at)
    counts = [list(attempts.values()).count(index) for index in flights.values()]
    assert table.extra == sum(n - 1 for n in counts if n)


# ---------------------------------------------------------------------------- upstreams ----


def test_waiting_follows_the_round_trip_time() -> None:
    trips = RoundTrips()
    assert trips.wait_ms(20) == 200
    assert trips.wait_ms(500) == 500
    trips.measured(40_000)
    assert (trips.srtt_us, trips.rttvar_us) == (40_000, 20_000)  # RFC 6298 s2.2
    assert trips.wait_ms(20) == 120
    for _ in range(100):
        trips.measured(40_000)
    assert trips.wait_ms(20) == 60, "a deviation of nothing leaves room for what is late"
    trips.measured(140_000)
    assert trips.wait_ms(20) > 100
    for _ in range(100):
        trips.measured(300)
    assert trips.wait_ms(20) == 21


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=100))
def test_waiting_is_bounded_whatever_is_measured(rtts: list[int]) -> None:
    trips = RoundTrips()
    for rtt in rtts:
        trips.measured(rtt)
        assert trips.srtt_us > 0
        assert 20 <= trips.wait_ms(20) <= 1500
        assert 0 < trips.late_us <= 1_500_000


@pytest.mark.parametrize("scale_us", [300, 20_000])
@pytest.mark.parametrize("hedged", [False, True])
def test_one_answer_in_twenty_is_late(scale_us: int, hedged: bool) -> None:
    """late_us finds the 95th percentile, also where late answers are never seen."""
    rng = random.Random(scale_us)
    trips = RoundTrips()
    found = []
    for number in range(6000):
        rtt_us = scale_us + int(rng.expovariate(1 / scale_us))
        if hedged and trips.late_us and rtt_us > trips.late_us:
            trips.late()
        else:
            trips.measured(rtt_us)
        if number >= 1000:
            found.append(trips.late_us)
    true_us = scale_us * (1 + math.log(LATE_SHARE))
    assert 0.8 * true_us < sum(found) / len(found) < 1.25 * true_us


def test_a_slower_upstream_is_known_soon() -> None:
    trips = RoundTrips()
    for _ in range(500):
        trips.measured(1000)
    for _ in range(40):
        trips.measured(200_000)
    assert trips.late_us > 150_000


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 1),
    st.integers(0, 3),
    st.integers(0, 0xFFFF),
    st.booleans(),
)
def test_queries(qtype: int, qclass: int, flags: int, key_flags: int, number: int, edns: bool) -> None:
    packet = query(b"\3www\7example\0", qtype, qclass, flags, key_flags, number, edns)
    assert struct.unpack("=H", packet[:2])[0] == number
    if qtype in (41, 250, 251, 252, 255) or qclass in (254, 255):
        return  # dnspython takes these for something else
    parsed = dns.message.from_wire(packet)
    assert parsed.question[0].name.to_text() == "www.example."
    assert (parsed.question[0].rdtype, parsed.question[0].rdclass) == (qtype, qclass)
    assert bool(parsed.flags & dns.flags.RD) == bool(flags & 1)
    assert bool(parsed.flags & dns.flags.CD) == bool(key_flags & 2)
    assert parsed.edns == (0 if edns else -1)
    assert bool(parsed.ednsflags & dns.flags.DO) == (edns and bool(key_flags & 1))


def test_the_longest_query_fits() -> None:
    name = (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"x" * 61 + b"\0"
    assert len(query(name, 1, 1, 1, 3, 0, True)) == 12 + 255 + 4 + 11


# ------------------------------------------------------------------------------ sockets ----


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def test_a_socket_is_replaced_after_ten_seconds(peer: socket.socket) -> None:
    pool = Sockets(peer.getsockname()[1])
    seen: dict[int, int] = {}
    while len(seen) < 32:
        flight, channel = pool.ask(1000)
        pool.flush()
        pool.done(flight)
        seen[channel] = pool.fd(channel)
    assert pool.opened == 32
    for _ in range(200):
        flight, channel = pool.ask(10_999)
        pool.flush()
        pool.done(flight)
    assert pool.opened == 32
    kept, old = pool.ask(10_999)
    pool.flush()
    new = set()
    for _ in range(400):
        flight, channel = pool.ask(11_000)
        pool.flush()
        pool.done(flight)
        new.add(channel)
    assert len(new) == 32
    assert old not in new
    assert pool.opened == 64
    # What something waits on drains, the rest is closed.
    pool.tend()
    assert pool.open_sockets == 33
    peer.sendto(b"late", ("127.0.0.1", port_of(pool.fd(old))))
    assert pool.receive(old) == 1
    pool.done(kept)
    pool.tend()
    assert pool.open_sockets == 32


def port_of(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return int(sock.getsockname()[1])


def test_a_socket_is_replaced_after_ten_thousand_questions(peer: socket.socket) -> None:
    pool = Sockets(peer.getsockname()[1])
    counts: dict[int, int] = {}
    peer.setblocking(False)
    for _ in range(6000):
        batch = [pool.ask(1000) for _ in range(64)]
        assert len({channel for _, channel in batch}) == 1
        pool.flush()
        for flight, channel in batch:
            pool.done(flight)
            counts[pool.fd(channel) << 8 | channel] = counts.get(pool.fd(channel) << 8 | channel, 0) + 1
    assert pool.opened > 32
    assert max(counts.values()) < 10_000 + 64
    pool.tend()
    assert pool.open_sockets == 32


def test_places_are_bounded_when_nothing_is_answered(peer: socket.socket) -> None:
    """Sockets that can't be closed use up the places; then old ones go on."""
    pool = Sockets(peer.getsockname()[1], capacity=16384)
    for second in range(20):
        for _ in range(300):
            _, channel = pool.ask(second * 11_000)
            pool.flush()
            assert channel is not None
    assert pool.open_sockets <= 64


def test_another_port_when_asked_again(peer: socket.socket) -> None:
    pool = Sockets(peer.getsockname()[1])
    for _ in range(100):
        flight, first = pool.ask(1000)
        assert pool.ask_again(1000, flight) != first
        pool.flush()
        pool.done(flight)


def test_nobody_there_is_noticed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    pool = Sockets(port)
    _, channel = pool.ask(1000)
    pool.flush()
    assert pool.receive(channel) == 0
    assert pool.failed(channel)
