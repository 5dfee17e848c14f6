# SPDX-License-Identifier: Apache-2.0
"""What ties waiting clients to their question and to those that asked from the same place."""

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns import _segments
from fastdns._testing.links import Links

CLIENTS = 8192


@pytest.fixture
def links() -> Iterator[Links]:
    region = _segments.create_region(0, clients=CLIENTS)
    yield Links(region)
    os.close(region)


def test_clients_leave_in_any_order(links: Links) -> None:
    places = links.join(200, True)
    left = list(places)
    random.Random(7).shuffle(places)
    while places:
        going = [places.pop() for _ in range(min(7, len(places)))]
        links.free(going)
        left = [place for place in left if place not in going]
        assert links.waiting() == left
        assert links.chain() == left[::-1]
    assert links.used == 0
    assert links.close() == 0


def test_places_come_back(links: Links) -> None:
    for _ in range(3):
        places = links.join(CLIENTS, False)
        assert sorted(places) == list(range(CLIENTS))
        links.free(places)
    assert links.used == 0


def test_chosen_sources_cost_no_more_than_others(links: Links) -> None:
    """Whoever picks its ports and IDs so that all its queries fall into one chain gains nothing by it."""
    spent = {
        chosen: min(links.free(links.join(CLIENTS, chosen)) for _ in range(5)) for chosen in (False, True)
    }
    assert spent[True] < 20 * spent[False], spent  # a walk along the chain takes 2,000 times as long


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "end", "leave"]), st.integers(0, 3), st.integers(0, 50)),
        max_size=60,
    )
)
def test_stale_answers_are_due_in_the_queues_order(
    steps: list[tuple[str, int, int]],
) -> None:
    """Whatever the blocks' times are, who leaves early, and which slot is used again."""
    region = _segments.create_region(0, pending=64)
    links = Links(region)
    os.close(region)
    now, asked, queued = 1, 0, dict[int, tuple[int, int]]()
    for step, wait, pick in steps:
        now += pick % 5
        if step == "ask":
            asked += 1
            stale_ms = (200, 1000, 4500, 1)[wait]
            queued[links.question(now, stale_ms)] = (now + stale_ms, asked)
        elif queued:
            slot = list(queued)[pick % len(queued)]
            del queued[slot]
            (links.end if step == "end" else links.leave)(slot)
        expected = sorted(queued, key=lambda slot: queued[slot])
        assert links.stale() == (expected, expected[::-1])
