# SPDX-License-Identifier: Apache-2.0
"""The rings: order, wrapping, a full ring, damage, and two processes at full speed."""

import mmap
import os
import random
import struct
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing.coordinator import RECORD_HEADER, RING_HEADER, Ring

SIZE = 512
QUESTION = 2
SKIP = 1


def memory(size: int = SIZE) -> mmap.mmap:
    return mmap.mmap(-1, RING_HEADER + size)


def pair(size: int = SIZE, start: int = 0) -> tuple[Ring, Ring]:
    shared = memory(size)
    producer = Ring(shared, size)
    producer.head = producer.tail = start
    return Ring(shared, size), Ring(shared, size)


def take(ring: Ring) -> bytes | None:
    record = ring.next()
    if record is None:
        return None
    ring.release()
    assert record[0] == QUESTION
    return record[1]


def test_nothing_in_a_new_ring() -> None:
    producer, consumer = pair()
    assert consumer.empty()
    assert consumer.next() is None
    assert producer.put(b"x")
    assert not consumer.empty()


def test_record_stays_until_released() -> None:
    producer, consumer = pair()
    producer.put(b"first")
    producer.put(b"second")
    assert consumer.next() == (QUESTION, b"first")
    assert consumer.next() == (QUESTION, b"first")
    consumer.release()
    assert take(consumer) == b"second"
    assert consumer.empty()


def test_reserved_is_not_seen_before_commit() -> None:
    producer, consumer = pair()
    assert producer.reserve(100)
    assert consumer.empty()
    assert consumer.next() is None


def test_reserving_twice_gives_up_the_first_room() -> None:
    producer, consumer = pair()
    assert producer.reserve(100)
    assert producer.put(b"kept")
    assert take(consumer) == b"kept"
    assert consumer.next() is None


def test_full_ring_is_marked_and_takes_again_after_release() -> None:
    producer, consumer = pair()
    payload = bytes(64 - RECORD_HEADER)
    for _ in range(SIZE // 64):
        assert producer.put(payload)
    assert producer.marked == 0
    assert not producer.put(payload)
    assert not producer.put(b"")
    assert producer.marked == 2
    take(consumer)
    assert producer.put(payload)
    assert producer.marked == 2


@pytest.mark.parametrize("octets", [SIZE + 1, SIZE * 2, 0xFFFFFFFF, 0xFFFFFFF8])
def test_record_larger_than_the_ring_is_refused(octets: int) -> None:
    producer, consumer = pair()
    assert not producer.reserve(octets)
    assert producer.marked == 1
    producer.commit()
    assert consumer.empty()


def test_record_of_half_the_ring_fits_wherever_the_ring_stands() -> None:
    payload = bytes(SIZE // 2 - RECORD_HEADER)
    for start in range(0, SIZE, 8):
        producer, consumer = pair(start=start)
        assert producer.put(payload)
        assert take(consumer) == payload
        assert consumer.empty()


def test_indexes_wrap_at_32_bits() -> None:
    producer, consumer = pair(start=2**32 - 64)
    for i in range(100):
        assert producer.put(bytes([i]) * (i % 30))
        assert take(consumer) == bytes([i]) * (i % 30)
    assert producer.head < 2**31


@given(
    st.integers(0, 2**32 // 8 - 1),
    st.lists(st.one_of(st.integers(0, 250), st.just(-1), st.just(-2)), max_size=200),
)
def test_against_a_queue(start: int, steps: list[int]) -> None:
    """Sizes are put, -1 takes, -2 lets a successor open the ring on either side."""
    shared = memory()
    producer, consumer = Ring(shared, SIZE), Ring(shared, SIZE)
    producer.head = producer.tail = start * 8
    producer, consumer = Ring(shared, SIZE), Ring(shared, SIZE)
    model: deque[bytes] = deque()
    for number, step in enumerate(steps):
        if step == -1:
            assert take(consumer) == (model.popleft() if model else None)
        elif step == -2:
            producer.reserve(20)
            consumer.next()
            producer, consumer = Ring(shared, SIZE), Ring(shared, SIZE)
        else:
            payload = bytes([number & 255]) * step
            if producer.put(payload):
                model.append(payload)
            else:
                # Refused only for want of room, an end too short for the record counted as used.
                need, to_end = (step + RECORD_HEADER + 7) // 8 * 8, SIZE - producer.head % SIZE
                used = (producer.head - producer.tail) % 2**32
                assert used + (need if need <= to_end else to_end + need) > SIZE
    while model:
        assert take(consumer) == model.popleft()
    assert consumer.empty()


def write_length(shared: mmap.mmap, position: int, octets: int, kind: int = QUESTION) -> None:
    struct.pack_into("=IB", shared, RING_HEADER + position, octets, kind)


@pytest.mark.parametrize("octets", [0, 1, 7, 9, 72, SIZE, SIZE + 8, 0xFFFFFFF8, 0xFFFFFFFF])
def test_impossible_length_empties_the_ring(octets: int) -> None:
    shared = memory()
    producer, consumer = Ring(shared, SIZE), Ring(shared, SIZE)
    producer.put(bytes(24))
    producer.put(bytes(24))
    write_length(shared, 0, octets)
    assert consumer.next() is None
    assert consumer.empty()
    assert producer.put(b"after")
    assert take(consumer) == b"after"


@pytest.mark.parametrize("octets", [32, SIZE])
def test_skip_record_elsewhere_than_at_the_end_empties_the_ring(octets: int) -> None:
    shared = memory()
    producer, consumer = Ring(shared, SIZE), Ring(shared, SIZE)
    for _ in range(SIZE // 32):
        producer.put(bytes(24))
    write_length(shared, 0, octets, SKIP)
    assert consumer.next() is None
    assert consumer.empty()


@pytest.mark.parametrize("head", [3, SIZE + 8, 2**31, 2**32 - 8])
def test_impossible_head_empties_the_ring(head: int) -> None:
    shared = memory()
    producer, consumer = Ring(shared, SIZE), Ring(shared, SIZE)
    producer.head = head
    assert consumer.next() is None
    assert consumer.empty()
    producer = Ring(shared, SIZE)
    producer.put(b"lost, where the head was odd")
    take(consumer)
    assert producer.put(b"after")
    assert take(consumer) == b"after"


@pytest.mark.parametrize("tail", [8, 5, SIZE * 3])
def test_impossible_tail_is_full_to_the_producer_and_put_right_by_the_consumer(tail: int) -> None:
    shared = memory()
    producer = Ring(shared, SIZE)
    producer.tail = tail
    consumer = Ring(shared, SIZE)
    producer = Ring(shared, SIZE)
    assert not producer.put(bytes(400))
    assert consumer.next() is None
    assert producer.put(b"after")
    assert take(consumer) == b"after"


def test_two_processes() -> None:
    """Every record arrives once, whole and in order, through a ring that is mostly full."""
    count, size = 200_000, 4096
    shared = memory(size)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            producer = Ring(shared, size)
            rng = random.Random(7)
            for number in range(count):
                payload = struct.pack("=I", number) + bytes([number & 255]) * rng.randrange(200)
                while not producer.put(payload):
                    os.sched_yield()
            status = 0
        finally:
            os._exit(status)
    consumer = Ring(shared, size)
    rng = random.Random(7)
    try:
        for number in range(count):
            while (found := take(consumer)) is None:
                # A producer that failed must not hang the test.
                if child and os.waitpid(child, os.WNOHANG)[0]:
                    child = 0
                assert child or not consumer.empty()
                os.sched_yield()
            assert found == struct.pack("=I", number) + bytes([number & 255]) * rng.randrange(200)
        assert consumer.next() is None
    finally:
        if child:
            assert os.waitpid(child, 0)[1] == 0
