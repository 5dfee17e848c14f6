# SPDX-License-Identifier: Apache-2.0
"""Readers of the cache: opening, looking up, viewing, and the writer at work between their steps."""

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._segments import cache_geometry, create_cache, create_post, reopen_read_only
from fastdns._testing import cache as raw
from tests.cachetools import ENTRY_MAX, FAILURE, Entry, hash_of, root_record, with_records
from tests.wiretools import labels

NOW = 1_000_000
SIZE = 1 << 20

# fd_cache_header_t
MAGIC, VERSION, SHARDS, TOTAL, SHARD_SIZE, BUCKETS, SUM = 0, 8, 12, 16, 24, 28, 32
BOOT_ID, TIME_NS = 56, 72
PAGE, LINE = 4096, 64
STEP_BUCKET, STEP_KEY, STEP_COPIED = 1, 2, 3


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_cache(SIZE)
    yield fd
    os.close(fd)


@pytest.fixture
def cache(fd: int) -> raw.Cache:
    return raw.Cache(fd, writable=True)


@pytest.fixture
def store(cache: raw.Cache) -> raw.Store:
    return raw.Store(cache, 1, NOW)


@pytest.fixture
def reader(fd: int) -> raw.Cache:
    read_only = reopen_read_only(fd)
    try:
        return raw.Cache(read_only)
    finally:
        os.close(read_only)


def bucket_off(cache: raw.Cache, key_hash: int) -> int:
    """Where the bucket of a key stands in the segment."""
    shards, shard_size, buckets = cache.geometry
    return PAGE + (key_hash & (shards - 1)) * shard_size + (key_hash >> 16 & (buckets - 1)) * LINE


# ------------------------------------------------------------------------------- opening ----


def test_open_takes_what_create_made(fd: int, cache: raw.Cache) -> None:
    assert cache.opened == "ok"
    assert cache.geometry == cache_geometry(SIZE)
    assert raw.open_octets(os.pread(fd, SIZE, 0)) == "ok"


@pytest.mark.parametrize("size", [0, 1, 8, PAGE - 1])
def test_open_refuses_a_short_mapping(fd: int, size: int) -> None:
    assert raw.open_octets(os.pread(fd, size, 0)) == "not_a_cache"


def test_open_refuses_no_mapping() -> None:
    assert raw.open_nothing() == "not_a_cache"


def test_open_refuses_another_segment() -> None:
    post = create_post()
    assert raw.Cache(post).opened == "not_a_cache"
    os.close(post)


@pytest.mark.parametrize(
    ("off", "octets", "outcome"),
    [
        (MAGIC, b"FASDNSR1", "not_a_cache"),
        (MAGIC, bytes(8), "not_a_cache"),
        (VERSION, struct.pack("<I", 0xFFFF), "other_layout"),
        (SUM, bytes(8), "other_layout"),
        (BOOT_ID, bytes(16), "other_boot"),
        (TIME_NS, struct.pack("<Q", 1), "other_boot"),
    ],
)
def test_open_refuses_another_header(cache: raw.Cache, off: int, octets: bytes, outcome: str) -> None:
    cache.write(off, octets)
    assert raw.open_octets(cache.read(0, cache_total())) == outcome


def cache_total() -> int:
    shards, shard_size, _ = cache_geometry(SIZE)
    return PAGE + shards * shard_size


@pytest.mark.parametrize(
    ("off", "value"),
    [
        *[(SHARDS, value) for value in (0, 1, 3, 4, 1 << 17, 0xFFFFFFFF)],
        *[(SHARD_SIZE, value) for value in (0, PAGE, 1234, 1 << 21, 0xFFFFF000)],
        *[(BUCKETS, value) for value in (0, 3, 1 << 14, 1 << 31)],
    ],
)
@pytest.mark.parametrize("renewed", [False, True])
def test_open_refuses_another_geometry(cache: raw.Cache, off: int, value: int, renewed: bool) -> None:
    """By the checksum; and when that was made to fit, by the numbers themselves."""
    cache.write(off, struct.pack("<I", value))
    if renewed:
        cache.renew_checksum()
    assert raw.open_octets(cache.read(0, cache_total())) in ("other_layout", "other_size")


@pytest.mark.parametrize("more", [-PAGE, PAGE])
def test_open_refuses_another_size(fd: int, more: int) -> None:
    os.ftruncate(fd, cache_total() + more)
    assert raw.Cache(fd).opened == "other_size"


def test_a_reader_cannot_map_for_writing(fd: int) -> None:
    read_only = reopen_read_only(fd)
    with pytest.raises(OSError, match="denied"):
        raw.Cache(read_only, writable=True)
    os.close(read_only)


# --------------------------------------------------------------------------- looking up ----


def test_put_and_look_up(store: raw.Store, reader: raw.Cache) -> None:
    entry = Entry(stored_ms=NOW, fingerprint=7, zone=3, plugin=2, marks=1, msg_flags=0x8400, plain_len=99)
    assert reader.lookup(entry.pack(), NOW)[0] == "miss"
    assert store.put(entry.pack(), NOW) == "ok"
    outcome, slot, header, qname, ttl_off, records = reader.lookup(entry.pack(), NOW)
    assert outcome == "hit"
    assert slot is not None
    assert header == entry.but(slot_ref=slot % (reader.slots // 2)).header()
    assert (qname, tuple(ttl_off), records) == (entry.qname, entry.ttl_off, entry.records)


def test_slot_numbers_count_over_the_whole_cache(store: raw.Store, reader: raw.Cache) -> None:
    shards, _, buckets = reader.geometry
    slots = []
    for shard in range(shards):
        for bucket in (0, buckets - 1):
            entry = Entry(key_hash=hash_of(shard=shard, bucket=bucket), stored_ms=NOW)
            store.put(entry.pack(), NOW)
            slots.append(reader.lookup(entry.pack(), NOW)[1])
    assert slots == [
        shard * buckets * 10 + bucket * 10 for shard in range(shards) for bucket in (0, buckets - 1)
    ]


@pytest.mark.parametrize("octets", [0, 11, 12, 15, 16, 17, 511, 512, 513, 4000, 4096, 30_000, 65_535])
@pytest.mark.parametrize("name", [b"\0", labels(b"a"), labels(b"a" * 6), labels(*[b"x" * 62] * 4)])
def test_every_size(store: raw.Store, reader: raw.Cache, octets: int, name: bytes) -> None:
    entry = with_records(Entry(qname=name, stored_ms=NOW), octets, fill=0x5A)
    assert store.put(entry.pack(), NOW) == "ok"
    for want in (0, 1, 10, 11, 12, octets - 1, octets, octets + 1, 65_535, 0xFFFFFFFF):
        if want < 0:
            continue
        outcome, _, _, qname, ttl_off, records = reader.lookup(entry.pack(), NOW, want)
        assert (outcome, qname) == ("hit", name)
        assert records == entry.records[:want]
        assert tuple(ttl_off) == entry.ttl_off
    store.audit()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 100, 5957])
def test_no_more_offsets_than_a_reply_can_use(store: raw.Store, reader: raw.Cache, count: int) -> None:
    entry = Entry(
        records=root_record() * count,
        ttl_off=range(5, 11 * count, 11),
        ancount=count,
        stored_ms=NOW,
    )
    assert store.put(entry.pack(), NOW) == "ok"
    found = store.find(entry.pack())
    assert found is not None
    assert found[80:] == entry.pack()[80:]
    for want in (0, 11, 22, 40, 500, 1232, 65_535):
        _, _, _, _, ttl_off, records = reader.lookup(entry.pack(), NOW, want)
        assert records == entry.records[:want]
        assert ttl_off == list(entry.ttl_off)[: want // 11 + 1]


def test_the_largest_entry_fits_the_scratch_buffer(store: raw.Store, reader: raw.Cache) -> None:
    entry = Entry(
        qname=labels(*[b"x" * 62] * 4, b"y"),
        records=root_record() * 5956 + root_record(b"\0" * 8),
        ttl_off=range(5, 65_535 - 5, 11),
        ancount=5957,
        stored_ms=NOW,
    )
    assert len(entry.qname) == 255
    assert len(entry.records) == 65_535
    assert entry.size() <= ENTRY_MAX
    assert store.put(entry.pack(), NOW) == "ok"
    _, _, _, _, ttl_off, records = reader.lookup(entry.pack(), NOW)
    assert (ttl_off, records) == (list(entry.ttl_off), entry.records)


@pytest.mark.parametrize(
    "change",
    [
        {"group": 1},
        {"group": 0xFFFF},
        {"variant": 4},
        {"variant": 6},
        {"key_flags": 1},
        {"key_flags": 2},
        {"key_flags": 3},
        {"qtype": 28},
        {"qclass": 3},
        {"qname": labels(b"b", b"example")},
        {"qname": labels(b"a", b"examplf")},
        {"qname": labels(b"a", b"exampl")},
        {"qname": labels(b"a", b"example", b"x")},
        {"qname": b"\0"},
        {"key_hash": 0x1234_0001_0000_0000},
    ],
)
def test_the_full_key_is_compared(store: raw.Store, reader: raw.Cache, change: dict[str, object]) -> None:
    """Even the name's hash may be the same: what differs in any part is another entry."""
    one = Entry(stored_ms=NOW)
    other = one.but(records=root_record(b"\5\6\7\x08"), **change)
    assert store.put(one.pack(), NOW) == "ok"
    assert reader.lookup(other.pack(), NOW)[0] == "miss"
    assert store.put(other.pack(), NOW) == "ok"
    assert store.entries == 2
    assert reader.lookup(one.pack(), NOW)[5] == one.records
    assert reader.lookup(other.pack(), NOW)[5] == other.records
    store.audit()


@pytest.mark.parametrize(
    ("ttl_s", "stale_s", "stale_now_ms", "age_ms", "outcome"),
    [
        (60, 0, 0, 0, "hit"),
        (60, 0, 0, -1, "hit"),  # stored after the batch read its clock
        (60, 0, 0, -60_000, "hit"),
        (60, 0, 0, 59_999, "hit"),
        (60, 0, 0, 60_000, "miss"),
        (0, 0, 0, 0, "miss"),
        (0, 10, 0, 0, "stale"),
        (60, 10, 0, 60_000, "stale"),
        (60, 10, 0, 69_999, "stale"),
        (60, 10, 0, 70_000, "miss"),
        (60, 10, 65_000, 64_999, "stale now"),  # the recheck timer runs
        (60, 10, 65_000, 65_000, "stale"),
        (60, 10, 99_000, 69_999, "stale now"),
        (60, 10, 99_000, 70_000, "miss"),  # and doesn't outlast the stale time
        (60, 10, 1, 1_000, "hit"),
        (0x7FFFFFFF, 0xFFFFFFFF, 0, 0x7FFFFFFF * 1000 - 1, "hit"),
        (0x7FFFFFFF, 0xFFFFFFFF, 0, 0x7FFFFFFF * 1000, "stale"),
    ],
)
def test_age(
    store: raw.Store,
    reader: raw.Cache,
    ttl_s: int,
    stale_s: int,
    stale_now_ms: int,
    age_ms: int,
    outcome: str,
) -> None:
    until = NOW + stale_now_ms if stale_now_ms else 0
    entry = Entry(stored_ms=NOW, ttl_s=ttl_s, stale_s=stale_s, stale_mark=until)
    assert store.put(entry.pack(), NOW) == "ok"
    assert reader.lookup(entry.pack(), NOW + age_ms)[0] == outcome


@pytest.mark.parametrize(("stale_mark", "outcome"), [(22, "miss"), (0, "hit"), (1 << 48 | 22, "hit")])
def test_a_failure_of_silence_is_over_with_its_epoch(
    store: raw.Store, reader: raw.Cache, stale_mark: int, outcome: str
) -> None:
    """And no other: an upstream's failure has no mark, an answer's mark says nothing while it is fresh."""
    failure = Entry(kind=FAILURE, records=b"", ttl_off=(), ancount=0, stored_ms=NOW, stale_mark=stale_mark)
    answer = Entry(qname=labels(b"b"), key_hash=7, stored_ms=NOW, stale_mark=stale_mark)
    for entry in (failure, answer):
        assert store.put(entry.pack(), NOW) == "ok"
    store.void_holds()
    assert reader.lookup(failure.pack(), NOW + 1000)[0] == outcome
    assert reader.lookup(answer.pack(), NOW + 1000)[0] == "hit"


def test_ten_of_one_tag_in_one_bucket(store: raw.Store, reader: raw.Cache) -> None:
    """Tags tell nothing here; the keys do."""
    entries = [
        Entry(qname=labels(b"n%d" % n), key_hash=hash_of(tag=9, rest=n % 3), records=root_record(b"%d" % n))
        for n in range(10)
    ]
    for entry in entries:
        assert store.put(entry.but(stored_ms=NOW).pack(), NOW) == "ok"
    assert [reader.lookup(entry.pack(), NOW)[5] for entry in entries] == [e.records for e in entries]
    assert store.counters["evicted_bucket"] == 0
    store.audit()


def test_a_hash_whose_tag_would_be_zero(store: raw.Store, reader: raw.Cache) -> None:
    entry = Entry(key_hash=hash_of(tag=0, rest=5), stored_ms=NOW)
    store.put(entry.pack(), NOW)
    assert reader.lookup(entry.pack(), NOW)[0] == "hit"


# ---------------------------------------------------------------- what must not be believed ----


def test_an_odd_bucket_is_retried_and_given_up(store: raw.Store, cache: raw.Cache, reader: raw.Cache) -> None:
    entry = Entry(stored_ms=NOW)
    store.put(entry.pack(), NOW)
    at = bucket_off(cache, entry.key_hash)
    (seq,) = struct.unpack("<I", cache.read(at, 4))
    cache.write(at, struct.pack("<I", seq + 1))
    assert reader.lookup(entry.pack(), NOW)[0] == "miss"
    assert (reader.retries, reader.abandoned) == (7, 1)
    cache.write(at, struct.pack("<I", seq + 2))
    assert reader.lookup(entry.pack(), NOW)[0] == "hit"
    assert (reader.retries, reader.abandoned) == (7, 1)


@given(off=st.integers(0, 0xFFFF), octets=st.integers(0, 0xFFFF), fill=st.integers(0, 255))
def test_a_wild_slot_is_a_miss(off: int, octets: int, fill: int) -> None:
    """Any offset and length that a slot may hold: nothing is read outside the shard, all is a miss."""
    fd = create_cache(400 * 1024)
    cache = raw.Cache(fd, writable=True)
    os.close(fd)
    _, shard_size, buckets = cache.geometry
    cache.write(PAGE + buckets * LINE, bytes([fill]) * (shard_size - buckets * LINE))
    entry = Entry(key_hash=hash_of(tag=3))
    cache.write(PAGE + 4, struct.pack("<H", 3))
    cache.write(PAGE + 24, struct.pack("<H", off))
    cache.write(PAGE + 44, struct.pack("<H", octets))
    assert cache.lookup(entry.pack(), NOW)[0] == "miss"


@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            name: st.integers(0, 0xFFFF) for name in ("records_len", "ttl_count", "ancount", "plain_len")
        },
    ),
    units=st.integers(0, 0xFFFF),
    want=st.integers(0, 0xFFFFFFFF),
)
def test_an_entry_that_lies_about_itself(fields: dict[str, int], units: int, want: int) -> None:
    """Counts and lengths of any value behind a right key: bounded by the slot and by the scratch buffer."""
    fd = create_cache(400 * 1024)
    cache = raw.Cache(fd, writable=True)
    os.close(fd)
    store = raw.Store(cache, 1, NOW)
    entry = Entry(key_hash=hash_of(tag=3), stored_ms=NOW)
    store.put(entry.pack(), NOW)
    at = store.place(entry.pack())
    for name, value in fields.items():
        off = {"ancount": 58, "records_len": 64, "ttl_count": 66, "plain_len": 68}[name]
        cache.write(at + off, struct.pack("<H", value))
    cache.write(PAGE + 44, struct.pack("<H", units))
    outcome, _, _, _, ttl_off, records = cache.lookup(entry.pack(), NOW, want)
    if outcome == "hit":
        assert len(records) == min(fields.get("records_len", len(entry.records)), want)
        assert len(ttl_off) <= min(want, 65_535) // 11 + 1


# ----------------------------------------------------- the writer between a reader's steps ----


def forge(store: raw.Store, cache: raw.Cache) -> tuple[Entry, Entry, Entry]:
    """Three entries: one to be read, one before it in memory, and one that takes the place of both.

    The third's records are what a pod can put into an answer: a whole entry for the first's key
    that comes to lie exactly where the first did.
    """
    first = Entry(key_hash=hash_of(bucket=1), stored_ms=NOW, ttl_s=1)
    before = Entry(qname=labels(b"before"), key_hash=hash_of(bucket=2), stored_ms=NOW, ttl_s=1)
    forged = first.but(records=root_record(b"\6\6\6\6"), ttl_s=3600)
    assert store.put(before.pack(), NOW) == "ok"
    assert store.put(first.pack(), NOW) == "ok"
    gap = store.place(first.pack()) - store.place(before.pack())
    carrier = Entry(qname=labels(b"carrier"), key_hash=hash_of(bucket=3), stored_ms=NOW + 1000)
    empty = carrier.but(records=root_record(forged.pack()))
    pad = gap - (len(empty.pack()) - len(forged.pack()))
    assert pad >= 0
    carrier = carrier.but(records=root_record(bytes(pad) + forged.pack()))
    assert carrier.pack()[gap : gap + forged.size()] == forged.pack()
    return first, forged, carrier


def reuse(store: raw.Store, cache: raw.Cache, first: Entry, forged: Entry, carrier: Entry) -> None:
    """Free the memory of the first entry and let the carrier have it."""
    at = store.place(first.pack())
    assert store.sweep_all(NOW + 1000) == 2
    assert store.put(carrier.pack(), NOW + 1000) == "ok"
    assert cache.read(at, forged.size()) == forged.pack()


@pytest.mark.parametrize("step", [STEP_BUCKET, STEP_KEY, STEP_COPIED])
def test_reused_memory_that_imitates_the_entry(
    store: raw.Store, cache: raw.Cache, reader: raw.Cache, step: int
) -> None:
    """The forced interleaving: between a reader's steps its entry's memory gets a forged entry."""
    first, forged, carrier = forge(store, cache)

    def writer(at: int) -> None:
        if at == step and store.entries == 2:
            reuse(store, cache, first, forged, carrier)

    outcome, *_ = reader.lookup(first.pack(), NOW + 999, hook=writer)
    assert store.entries == 1, "the writer was not let in"
    assert outcome == "miss"
    assert reader.retries == 1
    store.audit()


def test_the_mutant_gives_the_forged_answer(store: raw.Store, cache: raw.Cache, reader: raw.Cache) -> None:
    """The same lines without the last check: the test above can fail."""
    first, forged, carrier = forge(store, cache)

    def writer(at: int) -> None:
        if at == STEP_BUCKET:
            reuse(store, cache, first, forged, carrier)

    outcome, _, header, _, _, records = reader.lookup(first.pack(), NOW + 999, hook=writer, check=False)
    assert outcome == "hit"
    assert header == forged.header()
    assert records == forged.records


def test_the_mutant_gives_a_torn_answer(store: raw.Store, cache: raw.Cache, reader: raw.Cache) -> None:
    """Key from one answer, records from the next."""
    first, forged, carrier = forge(store, cache)

    def writer(at: int) -> None:
        if at == STEP_KEY:
            reuse(store, cache, first, forged, carrier)

    outcome, _, header, _, _, records = reader.lookup(first.pack(), NOW + 999, hook=writer, check=False)
    assert outcome == "hit"
    assert header == first.but(slot_ref=10).header()
    assert records == forged.records


@pytest.mark.parametrize("step", [STEP_BUCKET, STEP_KEY, STEP_COPIED])
def test_an_entry_replaced_meanwhile(store: raw.Store, reader: raw.Cache, step: int) -> None:
    old = Entry(stored_ms=NOW)
    new = with_records(old, 500, fill=1)
    store.put(old.pack(), NOW)
    turns: list[int] = []

    def writer(at: int) -> None:
        if at == step and not turns:
            turns.append(at)
            store.put(new.pack(), NOW)

    assert reader.lookup(old.pack(), NOW, hook=writer)[5] == new.records
    assert (reader.retries, reader.abandoned) == (1, 0)


def test_an_entry_replaced_without_rest(store: raw.Store, reader: raw.Cache) -> None:
    """A writer that never rests makes the reader give up, not hang."""
    entry = Entry(stored_ms=NOW)
    store.put(entry.pack(), NOW)

    def writer(at: int) -> None:
        if at == STEP_COPIED:
            store.put(entry.pack(), NOW)

    assert reader.lookup(entry.pack(), NOW, hook=writer)[0] == "miss"
    assert (reader.retries, reader.abandoned) == (7, 1)
    assert reader.lookup(entry.pack(), NOW)[0] == "hit"


# ------------------------------------------------------------------------------- viewing ----


def test_view_of_a_whole_record() -> None:
    entry = Entry(kind=FAILURE, records=root_record(b"\1") * 2, ttl_off=(5, 17), ancount=1, arcount=1)
    assert raw.view(entry.pack()) == (entry.header(), entry.qname, [5, 17], entry.records)
    assert raw.view(entry.pack() + bytes(8), octets=entry.size() + 8) is not None


def test_view_refuses_every_truncation() -> None:
    entry = Entry()
    for octets in range(entry.size()):
        assert raw.view(entry.pack(), octets=octets) is None


@pytest.mark.parametrize(
    "change",
    [
        {"qname": b""},
        {"qname": b"\1"},
        {"qname": b"\1a"},
        {"qname": b"\1a\0\0"},
        {"qname": b"\x40" + b"a" * 64 + b"\0"},
        {"qname": b"\xc0\0"},
        {"qname": b"\3ab\0"},
        {"kind": 0},
        {"kind": 5},
        {"variant": 1},
        {"variant": 46},
        {"key_flags": 4},
        {"ancount": 0},
        {"ancount": 2},
        {"nscount": 1},
        {"arcount": 0xFFFF},
        {"ttl_off": (4,)},
        {"ttl_off": (10,)},
        {"ttl_off": (0xFFFF,)},
        {"ttl_off": (), "ancount": 0, "nscount": 1},
        {"ttl_off": (5, 5), "ancount": 2},
        {"ttl_off": (5, 15), "ancount": 2, "records": root_record() * 2},
        {"ttl_off": (16, 5), "ancount": 2, "records": root_record() * 2},
        {"ttl_off": (5, 16), "ancount": 2, "records": root_record() * 2 + b"", "arcount": 1},
        {"records": b""},
        {"records": root_record()[:10]},
    ],
)
def test_view_refuses_what_is_not_sound(change: dict[str, object]) -> None:
    assert raw.view(Entry().but(**change).pack()) is None


@given(data=st.data())
def test_view_of_damaged_octets(data: st.DataObject) -> None:
    """Whatever is damaged, a view never reaches behind the octets that are there."""
    entry = bytearray(Entry(records=root_record(b"abc") * 3, ttl_off=(5, 19, 33), ancount=3).pack())
    for _ in range(data.draw(st.integers(1, 4))):
        entry[data.draw(st.integers(40, len(entry) - 1))] = data.draw(st.integers(0, 255))
    out = raw.view(bytes(entry))
    if out is not None:
        _, qname, ttl_off, records = out
        assert 80 + len(qname) + 2 * len(ttl_off) + len(records) <= len(entry)
        assert all(off + 6 <= len(records) for off in ttl_off)


@given(data=st.binary(max_size=400))
def test_view_of_any_octets(data: bytes) -> None:
    out = raw.view(data)
    assert out is None or len(data) >= 80
