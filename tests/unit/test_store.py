# SPDX-License-Identifier: Apache-2.0
"""The writer of the cache: eviction, quotas, replacing, upkeep."""

import os
import random
from collections.abc import Iterator

import pytest

from fastdns._segments import cache_geometry, create_cache
from fastdns._testing import cache as raw
from fastdns._testing import cache_load
from tests.cachetools import (
    FAILURE,
    NODATA,
    NXDOMAIN,
    POSITIVE,
    PREFERRED,
    Entry,
    hash_of,
    root_record,
    with_records,
)
from tests.storetools import NOW, name, random_entry, sized
from tests.wiretools import labels

SIZE = 1 << 20
PAGE, LINE, UNIT = 4096, 64, 16
LARGE = 4096  # octets of an entry; over it, the quota


@pytest.fixture
def cache() -> Iterator[raw.Cache]:
    fd = create_cache(SIZE)
    yield raw.Cache(fd, writable=True)
    os.close(fd)


@pytest.fixture
def store(cache: raw.Cache) -> raw.Store:
    return raw.Store(cache, 1, NOW)


# --------------------------------------------------------------------- space and eviction ----


@pytest.mark.parametrize(("low", "high"), [(11, 12), (11, 400), (11, 3900), (3000, 3900)])
def test_long_churn_fills_the_memory(store: raw.Store, low: int, high: int) -> None:
    """Random sizes for long: the entries take at least 95 % of the octets that there are, or all slots."""
    chance = random.Random(low * high)
    fills = []
    for number in range(20_000):
        assert store.put(random_entry(chance, number, low, high).pack(), NOW) == "ok"
        fills.append(store.octets / store.room)
    store.audit()
    shards, _, buckets = cache_geometry(SIZE)
    assert min(fills[10_000:]) >= 0.95 or store.entries > shards * buckets * 10 * 0.9
    counters = store.counters
    assert counters["stores"] == 20_000
    assert counters["evicted_bytes"] + counters["evicted_bucket"] == 20_000 - store.entries


def test_a_change_of_sizes_finds_room(store: raw.Store) -> None:
    """Full of the smallest, then 4 KiB each, then the smallest again: every store succeeds."""
    chance = random.Random(2)
    for number in range(9_000):
        low, high = ((11, 12), (3800, 3900))[number // 3_000 % 2]
        assert store.put(random_entry(chance, number, low, high).pack(), NOW) == "ok"
        if number % 500 == 0:
            store.audit()
    assert store.octets / store.room > 0.95


@pytest.mark.parametrize("hits", [False, True])
def test_replacing_in_a_full_cache(store: raw.Store, cache: raw.Cache, hits: bool) -> None:
    """The old answer stands until the new one does, also when room must be made right beside it."""
    chance = random.Random(3)
    entries = [random_entry(chance, number) for number in range(700)]
    for turn in range(4_000):
        number = chance.randrange(700)
        entries[number] = with_records(entries[number], chance.randrange(11, 3_900), fill=turn & 0xFF)
        assert store.put(entries[number].pack(), NOW) == "ok"
        slot, records = cache.lookup(entries[number].pack(), NOW)[1::4]
        assert records == entries[number].records
        if hits:
            assert isinstance(slot, int)
            store.hit(slot)
        if turn % 100 == 0:
            store.audit()
    store.audit()
    assert store.counters["evicted_bytes"] > 1_000


def test_replacing_the_only_one_that_nobody_asked_for(store: raw.Store, cache: raw.Cache) -> None:
    """All others are in use, so the cheapest place would be where the old answer stands."""
    entries = [sized(entry, 1_024) for entry in one_shard(500, 20)]
    for entry in entries:
        assert store.put(entry.pack(), NOW) == "ok"
    assert store.counters["evicted_bytes"] > 0
    kept = sorted((e for e in entries if store.find(e.pack())), key=lambda e: store.place(e.pack()))
    for entry in kept[1:]:
        slot = cache.lookup(entry.pack(), NOW)[1]
        assert slot is not None
        store.hit(slot)
    new = sized(kept[0], 60_000)
    assert store.put(new.pack(), NOW) == "ok"
    store.audit()
    assert cache.lookup(new.pack(), NOW)[5] == new.records


def test_a_full_bucket_gives_up_what_matters_least(store: raw.Store, cache: raw.Cache) -> None:
    entries = [
        Entry(qname=name(n), key_hash=hash_of(tag=n + 1), stored_ms=NOW + n, records=root_record(b"%d" % n))
        for n in range(10)
    ]
    slots = []
    for entry in entries:
        store.put(entry.pack(), NOW)
        slots.append(cache.lookup(entry.pack(), NOW)[1])
    for n, slot in enumerate(slots):
        assert slot is not None
        if n not in (4, 7):
            store.hit(slot, 1 + n, worker=n % 2)
    another = Entry(qname=name(99), key_hash=hash_of(tag=99), stored_ms=NOW)
    assert store.put(another.pack(), NOW) == "ok"
    # Of the two that nobody asked for the older one went.
    assert [n for n in range(10) if store.find(entries[n].pack()) is None] == [4]
    assert store.counters["evicted_bucket"] == 1
    store.audit()


def test_a_full_bucket_gives_up_the_expired_first(store: raw.Store, cache: raw.Cache) -> None:
    entries = [
        Entry(qname=name(n), key_hash=hash_of(tag=n + 1), stored_ms=NOW, ttl_s=1 if n == 6 else 60)
        for n in range(10)
    ]
    for entry in entries:
        store.put(entry.pack(), NOW)
    slot = cache.lookup(entries[6].pack(), NOW)[1]
    assert slot is not None
    store.hit(slot, 1000)
    another = Entry(qname=name(99), key_hash=hash_of(tag=99), stored_ms=NOW + 1000)
    assert store.put(another.pack(), NOW + 1000) == "ok"
    assert [n for n in range(10) if store.find(entries[n].pack()) is None] == [6]
    assert (store.counters["evicted_bucket"], store.counters["expired"]) == (0, 1)


@pytest.mark.parametrize("flood_octets", [30, 400, 3500])
def test_a_flood_of_names_asked_once(flood_octets: int) -> None:
    """1,000 names in use beside 200,000 that are asked once: at least 98 % of them stay."""
    fd = create_cache(2 << 20)
    cache = raw.Cache(fd, writable=True)
    os.close(fd)
    store = raw.Store(cache, 1, NOW)
    hot = [cache_load.numbered(n, now_ms=NOW) for n in range(1_000)]
    for entry in hot:
        assert store.put(entry, NOW) == "ok"
    slots = [cache.lookup(entry, NOW)[1] for entry in hot]
    for turn in range(400):
        # Each name in use is hit once while 500 others are stored: by one worker or the other.
        for n, entry in enumerate(hot):
            slot = slots[n]
            if slot is not None and store.find(entry) is not None:
                store.hit(slot, worker=(n + turn) % 2)
        assert cache_load.store_range(store, 10_000 + turn * 500, 500, NOW, flood_octets)[0] == 500
    kept = sum(store.find(entry) is not None for entry in hot)
    assert kept >= 980, f"{kept} of 1,000 names in use stayed"
    store.audit()


def test_hit_figures_wrap(store: raw.Store, cache: raw.Cache) -> None:
    """16 bits, summed over the workers: a figure that goes from 65,535 to 0 is one hit."""
    entry = cache_load.numbered(1, now_ms=NOW)
    store.put(entry, NOW)
    slot = cache.lookup(entry, NOW)[1]
    assert slot is not None
    store.hit(slot, 0xFFFF, worker=0)
    store.hit(slot, 0x8000, worker=1)
    for turn in range(60):
        store.hit(slot, worker=0)
        cache_load.store_range(store, 1_000 + turn * 100, 100, NOW, 500)
    assert store.find(entry) is not None


def test_names_once_in_use_go(store: raw.Store, cache: raw.Cache) -> None:
    """A flood drives out what nobody asks for any more, so that new names in use find their place."""
    before = [cache_load.numbered(n, now_ms=NOW) for n in range(1_000)]
    for entry in before:
        store.put(entry, NOW)
    for _ in range(3):
        for entry in before:
            slot = cache.lookup(entry, NOW)[1]
            if slot is not None:
                store.hit(slot)
        cache_load.store_range(store, 10_000, 1_000, NOW, 500)
    assert sum(store.find(entry) is not None for entry in before) > 900
    cache_load.store_range(store, 50_000, 10_000, NOW, 500)
    assert sum(store.find(entry) is not None for entry in before) < 50


def test_all_in_use_still_finds_room(store: raw.Store, cache: raw.Cache) -> None:
    """When every entry is hit all the time, storing still ends, with a place."""
    for turn in range(40):
        for n in range(1_200):
            entry = cache_load.numbered(n, now_ms=NOW)
            found = cache.lookup(entry, NOW)
            if found[1] is not None:
                store.hit(found[1])
        assert cache_load.store_range(store, 10_000 + turn * 100, 100, NOW, 2000)[0] == 100
    store.audit()


# ---------------------------------------------------------------------------- large ones ----


def large_octets(store: raw.Store, entries: list[Entry]) -> int:
    return sum(e.units() * UNIT for e in entries if e.size() > LARGE and store.find(e.pack()) is not None)


def one_shard(count: int, octets: int) -> list[Entry]:
    return [
        with_records(Entry(qname=name(n), key_hash=hash_of(bucket=n, tag=1), stored_ms=NOW + n), octets)
        for n in range(count)
    ]


@pytest.mark.parametrize("octets", [4_050, 5_000, 20_000, 65_535])
def test_large_entries_share_a_quarter(store: raw.Store, octets: int) -> None:
    entries = one_shard(200, octets)
    _, shard_size, _ = cache_geometry(SIZE)
    for entry in entries:
        assert store.put(entry.pack(), NOW) == "ok"
        assert large_octets(store, entries) <= shard_size // 4
        assert store.find(entry.pack()) is not None
    assert large_octets(store, entries) > shard_size // 4 - octets - 200
    # Those that nobody asked for went, the oldest first.
    kept = [n for n, entry in enumerate(entries) if store.find(entry.pack()) is not None]
    assert kept == list(range(200 - len(kept), 200))
    assert store.counters["rejected_large"] == 0
    store.audit()


def test_the_quota_starts_above_4_kib(store: raw.Store) -> None:
    shards, shard_size, _ = cache_geometry(SIZE)
    for octets, share in ((LARGE, 0.9), (LARGE + 1, 0.25)):
        entries = [sized(entry, octets) for entry in one_shard(200, 20)]
        assert {entry.size() for entry in entries} == {octets}
        for entry in entries:
            assert store.put(entry.pack(), NOW) == "ok"
        taken = sum(e.units() * UNIT for e in entries if store.find(e.pack()) is not None)
        assert (
            share * shard_size - 2 * LARGE
            < taken
            <= max(share, 0.25) * shard_size + shard_size * (octets == LARGE)
        )
    assert shards == 2


def test_large_entries_in_use_are_not_thrown_out(store: raw.Store, cache: raw.Cache) -> None:
    entries = one_shard(12, 20_000)
    in_use = entries[:6]
    for entry in in_use:
        assert store.put(entry.pack(), NOW) == "ok"

    def hit_all() -> None:
        for entry in in_use:
            slot = cache.lookup(entry.pack(), NOW)[1]
            assert slot is not None
            store.hit(slot)

    for entry in entries[6:]:
        hit_all()
        assert store.put(entry.pack(), NOW) == "too_large"
    assert store.counters["rejected_large"] == 6
    # Nobody asks any more: the next one finds a place.
    assert store.put(entries[6].pack(), NOW) == "ok"
    store.audit()


def test_large_entries_past_their_time_make_room(store: raw.Store, cache: raw.Cache) -> None:
    """However often they were asked for."""
    entries = [entry.but(ttl_s=10) for entry in one_shard(7, 20_000)]
    for entry in entries[:6]:
        assert store.put(entry.pack(), NOW) == "ok"
        slot = cache.lookup(entry.pack(), NOW)[1]
        assert slot is not None
        store.hit(slot)
    later = entries[6].but(stored_ms=NOW + 20_000)
    assert store.put(later.pack(), NOW + 20_000) == "ok"
    assert (store.counters["rejected_large"], store.counters["evicted_bytes"]) == (0, 0)
    assert store.counters["expired"] > 0
    store.audit()


def test_a_large_entry_replaces_its_own(store: raw.Store, cache: raw.Cache) -> None:
    """While the new one is written the old one still stands: it counts for nothing, and stays readable."""
    for fill in range(20):
        entries = [with_records(entry, 60_000 + 100 * fill, fill) for entry in one_shard(1, 100)]
        assert store.put(entries[0].pack(), NOW) == "ok"
        assert cache.lookup(entries[0].pack(), NOW)[5] == entries[0].records
        assert store.entries == 1
        store.audit()


def test_large_among_small(store: raw.Store) -> None:
    chance = random.Random(4)
    for number in range(3_000):
        low, high = (4_000, 65_535) if number % 10 == 0 else (11, 400)
        assert store.put(random_entry(chance, number, low, high).pack(), NOW) == "ok"
        if number % 300 == 0:
            store.audit()
    store.audit()


def test_the_smallest_cache_takes_the_largest_answer() -> None:
    fd = create_cache(320 * 1024 + PAGE)
    cache = raw.Cache(fd, writable=True)
    os.close(fd)
    store = raw.Store(cache, 1, NOW)
    cache_load.store_range(store, 0, 3_000, NOW, 27)
    entry = Entry(
        qname=labels(*[b"x" * 62] * 4, b"y"),
        records=root_record() * 5957,
        ttl_off=range(5, 11 * 5957, 11),
        ancount=5957,
        stored_ms=NOW,
    )
    for _ in range(3):
        assert store.put(entry.pack(), NOW) == "ok"
        assert cache.lookup(entry.pack(), NOW)[5] == entry.records
    store.audit()


# ------------------------------------------------------------------- replacing, upkeep ----


@pytest.mark.parametrize("kind", [POSITIVE, NODATA, NXDOMAIN])
@pytest.mark.parametrize(
    ("age_ms", "stale_s", "outcome"),
    [
        (0, 0, "kept_better"),
        (9_999, 0, "kept_better"),
        (10_000, 0, "ok"),
        (10_000, 30, "kept_better"),
        (39_999, 30, "kept_better"),
        (40_000, 30, "ok"),
    ],
)
def test_a_usable_answer_is_not_replaced_by_a_failure(
    store: raw.Store, kind: int, age_ms: int, stale_s: int, outcome: str
) -> None:
    answer = Entry(kind=kind, stored_ms=NOW, ttl_s=10, stale_s=stale_s)
    failure = with_records(answer, 0).but(kind=FAILURE, stored_ms=NOW + age_ms, ttl_s=5, stale_s=0)
    assert store.put(answer.pack(), NOW) == "ok"
    assert store.put(failure.pack(), NOW + age_ms) == outcome
    found = store.find(answer.pack())
    assert found is not None
    assert found[80:] == (failure if outcome == "ok" else answer).pack()[80:]


def test_a_failure_is_replaced_by_anything(store: raw.Store) -> None:
    failure = with_records(Entry(stored_ms=NOW, ttl_s=5), 0).but(kind=FAILURE)
    for kind in (FAILURE, POSITIVE, NODATA, NXDOMAIN, POSITIVE):
        assert store.put(failure.but(kind=kind).pack(), NOW) == "ok"
    assert store.entries == 1


def test_what_is_not_sound_is_not_stored(store: raw.Store) -> None:
    for change in ({"kind": 0}, {"ancount": 2}, {"qname": b"\1a"}, {"ttl_off": (50,)}):
        assert store.put(Entry().but(**change).pack(), NOW) == "unsound"
    assert (store.entries, store.counters["stores"]) == (0, 0)


def test_a_hold_ends_by_its_time_or_with_the_upstreams_return(store: raw.Store, cache: raw.Cache) -> None:
    entry = Entry(stored_ms=NOW, ttl_s=10, stale_s=100)
    assert not store.hold(entry.pack(), NOW)
    store.put(entry.pack(), NOW)
    late = NOW + 20_000
    assert cache.lookup(entry.pack(), late)[0] == "stale"
    assert store.hold(entry.pack(), late + 30_000)
    assert cache.lookup(entry.pack(), late + 29_999)[0] == "stale now"
    assert cache.lookup(entry.pack(), late + 30_000)[0] == "stale"
    store.void_holds()
    assert cache.lookup(entry.pack(), late)[0] == "stale"
    assert store.hold(entry.pack(), late + 30_000)
    assert cache.lookup(entry.pack(), late)[0] == "stale now"


@pytest.mark.parametrize("kind", [NODATA, NXDOMAIN, FAILURE, POSITIVE])
@pytest.mark.parametrize(("age_ms", "kept"), [(0, True), (39_999, True), (40_000, False)])
def test_a_preferred_answer_is_replaced_by_one_with_records_only(
    store: raw.Store, kind: int, age_ms: int, kept: bool
) -> None:
    """serve_stale_policy prefer_positive."""
    answer = Entry(stored_ms=NOW, ttl_s=10, stale_s=30, marks=PREFERRED)
    negative = with_records(answer, 0).but(kind=kind, stored_ms=NOW + age_ms, marks=0)
    assert store.put(answer.pack(), NOW) == "ok"
    assert store.put(negative.pack(), NOW + age_ms) == ("kept_better" if kept else "ok")
    assert store.put(with_records(answer, 50).pack(), NOW + age_ms) == "ok"


def test_sweep_is_bounded_and_complete(store: raw.Store, cache: raw.Cache) -> None:
    chance = random.Random(5)
    for number in range(1_000):
        entry = random_entry(chance, number, 11, 100).but(ttl_s=number % 3 + 1, stale_s=number % 2)
        store.put(entry.pack(), NOW)
    assert store.sweep_all(NOW + 999) == 0
    over = sum((number % 3 + 1 + number % 2) * 1000 <= 2_500 for number in range(1_000))
    dropped = []
    for _ in range(cache.slots // 64 + 1):
        dropped.append(store.sweep(NOW + 2_500))
        assert dropped[-1] <= 70
    assert sum(dropped) == over
    assert store.entries == 1_000 - over
    assert store.counters["expired"] == over
    store.audit()
    assert store.sweep_all(NOW + 60_000) == 1_000 - over
    assert (store.entries, store.octets) == (0, 0)
    store.audit()


def test_another_generation_ends_the_writing(store: raw.Store, cache: raw.Cache) -> None:
    entry = Entry(stored_ms=NOW, ttl_s=1)
    store.put(entry.pack(), NOW)
    assert cache.generation == 1
    successor = raw.Store(cache, 2, NOW)
    assert cache.generation == 2
    before = cache.read(0, PAGE + cache.geometry[1])
    assert store.put(Entry(key_hash=7, stored_ms=NOW).pack(), NOW) == "not_writer"
    assert store.sweep_all(NOW + 10_000) == 0
    assert not store.hold(entry.pack(), NOW + 5_000)
    assert store.counters["store_stale_writer"] == 1
    assert cache.read(0, PAGE + cache.geometry[1]) == before
    assert successor.put(Entry(key_hash=7, stored_ms=NOW).pack(), NOW) == "ok"
