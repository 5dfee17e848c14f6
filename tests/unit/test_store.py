# SPDX-License-Identifier: Apache-2.0
"""The writer of the cache."""

import os
import random

import pytest

from fastdns._segments import create_cache
from fastdns._testing import cache as raw
from tests.cachetools import Entry, with_records
from tests.wiretools import labels

NOW = 1_000_000


def random_entry(chance: random.Random, number: int, low: int = 0, high: int = 4096) -> Entry:
    return with_records(
        Entry(qname=labels(b"n%d" % number, b"example"), key_hash=chance.getrandbits(64), stored_ms=NOW),
        max(11, int(chance.triangular(low, high, low))),
    )


@pytest.fixture
def cache():
    fd = create_cache(1 << 20)
    yield raw.Cache(fd, writable=True)
    os.close(fd)


def test_churn_of_mixed_sizes(cache):
    store = raw.Store(cache, 1, NOW)
    chance = random.Random(1)
    fills = []
    for number in range(20_000):
        assert store.put(random_entry(chance, number).pack(), NOW) == "ok"
        if number % 500 == 0:
            fills.append(store.octets / store.room)
    store.audit()
    assert min(fills[2:]) > 0.95
