# SPDX-License-Identifier: Apache-2.0
"""What the writer of the cache makes of a segment that is there: whole, or damaged in every field."""

import os
import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._segments import create_cache
from fastdns._testing import cache as raw
from tests.cachetools import Entry, hash_of, root_record
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


def filled(cache: raw.Cache, count: int = 300) -> list[Entry]:
    store = raw.Store(cache, 1, NOW)
    chance = random.Random(6)
    entries = [random_entry(chance, number, 11, 900) for number in range(count)]
    for entry in entries:
        assert store.put(entry.pack(), NOW) == "ok"
    return entries


def test_attach_keeps_everything(cache: raw.Cache) -> None:
    entries = filled(cache)
    store = raw.Store(cache, 2, NOW)
    store.audit()
    assert store.entries == store.counters["scan_kept"] == len(entries)
    assert store.octets == sum(entry.units() for entry in entries) * UNIT
    for entry in entries:
        assert cache.lookup(entry.pack(), NOW)[5] == entry.records
    again = Entry(key_hash=8, stored_ms=NOW)
    assert store.put(again.pack(), NOW) == "ok"
    assert cache.lookup(again.pack(), NOW)[0] == "hit"


def test_attach_drops_what_is_over(cache: raw.Cache) -> None:
    store = raw.Store(cache, 1, NOW)
    for number in range(100):
        store.put(Entry(qname=name(number), key_hash=number << 16, ttl_s=number + 1).pack(), 0)
    store = raw.Store(cache, 2, 50_000)
    assert (store.entries, store.counters["expired"], store.counters["scan_dropped"]) == (50, 50, 0)
    store.audit()


def test_attach_empties_odd_buckets(cache: raw.Cache) -> None:
    entries = filled(cache)
    shards, shard_size, buckets = cache.geometry
    odd = entries[::7]
    for entry in odd:
        at = (
            PAGE
            + (entry.key_hash & (shards - 1)) * shard_size
            + (entry.key_hash >> 16 & (buckets - 1)) * LINE
        )
        (seq,) = struct.unpack("<I", cache.read(at, 4))
        cache.write(at, struct.pack("<I", seq | 1))
        assert cache.lookup(entry.pack(), NOW)[0] == "miss"
    gone = {(e.key_hash & (shards - 1), e.key_hash >> 16 & (buckets - 1)) for e in odd}
    store = raw.Store(cache, 2, NOW)
    store.audit()
    for entry in entries:
        kept = (entry.key_hash & (shards - 1), entry.key_hash >> 16 & (buckets - 1)) not in gone
        assert cache.lookup(entry.pack(), NOW)[0] == ("hit" if kept else "miss")
    dropped = store.counters["scan_dropped"]
    assert dropped >= len(gone)
    assert store.entries == len(entries) - dropped
    for shard, bucket in gone:
        at = PAGE + shard * shard_size + bucket * LINE
        assert struct.unpack("<I", cache.read(at, 4))[0] % 2 == 0
    # And they can be used again.
    for entry in odd:
        assert store.put(entry.pack(), NOW) == "ok"
        assert cache.lookup(entry.pack(), NOW)[0] == "hit"


def word(value: int, octets: int) -> bytes:
    return value.to_bytes(octets, "little")


# What is written over: of the slot (from its number in the bucket) or of the entry.
SLOT_DAMAGE: dict[str, list[tuple[str, int, int | None]]] = {
    "tag": [("tag", 2, 0x7777)],
    "off to the index": [("off", 2, 0)],
    "off to the last index unit": [("off", 2, 256 * 4 - 1)],
    "off to the end": [("off", 2, 0xFFFF)],
    "off behind the entry": [("off", 2, None)],
    "len of none": [("len", 2, 0)],
    "len too short": [("len", 2, 1)],
    "len one more": [("len", 2, None)],
    "len to behind the end": [("len", 2, 0xFFFF)],
}
ENTRY_DAMAGE: dict[str, tuple[int, bytes | None]] = {
    "key_hash, tag": (6, b"\x77\x77"),
    "key_hash, bucket": (2, None),
    "key_hash, shard": (0, None),
    "stored in the future": (8, word(NOW + 1, 8)),
    "slot_ref": (32, word(0xFFFFFFFF, 4)),
    "slot_ref of another": (32, None),
    "variant": (46, b"\1"),
    "key_flags": (47, b"\4"),
    "ancount": (58, word(2, 2)),
    "nscount": (60, word(1, 2)),
    "arcount": (62, word(0xFFFF, 2)),
    "records_len more": (64, word(0xFFFF, 2)),
    "records_len none": (64, word(0, 2)),
    "ttl_count": (66, word(2, 2)),
    "ttl_count most": (66, word(0xFFFF, 2)),
    "qname_len none": (70, b"\0"),
    "qname_len more": (70, b"\xff"),
    "qname_len less": (70, b"\1"),
    "kind none": (71, b"\0"),
    "kind unknown": (71, b"\5"),
    "qname label": (80, b"\x40"),
    "qname pointer": (80, b"\xc0"),
    "qname label over the end": (80, b"\x3f"),
}


def flipped(cache: raw.Cache, at: int, octets: int) -> bytes:
    return bytes(octet ^ 1 for octet in cache.read(at, octets))


@pytest.mark.parametrize("damage", [*SLOT_DAMAGE, *ENTRY_DAMAGE, "ttl offset"])
def test_attach_drops_damaged_entries(cache: raw.Cache, damage: str) -> None:
    """Each field of a slot and of an entry: what was written over goes, and nothing else."""
    entries = filled(cache)
    victim = entries[42]
    store = raw.Store(cache, 2, NOW)
    at = store.place(victim.pack())
    shards, shard_size, buckets = cache.geometry
    bucket = (
        PAGE + (victim.key_hash & (shards - 1)) * shard_size + (victim.key_hash >> 16 & (buckets - 1)) * LINE
    )
    tags = struct.unpack("<10H", cache.read(bucket + 4, 20))
    slot = tags.index(victim.key_hash >> 48 or 1)
    if damage in SLOT_DAMAGE:
        for field, octets, value in SLOT_DAMAGE[damage]:
            off = bucket + {"tag": 4, "off": 24, "len": 44}[field] + 2 * slot
            (old,) = struct.unpack("<H", cache.read(off, 2))
            cache.write(off, word(old + 1 if value is None else value, octets))
    elif damage == "ttl offset":
        cache.write(at + (80 + len(victim.qname) + 1) // 2 * 2, word(0xFFFF, 2))
    else:
        off, octets_or_none = ENTRY_DAMAGE[damage]
        cache.write(at + off, flipped(cache, at + off, 1) if octets_or_none is None else octets_or_none)
    store = raw.Store(cache, 3, NOW)
    store.audit()
    assert store.counters["scan_dropped"] == 1
    assert store.entries == len(entries) - 1
    for entry in entries:
        assert cache.lookup(entry.pack(), NOW)[0] == ("miss" if entry is victim else "hit")
    assert store.put(victim.pack(), NOW) == "ok"
    assert cache.lookup(victim.pack(), NOW)[5] == victim.records


def test_attach_drops_the_second_of_two_on_one_place(cache: raw.Cache) -> None:
    """Two slots that name overlapping memory: one entry starts in the middle of the other."""
    store = raw.Store(cache, 1, NOW)
    inner = Entry(qname=labels(b"inner"), key_hash=hash_of(bucket=2), stored_ms=NOW, slot_ref=20)
    outer = Entry(qname=labels(b"outer"), key_hash=hash_of(bucket=1), stored_ms=NOW)
    pad = -(outer.but(records=root_record()).size()) % UNIT
    outer = outer.but(records=root_record(bytes(pad) + inner.pack()))
    store.put(outer.pack(), NOW)
    place = (store.place(outer.pack()) - PAGE) // UNIT + (outer.size() - inner.size()) // UNIT
    bucket = PAGE + 2 * LINE
    cache.write(bucket + 4, word(1, 2))
    cache.write(bucket + 24, word(place, 2))
    cache.write(bucket + 44, word(inner.units(), 2))
    assert cache.lookup(inner.pack(), NOW)[0] == "hit", "the forged slot would have been believed"
    store = raw.Store(cache, 2, NOW)
    store.audit()
    assert (store.entries, store.counters["scan_dropped"]) == (1, 1)
    assert cache.lookup(inner.pack(), NOW)[0] == "miss"
    assert cache.lookup(outer.pack(), NOW)[0] == "hit"


@pytest.mark.parametrize("units", [-1, 1, 5])
def test_attach_drops_a_length_that_is_not_the_entrys(cache: raw.Cache, units: int) -> None:
    """Also where what it claims too much is free."""
    store = raw.Store(cache, 1, NOW)
    entry = Entry(key_hash=hash_of(bucket=1), stored_ms=NOW)
    store.put(entry.pack(), NOW)
    cache.write(PAGE + LINE + 44, word(entry.units() + units, 2))
    store = raw.Store(cache, 2, NOW)
    store.audit()
    assert (store.entries, store.counters["scan_dropped"]) == (0, 1)


def test_attach_drops_the_second_of_two_with_one_key(cache: raw.Cache) -> None:
    store = raw.Store(cache, 1, NOW)
    one = Entry(key_hash=hash_of(bucket=1), stored_ms=NOW)
    other = one.but(qname=labels(b"b", b"example"))
    store.put(one.pack(), NOW)
    store.put(other.pack(), NOW)
    cache.write(store.place(other.pack()) + 81, b"a")
    store = raw.Store(cache, 2, NOW)
    store.audit()
    assert (store.entries, store.counters["scan_dropped"]) == (1, 1)


def test_attach_keeps_large_entries_within_their_quota(cache: raw.Cache) -> None:
    """A segment whose large entries are over the quota (no writer of ours made it) is cut down to it."""
    store = raw.Store(cache, 1, NOW)
    small = [
        sized(Entry(qname=name(n), key_hash=hash_of(bucket=n, tag=1), stored_ms=NOW + n), LARGE)
        for n in range(100)
    ]
    for entry in small:
        store.put(entry.pack(), NOW)
    _, shard_size, _ = cache.geometry
    kept = [entry for entry in small if store.find(entry.pack()) is not None]
    assert len(kept) > 80
    # Two neighbours become one large entry each time.
    by_place = sorted(kept, key=lambda entry: store.place(entry.pack()))
    for entry, neighbour in zip(by_place[::2], by_place[1::2], strict=False):
        at = store.place(entry.pack())
        records_len = len(entry.records) + LARGE
        bucket = entry.key_hash >> 16 & 0xFF
        cache.write(at + 64, word(records_len, 2))
        cache.write(PAGE + bucket * LINE + 44, word(2 * LARGE // UNIT, 2))
        cache.write(PAGE + (neighbour.key_hash >> 16 & 0xFF) * LINE + 4, bytes(2))
    store = raw.Store(cache, 2, NOW + 1000)
    store.audit()
    assert shard_size // 4 - 2 * LARGE < store.octets <= shard_size // 4
    assert store.counters["scan_dropped"] > 0


@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.0001, 0.001, 0.01, 0.5]), index=st.booleans())
def test_attach_to_random_damage(seed: int, share: float, index: bool) -> None:
    """Octets written over anywhere: attach ends, its books agree, and all goes on."""
    fd = create_cache(400 * 1024)
    cache = raw.Cache(fd, writable=True)
    os.close(fd)
    entries = filled(cache, 200)
    chance = random.Random(seed)
    _, shard_size, buckets = cache.geometry
    low, high = (PAGE, PAGE + buckets * LINE) if index else (PAGE, PAGE + shard_size)
    for _ in range(int((high - low) * share)):
        cache.write(chance.randrange(low, high), bytes([chance.getrandbits(8)]))
    store = raw.Store(cache, 2, NOW)
    store.audit()
    for number in range(300):
        entry = random_entry(chance, number, 11, 3900)
        assert store.put(entry.pack(), NOW) == "ok"
        assert cache.lookup(entry.pack(), NOW)[5] == entry.records
    for entry in entries:
        cache.lookup(entry.pack(), NOW)
    store.audit()
