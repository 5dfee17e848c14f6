# SPDX-License-Identifier: Apache-2.0
"""The cache for tests: a mapping to look things up in, its writer, and a look inside the writer."""

import os

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastdns._cache cimport (
    answer_view,
    cache_lookup,
    cache_open,
    cache_prefetch,
    cache_prefetch_entry,
    cache_rc,
    cache_t,
    entry_view,
    open_rc,
)
from fastdns._cache_read cimport read_cache
from fastdns._segments cimport cache_geometry_sum, map_segment
from fastdns._shm cimport (
    FD_ENTRY_MAX,
    FD_ENTRY_QNAME_OFF,
    fd_cache_header_t,
    fd_entry_size,
    fd_entry_t,
    fd_post_t,
    fd_query_t,
)
from fastdns._stats cimport (
    FD_C_evicted_bucket,
    FD_C_evicted_bytes,
    FD_C_expired,
    FD_C_outdated,
    FD_C_lookup_abandoned,
    FD_C_lookup_retries,
    FD_C_rejected_large,
    FD_C_scan_dropped,
    FD_C_scan_kept,
    FD_C_store_stale_writer,
    FD_C_stores,
    FD_COUNTERS,
)
from fastdns.coordinator._shard cimport (
    LARGE_OCTETS,
    NO_SLOT,
    shard_t,
    slot_off,
    slot_units,
    slot_used,
)
from fastdns.coordinator._space cimport (
    space_claim,
    space_give,
    space_index,
    space_octets,
    space_open,
    space_run,
    space_t,
    space_take,
    space_take_at,
)
from fastdns.coordinator._store cimport (
    store_attach,
    store_close,
    store_find,
    store_hold,
    store_put,
    store_sweep,
    store_void_holds,
)

cdef extern from "<sys/mman.h>" nogil:
    int munmap(void *addr, size_t length)

OUTCOMES = {0: "miss", 1: "hit", 2: "stale", 3: "stale now"}
STORED = {0: "ok", 1: "not_writer", 2: "too_large", 3: "kept_better", 4: "unsound"}
OPENED = {0: "ok", -1: "not_a_cache", -2: "other_layout", -3: "other_size", -4: "other_boot"}


cdef class Buffer:
    """8-aligned octets with room for an entry and a guard behind it."""

    cdef uint8_t *octets

    def __cinit__(self, data: bytes = b""):
        self.octets = <uint8_t *>calloc(1, FD_ENTRY_MAX + 64)
        if self.octets == NULL:
            raise MemoryError
        if len(data) > FD_ENTRY_MAX:
            raise ValueError("longer than any entry")
        memcpy(self.octets, <const uint8_t *>data, len(data))

    def __dealloc__(self):
        free(self.octets)


cdef int fill_query(fd_query_t *query, bytes entry) except -1:
    # The query whose key is that of an entry.
    cdef Buffer buffer = Buffer(entry)
    cdef const fd_entry_t *key = <const fd_entry_t *>buffer.octets
    memset(query, 0, sizeof(fd_query_t))
    query.key_hash = key.key_hash
    query.group = key.group
    query.variant = key.variant
    query.key_flags = key.key_flags
    query.qtype = key.qtype
    query.qclass = key.qclass
    query.qname_len = key.qname_len
    memcpy(query.qname, buffer.octets + FD_ENTRY_QNAME_OFF, key.qname_len)
    return 0


cdef void call_hook(int step, void *arg) noexcept with gil:
    (<object>arg)(step)


cdef class Cache:
    """A mapped cache segment, as a process has it."""

    def __cinit__(self, int fd, bint writable=False):
        assert FD_COUNTERS <= 128
        self.base = map_segment(fd, writable, &self.size)
        if self.base == NULL:
            raise OSError(errno, os.strerror(errno))
        self.opened = OPENED[cache_open(&self.cache, self.base, self.size)]

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)

    @property
    def geometry(self) -> tuple[int, int, int]:
        """Shards, octets of a shard, buckets of a shard."""
        return self.cache.shard_count, self.cache.shard_size, self.cache.bucket_count

    @property
    def slots(self) -> int:
        return self.cache.shard_count * self.cache.slots

    @property
    def retries(self) -> int:
        return self.counters[<int>FD_C_lookup_retries]

    @property
    def abandoned(self) -> int:
        return self.counters[<int>FD_C_lookup_abandoned]

    @property
    def generation(self) -> int:
        return (<fd_cache_header_t *>self.base).generation

    @generation.setter
    def generation(self, uint64_t value):
        (<fd_cache_header_t *>self.base).generation = value

    def read(self, uint64_t off, uint64_t count) -> bytes:
        assert off + count <= self.size
        return (<uint8_t *>self.base)[off:off + count]

    @property
    def total(self) -> int:
        return self.size

    def same(self, data: bytes) -> bool:
        """Whether the whole segment holds these octets."""
        return <uint64_t>len(data) == self.size and memcmp(self.base, <const uint8_t *>data, self.size) == 0

    def write(self, uint64_t off, data: bytes) -> None:
        """Write over the segment, as a wild pointer would."""
        assert off + len(data) <= self.size
        memcpy(<uint8_t *>self.base + off, <const uint8_t *>data, len(data))

    def renew_checksum(self) -> None:
        (<fd_cache_header_t *>self.base).geometry_sum = cache_geometry_sum(<fd_cache_header_t *>self.base)

    def lookup(self, key: bytes, uint64_t now_ms, uint32_t want=65535, hook=None, bint check=True):
        """Look up the key of an entry: (outcome, slot, header, qname, TTL offsets, records).

        With `hook`, or check=False, by the same steps compiled with a pause between them, or
        without the last check.
        """
        cdef fd_query_t query
        cdef Buffer scratch = Buffer()
        cdef answer_view view
        cdef uint32_t slot = 0
        cdef cache_rc rc
        cdef uint32_t i
        fill_query(&query, key)
        memset(scratch.octets + FD_ENTRY_MAX, 0xA5, 64)
        cache_prefetch(&self.cache, query.key_hash)
        cache_prefetch_entry(&self.cache, query.key_hash)
        if hook is None and check:
            with nogil:
                rc = cache_lookup(&self.cache, &query, now_ms, want, scratch.octets, &view, &slot,
                                  self.counters)
        elif hook is None:
            with nogil:
                rc = read_cache(&self.cache, &query, now_ms, want, scratch.octets, &view, &slot,
                                self.counters, False, NULL, NULL)
        elif check:
            with nogil:
                rc = read_cache(&self.cache, &query, now_ms, want, scratch.octets, &view, &slot,
                                self.counters, True, call_hook, <void *>hook)
        else:
            with nogil:
                rc = read_cache(&self.cache, &query, now_ms, want, scratch.octets, &view, &slot,
                                self.counters, False, call_hook, <void *>hook)
        for i in range(64):
            assert scratch.octets[FD_ENTRY_MAX + i] == 0xA5, "written behind the scratch buffer"
        outcome = OUTCOMES[rc]
        if outcome == "miss":
            return outcome, None, b"", b"", [], b""
        return (outcome, slot, *parts(&view))


cdef object parts(const answer_view *view):
    cdef uint32_t i
    return ((<const uint8_t *>view.entry)[:sizeof(fd_entry_t)], view.qname[:view.entry.qname_len],
            [view.ttl_off[i] for i in range(view.ttl_avail)], view.records[:view.records_avail])


def view(entry: bytes, octets=None):
    """entry_view: (header, qname, TTL offsets, records), or None if it is refused."""
    cdef Buffer buffer = Buffer(entry)
    cdef answer_view out
    if not entry_view(buffer.octets, len(entry) if octets is None else octets, &out):
        return None
    return parts(&out)


def open_octets(data: bytes) -> str:
    """cache_open on a copy of some octets."""
    cdef uint8_t *copy = <uint8_t *>calloc(1, len(data) + 8)
    cdef cache_t cache
    memcpy(copy, <const uint8_t *>data, len(data))
    cdef open_rc rc = cache_open(&cache, copy, len(data))
    free(copy)
    return OPENED[rc]


def open_nothing() -> str:
    cdef cache_t cache
    return OPENED[cache_open(&cache, NULL, 0)]


cdef class Store:
    """The writer, with hit figures and a post of its own."""

    def __cinit__(self, Cache cache, uint64_t generation, uint64_t now_ms, uint32_t workers=2):
        cdef const uint16_t *given[16]
        cdef uint32_t i
        self.cache = cache
        self.workers = workers
        self.post = <fd_post_t *>calloc(1, sizeof(fd_post_t))
        if self.post == NULL:
            raise MemoryError
        for i in range(workers):
            self.hits[i] = <uint16_t *>calloc(cache.slots, sizeof(uint16_t))
            if self.hits[i] == NULL:
                raise MemoryError
            given[i] = self.hits[i]
        self.store = store_attach(&cache.cache, given, workers, self.post, generation, now_ms)
        if self.store == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t i
        store_close(self.store)
        free(self.post)
        for i in range(self.workers):
            free(self.hits[i])

    def hit(self, slot: int, uint16_t count=1, worker: int = 0) -> None:
        """What a worker does after a hit."""
        self.hits[<int>worker][<uint32_t>slot] += count

    def put(self, entry: bytes | Buffer, uint64_t now_ms) -> str:
        cdef Buffer buffer = entry if isinstance(entry, Buffer) else Buffer(entry)
        return STORED[store_put(self.store, <const fd_entry_t *>buffer.octets, now_ms)]

    def find(self, key: bytes):
        """The stored entry with the key of `key`, whole, or None."""
        cdef Buffer buffer = Buffer(key)
        cdef const fd_entry_t *entry = store_find(self.store, <const fd_entry_t *>buffer.octets)
        if entry == NULL:
            return None
        return (<const uint8_t *>entry)[:fd_entry_size(entry.qname_len, entry.ttl_count, entry.records_len)]

    def place(self, key: bytes) -> int:
        """Offset of the stored entry in the segment."""
        cdef Buffer buffer = Buffer(key)
        cdef const fd_entry_t *entry = store_find(self.store, <const fd_entry_t *>buffer.octets)
        assert entry != NULL
        return <uintptr_t>entry - <uintptr_t>self.cache.base

    def hold(self, key: bytes | Buffer, uint64_t until_ms) -> bool:
        cdef Buffer buffer = key if isinstance(key, Buffer) else Buffer(key)
        return store_hold(self.store, <const fd_entry_t *>buffer.octets, until_ms)

    def void_holds(self) -> None:
        store_void_holds(self.store)

    def sweep(self, uint64_t now_ms) -> int:
        return store_sweep(self.store, now_ms)

    def sweep_all(self, uint64_t now_ms) -> int:
        cdef uint32_t total = 0
        for _ in range(self.cache.slots // 64 + 1):
            total += store_sweep(self.store, now_ms)
        return total

    @property
    def entries(self) -> int:
        return self.post.entries

    @property
    def octets(self) -> int:
        return self.post.entry_octets

    @property
    def room(self) -> int:
        """Octets of all shards that entries may take."""
        cdef shard_t *shard = &self.store.shards[0]
        return self.cache.cache.shard_count * (shard.space.units - shard.space.first) * 16

    @property
    def counters(self) -> dict[str, int]:
        return {name: self.post.counters[index] for name, index in (
            ("stores", FD_C_stores), ("evicted_bytes", FD_C_evicted_bytes),
            ("evicted_bucket", FD_C_evicted_bucket), ("expired", FD_C_expired), ("outdated", FD_C_outdated),
            ("rejected_large", FD_C_rejected_large), ("scan_dropped", FD_C_scan_dropped),
            ("scan_kept", FD_C_scan_kept), ("store_stale_writer", FD_C_store_stale_writer))}

    def audit(self) -> None:
        """Compare every private figure with what the shared memory says; AssertionError if they differ."""
        cdef uint32_t number
        entries = octets = 0
        for number in range(self.cache.cache.shard_count):
            found = audit_shard(&self.store.shards[number])
            entries += found[0]
            octets += found[1] * 16
        assert entries == self.entries, (entries, self.entries)
        assert octets == self.octets, (octets, self.octets)


cdef object audit_shard(shard_t *shard):
    cdef uint32_t slot, unit, length
    used = {slot for slot in range(shard.slots) if slot_used(shard, slot)}
    # The queue holds each used slot once, linked both ways, and the hand points into it.
    queue = []
    slot = shard.oldest
    before = NO_SLOT
    while slot != NO_SLOT:
        queue.append(slot)
        assert shard.places[slot].older == before
        before = slot
        slot = shard.places[slot].newer
        assert len(queue) <= shard.slots
    assert shard.newest == before
    assert sorted(queue) == sorted(used)
    assert shard.entries == len(used)
    assert shard.hand == NO_SLOT or shard.hand in used
    # Entries don't overlap, and what they don't take is free.
    taken = set()
    units = 0
    for slot in used:
        length = slot_units(shard, slot)
        span = set(range(slot_off(shard, slot), slot_off(shard, slot) + length))
        assert not span & taken
        taken |= span
        units += length
    assert shard.space.free_units == shard.space.units - shard.space.first - units
    longest = 0
    unit = shard.space.first
    while unit < shard.space.units:
        length = space_run(&shard.space, unit, shard.space.units)
        if length:
            assert not set(range(unit, unit + length)) & taken
            longest = max(longest, length)
        else:
            assert unit in taken
            length = 1
        unit += length
    assert min(longest, FD_ENTRY_MAX // 16) <= shard.space.bound
    audit_summary(shard)
    large = {slot for slot in used if slot_units(shard, slot) * 16 > LARGE_OCTETS}
    assert {shard.large[i] for i in range(shard.large_count)} == large
    assert shard.large_count == len(large)
    assert shard.large_units == sum(slot_units(shard, slot) for slot in large)
    assert shard.large_units <= shard.large_quota
    return len(used), units


cdef int audit_summary(shard_t *shard) except -1:
    # Each word's longest run that starts in it, counted anew unit by unit.
    cdef uint32_t unit = 0
    cdef uint32_t length
    longest = [0] * shard.space.words
    while unit < shard.space.units:
        length = space_run(&shard.space, unit, shard.space.units)
        if length:
            longest[unit >> 6] = max(longest[unit >> 6], min(length, FD_ENTRY_MAX // 16))
        unit += max(length, 1)
    for unit in range(shard.space.words):
        assert shard.space.longest[unit] == longest[unit], (unit, shard.space.longest[unit], longest[unit])
    return 0


cdef class Space:
    """The free space of one shard."""

    cdef space_t space
    cdef void *memory

    def __cinit__(self, uint32_t first, uint32_t units):
        self.memory = calloc(1, space_octets(units))
        if self.memory == NULL:
            raise MemoryError
        space_open(&self.space, self.memory, first, units)

    def __dealloc__(self):
        free(self.memory)

    @property
    def free(self) -> int:
        return self.space.free_units

    @property
    def bound(self) -> int:
        return self.space.bound

    def take(self, uint32_t count) -> int:
        return space_take(&self.space, count)

    def take_at(self, uint32_t off, uint32_t count) -> None:
        space_take_at(&self.space, off, count)

    def give(self, uint32_t off, uint32_t count) -> int:
        return space_give(&self.space, off, count)

    def claim(self, uint32_t off, uint32_t count) -> bool:
        return space_claim(&self.space, off, count)

    def index(self) -> None:
        space_index(&self.space)

    def run(self, uint32_t off, uint32_t limit) -> int:
        return space_run(&self.space, off, limit)

    def longest(self) -> list[int]:
        """The summary: for each 64 units the longest free run that starts there."""
        cdef uint32_t word
        return [self.space.longest[word] for word in range((self.space.units + 63) // 64)]
