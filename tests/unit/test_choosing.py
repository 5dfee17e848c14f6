# SPDX-License-Identifier: Apache-2.0
"""Whom to ask: the order that a policy gives a question, and who comes behind the others."""

import itertools
from collections import Counter

import pytest

from fastdns._testing.choosing import Choosing

POLICIES = ("sequential", "random", "round_robin", "fastest")
MANY = 16  # FD_FORWARD_UPSTREAMS


def order(choosing: Choosing, count: int) -> list[int | None]:
    """The upstreams that a question asks when all of them fail it."""
    return [choosing.first(), *(choosing.next() for _ in range(count - 1))]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("count", [1, 2, 3, 7, MANY])
def test_each_is_asked_once_before_one_is_asked_again(policy: str, count: int) -> None:
    choosing = Choosing(count, policy)
    for _ in range(20):
        asked = order(choosing, count)
        assert sorted(asked, key=str) == sorted(range(count), key=str)
        assert choosing.next() == asked[0]


def test_sequential_is_as_written() -> None:
    choosing = Choosing(4)
    assert [order(choosing, 4) for _ in range(2)] == [[0, 1, 2, 3]] * 2


def test_round_robin_as_coredns() -> None:
    """The next one first, then the others as written; the second one begins."""
    choosing = Choosing(3, "round_robin")
    assert [order(choosing, 3) for _ in range(4)] == [[1, 0, 2], [2, 0, 1], [0, 1, 2], [1, 0, 2]]


def test_random_makes_all_orders() -> None:
    choosing = Choosing(3, "random")
    counts = Counter(tuple(order(choosing, 3)) for _ in range(1200))
    assert set(counts) == set(itertools.permutations(range(3)))
    assert min(counts.values()) > 130  # of 200; less in one of 10^8 runs


def test_fastest_is_by_round_trip() -> None:
    choosing = Choosing(4, "fastest")
    for upstream, rtt_us in enumerate((9000, 2000, 5000)):
        choosing.measured(upstream, rtt_us)
    assert order(choosing, 4) == [3, 1, 2, 0]  # the last was never measured


@pytest.mark.parametrize("policy", POLICIES)
def test_a_silent_one_is_passed_over(policy: str) -> None:
    choosing = Choosing(3, policy)
    choosing.silent(0, 4)
    while choosing.first() != 0:
        pass  # until it had the question that it gets once a second
    for _ in range(20):
        assert 0 not in order(choosing, 4)
    choosing.sleep(1000)
    assert [choosing.first() for _ in range(60)].count(0) == 1
    assert choosing.next(0b110) == 0


def test_where_nobody_is() -> None:
    assert Choosing(0).first() is None
    choosing = Choosing(3)
    assert [choosing.first(0b001), choosing.next(0b011), choosing.next(0b011)] == [1, 2, 2]
    assert choosing.next(0b111) is None
    assert choosing.first(0b111) is None
    choosing = Choosing(MANY)
    assert [choosing.first(0x7FFF), choosing.next(0x7FFF)] == [15, 15]


# ------------------------------------------------------------------- lagging behind, hedging ----

QUICK_US, LATE_US = 5_000, 1_000_000


@pytest.mark.parametrize("policy", POLICIES)
def test_one_that_lags_behind_is_passed_over(policy: str) -> None:
    choosing = Choosing(2, policy)
    choosing.measured(0, LATE_US)
    choosing.measured(1, QUICK_US)
    for _ in range(60):
        choosing.first()  # among them the question that it gets once a second
    assert {choosing.first() for _ in range(50)} == {1}
    for _ in range(50):
        choosing.measured(0, QUICK_US)
    assert 0 in {choosing.first() for _ in range(50)} or policy == "fastest"


def test_one_that_owes_an_answer_lags_behind_before_it_is_measured() -> None:
    """A slow one has not said yet how slow it is: the time counts that it has had so far."""
    choosing = Choosing(2)
    choosing.measured(1, QUICK_US)
    choosing.asked(0)
    choosing.sleep(100)
    assert choosing.first() == 0
    choosing.sleep(10)
    choosing.first()
    assert choosing.first() == 1
    choosing.answered(0)
    assert choosing.first() == 0


def test_twice_as_slow_is_no_reason() -> None:
    choosing = Choosing(2)
    choosing.measured(0, 2 * QUICK_US)
    choosing.measured(1, QUICK_US)
    assert choosing.first() == 0
    choosing = Choosing(2)
    choosing.measured(0, 700_000)
    choosing.measured(1, 200_000)
    assert choosing.first() == 0


def test_hedges_are_one_question_in_twenty() -> None:
    choosing = Choosing(2)
    choosing.measured(0, QUICK_US)
    hedged = 0
    for _ in range(2000):
        assert choosing.first() == 0
        hedged += choosing.hedge() == 1
    assert hedged == 100


def test_hedges_saved_up_are_few() -> None:
    choosing = Choosing(2)
    for _ in range(5000):
        choosing.first()
    assert [choosing.hedge() for _ in range(20)].count(1) == 10


def test_no_hedge_where_nobody_else_fares_well() -> None:
    choosing = Choosing(2)
    choosing.measured(0, QUICK_US)
    choosing.silent(1, 4)
    for _ in range(100):
        assert choosing.first() == 0
    assert choosing.hedge() is None
    alone = Choosing(1)
    alone.measured(0, QUICK_US)
    assert alone.first() == 0
    assert (alone.hedge_ms(), alone.hedge()) == (0, None)


def test_the_hedge_comes_at_the_95th_percentile() -> None:
    choosing = Choosing(2)
    assert choosing.first() == 0
    assert choosing.hedge_ms() == 0  # nothing is known yet
    choosing.measured(0, QUICK_US)
    assert choosing.hedge_ms() == 10
