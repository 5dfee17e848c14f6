# SPDX-License-Identifier: Apache-2.0
"""Self-checking cache entries by number, and loops over them without the GIL, for stress and benches.

The records of an entry are a function of (number, version), so a reader that knows the number can
make them again from what it got and compare every octet. A carrier's records are a row of whole
entries for another number, each of them right in every octet but its version, which says FORGED:
what a pod would put into a TXT record if it could guess where it comes to lie.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastdns._cache cimport (
    CACHE_HIT,
    CACHE_MISS,
    answer_view,
    cache_lookup,
    cache_prefetch,
    cache_prefetch_entry,
    cache_rc,
    entry_sound,
)
from fastdns._cache_read cimport read_cache
from fastdns._shm cimport (
    FD_ENTRY_MAX,
    FD_ENTRY_POSITIVE,
    FD_ENTRY_QNAME_OFF,
    fd_entry_records_off,
    fd_entry_size,
    fd_entry_t,
    fd_entry_ttl_off,
    fd_post_t,
    fd_query_t,
)
from fastdns._stats cimport FD_C_lookup_abandoned, FD_C_lookup_retries
from fastdns._testing.cache cimport Cache, Store
from fastdns.coordinator._store cimport STORE_OK, store_attach, store_close, store_put, store_t

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    enum:
        CLOCK_MONOTONIC

cdef enum:
    QNAME_LEN = 37               # n0000002a.default.svc.cluster.local.
    RECORD_STEP = 64             # octets from one record to the next
    RECORDS_MIN = 24             # number, version and a word more
    FORGED_RECORDS = 24
    LIFETIME_S = 3600

cdef uint64_t FORGED = 1ull << 63
cdef uint64_t CARRIER = 1ull << 62
cdef const uint8_t *TEMPLATE = b"\x09n00000000\x07default\x03svc\x07cluster\x05local\x00\x00\x00\x00"
cdef const uint8_t *DIGITS = b"0123456789abcdef"


cdef uint64_t mix(uint64_t x) noexcept nogil:
    # The finaliser of splitmix64: every bit of x reaches every bit.
    x = (x ^ (x >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    x = (x ^ (x >> 27)) * <uint64_t>0x94d049bb133111eb
    return x ^ (x >> 31)


cdef uint64_t next_random(uint64_t *state) noexcept nogil:
    state[0] += <uint64_t>0x9e3779b97f4a7c15
    return mix(state[0])


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec


cdef void make_qname(uint8_t *out, uint32_t number) noexcept nogil:
    cdef int i
    memcpy(out, TEMPLATE, 40)
    for i in range(8):
        out[2 + i] = DIGITS[(number >> (28 - 4 * i)) & 15]


cdef void make_query(fd_query_t *query, uint32_t number) noexcept nogil:
    query.key_hash = mix(number + 1)
    query.group = 0
    query.variant = 0
    query.key_flags = 0
    query.qtype = 16
    query.qclass = 1
    query.qname_len = QNAME_LEN
    make_qname(query.qname, number)


cdef void make_stream(uint8_t *out, uint32_t octets, uint32_t number, uint64_t version) noexcept nogil:
    # `octets` of records, rounded up to 8: number, version, then noise made of both.
    cdef uint64_t *words = <uint64_t *>out
    cdef uint64_t state = mix(version) ^ number
    cdef uint32_t i
    words[0] = number
    words[1] = version
    for i in range(2, (octets + 7) // 8):
        words[i] = next_random(&state)


cdef uint32_t make_plain(uint8_t *out, uint32_t number, uint64_t version, uint32_t records_len,
                         uint64_t now_ms) noexcept nogil:
    cdef fd_entry_t *entry = <fd_entry_t *>out
    cdef uint16_t *ttl_off
    cdef uint32_t i
    memset(out, 0, sizeof(fd_entry_t))
    entry.key_hash = mix(number + 1)
    entry.stored_ms = now_ms
    entry.ttl_s = LIFETIME_S
    entry.qtype = 16
    entry.qclass = 1
    entry.qname_len = QNAME_LEN
    entry.kind = FD_ENTRY_POSITIVE
    entry.records_len = <uint16_t>records_len
    entry.ttl_count = <uint16_t>((records_len - 11) // RECORD_STEP + 1)
    entry.ancount = entry.ttl_count
    entry.fingerprint = version
    make_qname(out + FD_ENTRY_QNAME_OFF, number)
    ttl_off = <uint16_t *>(out + fd_entry_ttl_off(QNAME_LEN))
    memset(ttl_off, 0, 2 * entry.ttl_count + 8)
    for i in range(entry.ttl_count):
        ttl_off[i] = <uint16_t>(5 + i * RECORD_STEP)
    make_stream(out + fd_entry_records_off(QNAME_LEN, entry.ttl_count), records_len, number, version)
    return fd_entry_size(QNAME_LEN, entry.ttl_count, records_len)


cdef uint32_t make_entry(uint8_t *out, uint32_t number, uint64_t version, uint32_t records_len,
                         uint64_t now_ms) noexcept nogil:
    # Write the entry; returns its octets. A version with CARRIER names its target in its low half,
    # a whole number of 16-octet units of every forged entry falls where an entry could begin.
    cdef uint32_t size = make_plain(out, number, version, records_len, now_ms)
    cdef uint32_t at, forged
    cdef uint64_t piece[64]
    if version & CARRIER:
        forged = make_plain(<uint8_t *>piece, <uint32_t>version, FORGED, FORGED_RECORDS, now_ms)
        forged = (forged + 15) // 16 * 16
        at = (size - records_len + 16 + 15) // 16 * 16
        while at + forged <= size:
            memcpy(out + at, piece, forged)
            at += forged
    return size


cdef uint32_t pick_length(uint64_t chance) noexcept nogil:
    # Mostly a record or a few, at times up to 4 KiB, seldom up to the protocol's limit.
    cdef uint32_t kind = chance & 1023
    cdef uint32_t span = 200 if kind < 700 else 1500 if kind < 980 else 4000 if kind < 1022 else 65000
    return RECORDS_MIN + <uint32_t>((chance >> 10) % span)


cdef int verify(const answer_view *view, uint32_t number, uint8_t *expected) noexcept nogil:
    # 0 if every octet is right, 1 if torn, 2 if forged.
    cdef const uint64_t *words = <const uint64_t *>view.records
    cdef const fd_entry_t *entry = view.entry
    cdef const fd_entry_t *whole = <const fd_entry_t *>expected
    cdef uint32_t ttls, records
    if view.records_avail < 16 or entry.qname_len != QNAME_LEN or entry.records_len < RECORDS_MIN:
        return 1
    if words[0] != number or words[1] != entry.fingerprint:
        return 1
    make_entry(expected, number, entry.fingerprint, entry.records_len, entry.stored_ms)
    ttls = fd_entry_ttl_off(QNAME_LEN)
    records = fd_entry_records_off(QNAME_LEN, whole.ttl_count)
    if entry.ttl_count != whole.ttl_count or entry.ancount != whole.ancount:
        return 1
    if view.ttl_avail > whole.ttl_count or view.records_avail > whole.records_len:
        return 1
    if memcmp(view.qname, expected + FD_ENTRY_QNAME_OFF, QNAME_LEN) != 0:
        return 1
    if memcmp(view.ttl_off, expected + ttls, 2 * view.ttl_avail) != 0:
        return 1
    if memcmp(view.records, expected + records, view.records_avail) != 0:
        return 1
    return 2 if entry.fingerprint & FORGED else 0


cdef class Room:
    """Aligned memory for an entry, and one more."""

    cdef uint8_t *a
    cdef uint8_t *b

    def __cinit__(self):
        self.a = <uint8_t *>calloc(1, FD_ENTRY_MAX + 64)
        self.b = <uint8_t *>calloc(1, FD_ENTRY_MAX + 64)
        if self.a == NULL or self.b == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.a)
        free(self.b)


def numbered(uint32_t number, uint64_t version=0, uint32_t records_len=RECORDS_MIN, uint64_t now_ms=0,
             target=None) -> bytes:
    """The entry of a number; with `target` a carrier of entries forged for that number."""
    cdef Room room = Room()
    if target is not None:
        version = CARRIER | <uint32_t>target
    cdef uint32_t size = make_entry(room.a, number, version, records_len, now_ms)
    assert entry_sound(<fd_entry_t *>room.a, size)
    return room.a[:size]


def write_load(Store store, uint32_t numbers, uint64_t seed, uint64_t count, uint64_t now_ms) -> int:
    """Store `count` entries of random numbers below `numbers` and random sizes. Returns those stored."""
    cdef Room room = Room()
    cdef uint64_t state = seed
    cdef uint64_t chance, version
    cdef uint64_t stored = 0
    with nogil:
        for _ in range(count):
            chance = next_random(&state)
            version = next_random(&state) >> 2
            if chance >> 62 == 0:
                version = CARRIER | (<uint32_t>version % numbers)
            make_entry(room.a, <uint32_t>chance % numbers, version, pick_length(chance >> 20), now_ms)
            if store_put(store.store, <fd_entry_t *>room.a, now_ms) == STORE_OK:
                stored += 1
    return stored


def read_load(Cache cache, uint32_t numbers, uint64_t seed, double seconds, uint64_t now_ms,
              bint check=True) -> dict[str, int]:
    """Look up random numbers for a while and verify every hit; check=False: by the mutant."""
    cdef Room room = Room()
    cdef uint64_t state = seed
    cdef uint64_t end = now_ns() + <uint64_t>(seconds * 1e9)
    cdef uint64_t hits = 0
    cdef uint64_t misses = 0
    cdef uint64_t bad[3]
    cdef uint64_t chance
    cdef uint64_t counters[128]
    cdef fd_query_t query
    cdef answer_view view
    cdef uint32_t slot, number, want
    cdef cache_rc rc
    memset(counters, 0, sizeof(counters))
    memset(&query, 0, sizeof(query))
    memset(bad, 0, sizeof(bad))
    with nogil:
        while now_ns() < end:
            for _ in range(256):
                chance = next_random(&state)
                number = <uint32_t>chance % numbers
                want = 65535 if chance >> 63 else 16 + <uint32_t>(chance >> 40) % 4080
                make_query(&query, number)
                if check:
                    rc = cache_lookup(&cache.cache, &query, now_ms, want, room.a, &view, &slot, counters)
                else:
                    rc = read_cache(&cache.cache, &query, now_ms, want, room.a, &view, &slot, counters,
                                    False, NULL, NULL)
                if rc == CACHE_MISS:
                    misses += 1
                    continue
                hits += 1
                bad[verify(&view, number, room.b)] += 1
    return {"hits": hits, "misses": misses, "right": bad[0], "torn": bad[1], "forged": bad[2],
            "retries": counters[<int>FD_C_lookup_retries],
            "abandoned": counters[<int>FD_C_lookup_abandoned]}


def look_up_range(Cache cache, uint32_t first, uint32_t count, uint64_t now_ms, uint32_t want=1220,
                  int prefetch=2) -> tuple[int, float]:
    """Look up `count` numbers from `first` on in an order that no cache line likes, in batches of 64.

    Returns hits, and ns for one look-up with its prefetches; making the queries isn't counted.
    prefetch: 0 none, 1 buckets, 2 buckets and entries.
    """
    cdef Room room = Room()
    cdef fd_query_t *queries = <fd_query_t *>calloc(64, sizeof(fd_query_t))
    cdef uint64_t counters[128]
    cdef answer_view view
    cdef uint32_t slot
    cdef uint32_t done = 0
    cdef uint32_t hits = 0
    cdef uint32_t batch, i
    cdef uint64_t begun, at
    cdef uint64_t spent = 0
    if queries == NULL:
        raise MemoryError
    memset(counters, 0, sizeof(counters))
    with nogil:
        while done < count:
            batch = min(<uint32_t>64, count - done)
            for i in range(batch):
                at = (<uint64_t>(done + i) * <uint64_t>2654435761) % count
                make_query(&queries[i], first + <uint32_t>at)
            begun = now_ns()
            if prefetch >= 1:
                for i in range(batch):
                    cache_prefetch(&cache.cache, queries[i].key_hash)
            if prefetch >= 2:
                for i in range(batch):
                    cache_prefetch_entry(&cache.cache, queries[i].key_hash)
            for i in range(batch):
                hits += cache_lookup(&cache.cache, &queries[i], now_ms, want, room.a, &view, &slot,
                                     counters) == CACHE_HIT
            spent += now_ns() - begun
            done += batch
    free(queries)
    return hits, spent / <double>max(count, 1)


def store_range(Store store, uint32_t first, uint32_t count, uint64_t now_ms,
                uint32_t records_len=27) -> tuple[int, float]:
    """Store `count` entries of one size. Returns those stored, and ns for one; making them isn't counted."""
    cdef uint32_t step = (80 + 40 + 8 + 2 * (records_len // RECORD_STEP) + records_len + 63) // 64 * 64
    cdef uint8_t *entries = <uint8_t *>calloc(64, step)
    cdef uint32_t done = 0
    cdef uint32_t stored = 0
    cdef uint32_t batch, i
    cdef uint64_t begun
    cdef uint64_t spent = 0
    if entries == NULL:
        raise MemoryError
    with nogil:
        while done < count:
            batch = min(<uint32_t>64, count - done)
            for i in range(batch):
                make_entry(entries + i * step, first + done + i, 1, records_len, now_ms)
            begun = now_ns()
            for i in range(batch):
                stored += store_put(store.store, <fd_entry_t *>(entries + i * step), now_ms) == STORE_OK
            spent += now_ns() - begun
            done += batch
    free(entries)
    return stored, spent / <double>max(count, 1)


def attach_ns(Cache cache, uint64_t now_ms) -> tuple[int, int]:
    """Attach a writer, and leave again. Returns entries kept, and ns for it."""
    cdef fd_post_t *post = <fd_post_t *>calloc(1, sizeof(fd_post_t))
    cdef uint64_t begun = now_ns()
    cdef store_t *store = store_attach(&cache.cache, NULL, 0, post, 1, now_ms)
    cdef uint64_t spent = now_ns() - begun
    cdef uint64_t kept = post.entries
    store_close(store)
    free(post)
    return kept, spent
