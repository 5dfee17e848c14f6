# SPDX-License-Identifier: Apache-2.0
"""The split of the memory budget, and its comparison with the cgroup's limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns import _segments
from fastdns._testing.tcp import REGION_PART_MIN
from fastdns.control.budget import MEMORY_MAX, MEMORY_MIN, RCVBUF_MAX, RCVBUF_MIN, make_plan, split
from fastdns.control.cgroup import MemoryLimit
from fastdns.control.model import MIB
from fastdns.errors import MemoryLimitError, UsageError
from fastdns.protocol import Geometry


def region_of(geometry: Geometry) -> int:
    return _segments.region_size(
        questions=geometry.questions,
        answers=geometry.answers,
        pending=geometry.pending,
        clients=geometry.clients,
        slots=_segments.cache_slots(geometry.cache),
        tcp=geometry.tcp,
        series=geometry.series,
    )


def test_the_default_is_the_designs() -> None:
    geometry = split(16 * MIB, 2)
    assert geometry == Geometry(
        workers=2,
        cache=8 * MIB,
        questions=64 * 1024,
        answers=256 * 1024,
        pending=4096,
        clients=8192,
        tcp=512 * 1024,
        series=24,
        log=32 * 1024,
    )
    assert region_of(geometry) - geometry.tcp <= 3 * MIB
    assert _segments.cache_geometry(geometry.cache)[0] == 16


@given(st.integers(MEMORY_MIN, MEMORY_MAX), st.integers(1, 16))
def test_what_is_allocated_never_exceeds_the_budget(memory: int, workers: int) -> None:
    try:
        geometry = split(memory, workers)
    except UsageError:
        with pytest.raises(UsageError, match="need at least"):
            split(memory, workers)
        return
    # A sixteenth is the coordinator's own.
    coordinator = min(memory // 16, 16 * MIB)
    assert geometry.cache + workers * region_of(geometry) <= memory - coordinator
    assert geometry.cache * 2 >= memory
    assert geometry.answers >= 2 * 77888  # the largest answer record fits wherever the ring stands
    assert geometry.pending >= 256
    assert geometry.clients == 2 * geometry.pending
    assert geometry.tcp >= REGION_PART_MIN  # with less a worker's TCP doesn't start


@pytest.mark.parametrize("workers", [1, 2])
def test_the_least_budget_serves_the_default_workers(workers: int) -> None:
    assert split(MEMORY_MIN, workers).cache == 4 * MIB


@pytest.mark.parametrize(
    ("memory", "workers", "says"),
    [
        (8 * MIB - 1, 2, "expected 8M to 1024M"),
        (1025 * MIB, 2, "expected 8M to 1024M"),
        (16 * MIB, 0, "--workers 0: expected 1 to 16"),
        (16 * MIB, 17, "--workers 17"),
        (16 * MIB, 16, "16 workers need at least"),
    ],
)
def test_what_does_not_work_is_refused(memory: int, workers: int, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        split(memory, workers)
    assert caught.value.exit_code == 2


def test_the_advice_for_too_many_workers_is_true() -> None:
    with pytest.raises(UsageError) as caught:
        split(16 * MIB, 16)
    advised = int(str(caught.value).rsplit(" ", 1)[1].removesuffix("M"))
    split(advised * MIB, 16)
    with pytest.raises(UsageError):
        split((advised - 1) * MIB, 16)


def test_without_a_limit_the_queues_are_full_size() -> None:
    plan = make_plan(16 * MIB, 2, 1, None)
    assert plan.rcvbuf == RCVBUF_MAX
    assert plan.sockets == 2 * 2 * RCVBUF_MAX
    assert plan.total == 16 * MIB + plan.processes + plan.sockets


def test_queues_shrink_before_a_start_is_refused() -> None:
    free = make_plan(16 * MIB, 2, 2, None)
    roomy = make_plan(16 * MIB, 2, 2, MemoryLimit(free.total, "x"))
    assert roomy == free
    tight = make_plan(16 * MIB, 2, 2, MemoryLimit(free.total - 1, "x"))
    assert RCVBUF_MIN <= tight.rcvbuf < RCVBUF_MAX
    assert tight.total < free.total

    least = 16 * MIB + free.processes + 2 * 2 * 2 * RCVBUF_MIN
    assert make_plan(16 * MIB, 2, 2, MemoryLimit(least, "x")).rcvbuf == RCVBUF_MIN
    with pytest.raises(MemoryLimitError, match=r"/sys/fs/cgroup/a/memory\.max allows") as caught:
        make_plan(16 * MIB, 2, 2, MemoryLimit(least - 1, "/sys/fs/cgroup/a/memory.max"))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.integers(0, 256 * MIB), st.integers(1, 4), st.integers(1, 8))
def test_a_plan_never_exceeds_the_limit(limit: int, workers: int, listeners: int) -> None:
    try:
        plan = make_plan(16 * MIB, workers, listeners, MemoryLimit(limit, "x"))
    except MemoryLimitError:
        return
    assert plan.total <= limit
    assert RCVBUF_MIN <= plan.rcvbuf <= RCVBUF_MAX


def test_logged_queries_have_larger_rings() -> None:
    """Control may be busy with a scrape for some 50 ms; the rest is shared out as before."""
    plain, logging = (make_plan(16 * MIB, 2, 2, None, log_queries=one) for one in (False, True))
    assert (plain.geometry.log, logging.geometry.log) == (32 * 1024, 256 * 1024)
    assert plain.memory == logging.memory
    small = make_plan(MEMORY_MIN, 2, 2, None, log_queries=True).geometry
    assert small.log >= make_plan(MEMORY_MIN, 2, 2, None).geometry.log
    assert (small.workers + 1) * small.log + small.workers * small.tcp <= MEMORY_MIN // 8
