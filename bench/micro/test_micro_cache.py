# SPDX-License-Identifier: Apache-2.0
"""ns for one look-up, hit or miss, one store with and without eviction, and one attach.

Each round works over all names inside the compiled wrapper, without the GIL. The table's times are
those of a whole round; `ns_per_op` in the extra info, printed with -s, is the best round's for one
call, and leaves out making the queries and entries.
"""

import os
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastdns._segments import create_cache
from fastdns._testing import cache as raw
from fastdns._testing import cache_load

NOW = 1_000_000
NAMES = 10_000
ROUNDS = 30
SIZE = 8 << 20  # of the default budget
ONE_ADDRESS = 27  # octets of records: an A with a pointer for its owner, and room


@pytest.fixture
def store() -> raw.Store:
    fd = create_cache(SIZE)
    cache = raw.Cache(fd, writable=True)
    os.close(fd)
    return raw.Store(cache, 1, NOW)


def measure(benchmark: BenchmarkFixture, run: Callable[[], float], unit: str = "ns") -> None:
    """Let pytest-benchmark repeat `run`; keep the best round."""
    rounds: list[float] = []
    benchmark.pedantic(lambda: rounds.append(run()), rounds=ROUNDS, warmup_rounds=2)  # type: ignore[no-untyped-call]
    benchmark.extra_info["ns_per_op"] = round(min(rounds), 1)
    print(f"\n{benchmark.name}: {min(rounds):.1f} {unit}")


@pytest.mark.parametrize("names", [64, NAMES])
@pytest.mark.parametrize("prefetch", [0, 1, 2], ids=["plain", "buckets asked for", "and entries"])
def test_hit(benchmark: BenchmarkFixture, store: raw.Store, names: int, prefetch: int) -> None:
    """A reply of one record, want as for 1,232 octets; batches of 64 as a worker has them."""
    cache_load.store_range(store, 0, names, NOW, ONE_ADDRESS)

    def run() -> float:
        hits, ns = cache_load.look_up_range(store.cache, 0, names, NOW, 1180, prefetch)
        assert hits == names
        return ns

    measure(benchmark, run)


@pytest.mark.parametrize("octets", [400, 1180, 16_000])
def test_hit_of_many_records(benchmark: BenchmarkFixture, store: raw.Store, octets: int) -> None:
    """No more is copied than a UDP reply can hold."""
    names = min(NAMES, 60_000 // octets)
    cache_load.store_range(store, 0, names, NOW, octets)
    measure(benchmark, lambda: cache_load.look_up_range(store.cache, 0, names, NOW, 1180, 2)[1])


def test_miss(benchmark: BenchmarkFixture, store: raw.Store) -> None:
    cache_load.store_range(store, 0, NAMES, NOW, ONE_ADDRESS)

    def run() -> float:
        hits, ns = cache_load.look_up_range(store.cache, NAMES, NAMES, NOW, 1180, 1)
        assert hits == 0
        return ns

    measure(benchmark, run)


def test_store_into_free_space(benchmark: BenchmarkFixture, store: raw.Store) -> None:
    def run() -> float:
        fresh = raw.Store(store.cache, 1, NOW + 10_000_000)  # everything is over: empty again
        assert fresh.entries == 0
        return cache_load.store_range(fresh, 0, NAMES, NOW, ONE_ADDRESS)[1]

    measure(benchmark, run)


def test_store_of_known_names(benchmark: BenchmarkFixture, store: raw.Store) -> None:
    cache_load.store_range(store, 0, NAMES, NOW, ONE_ADDRESS)
    measure(benchmark, lambda: cache_load.store_range(store, 0, NAMES, NOW, ONE_ADDRESS)[1])


@pytest.mark.parametrize("octets", [ONE_ADDRESS, 400, 3500])
def test_store_with_eviction(benchmark: BenchmarkFixture, store: raw.Store, octets: int) -> None:
    first = iter(range(0, 1 << 31, NAMES))
    for _ in range(10):
        cache_load.store_range(store, next(first), NAMES, NOW, octets)
    before = store.counters
    measure(benchmark, lambda: cache_load.store_range(store, next(first), NAMES, NOW, octets)[1])
    after = store.counters
    evicted = sum(after[name] - before[name] for name in ("evicted_bytes", "evicted_bucket"))
    assert evicted > (ROUNDS - 1) * NAMES


def test_attach(benchmark: BenchmarkFixture, store: raw.Store) -> None:
    """A full default cache of small answers: some 48,000 entries."""
    cache_load.store_range(store, 0, 100_000, NOW, ONE_ADDRESS)

    def run() -> float:
        kept, ns = cache_load.attach_ns(store.cache, NOW)
        assert kept > 40_000
        return ns / kept

    measure(benchmark, run, "ns an entry")
