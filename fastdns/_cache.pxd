# SPDX-License-Identifier: Apache-2.0
# _cache.pxd: the readers' side of the cache: bucket, entry, full key. SHM_LAYOUT
# nogil, no allocation, no lock; safe beside one writer (_atomics.h).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._shm cimport (
    FD_EDE_NONE,
    FD_ENTRY_FAILURE,
    fd_bucket_t,
    fd_cache_header_t,
    fd_entry_t,
    fd_load64,
    fd_query_t,
)

cdef extern from * nogil:
    """
    #define fd_prefetch(p) __builtin_prefetch((p), 0, 3)
    """
    void fd_prefetch(const void *p) noexcept     # a hint: may be any address, never faults

ctypedef enum cache_rc:
    CACHE_MISS = 0
    CACHE_HIT = 1                # fresh
    CACHE_STALE = 2              # past its TTL, within stale_s: ask, and answer it if that takes long
    CACHE_STALE_NOW = 3          # as STALE, with its recheck timer running: answer it (RFC 8767 s5)

ctypedef enum open_rc:
    OPEN_OK = 0
    OPEN_NOT_A_CACHE = -1        # magic
    OPEN_OTHER_LAYOUT = -2       # version or geometry checksum
    OPEN_OTHER_SIZE = -3         # header and mapping differ
    OPEN_OTHER_BOOT = -4         # its times mean another boot or time namespace

# A process's view of a mapped cache segment.
ctypedef struct cache_t:
    uint8_t *base                # workers: mapped read-only
    uint64_t size
    uint64_t hash_key[2]
    uint32_t shard_count
    uint32_t shard_size          # octets
    uint32_t bucket_count        # in a shard
    uint32_t slots               # in a shard: bucket_count * FD_BUCKET_SLOTS
    # Set by a reader before a look-up: where a rotated answer begins (_rotate.pxd); 0: as it lies.
    uint32_t spin

# Where the parts of one answer stand: in a ring record, or in a reader's private copy.
ctypedef struct answer_view:
    const fd_entry_t *entry
    const uint8_t *qname
    const uint16_t *ttl_off
    const uint8_t *records
    uint32_t ttl_avail           # how many offsets, and how many octets of records, may be read:
    uint32_t records_avail       # a reader for UDP copies no more than a reply can hold
    uint32_t spin                # where a reply begins with rotated records; 0: as they lie here
    uint32_t stale_ttl_s         # of all records in a stale reply; RFC 8767 s4's where nobody says another
    uint32_t told_len            # octets of `told`, at most FD_TOLD_MAX; 0: nothing
    const uint8_t *told          # an EDNS option for replies that have an OPT

cdef open_rc cache_open(cache_t *cache, void *base, uint64_t size) noexcept nogil

cdef inline uint8_t *cache_shard(const cache_t *cache, uint64_t key_hash) noexcept nogil:
    return cache.base + 4096 + (key_hash & (cache.shard_count - 1)) * cache.shard_size

cdef inline uint32_t hash_bucket(const cache_t *cache, uint64_t key_hash) noexcept nogil:
    return <uint32_t>(key_hash >> 16) & (cache.bucket_count - 1)

# An answer's age in whole seconds. Its reader's clock may be a batch behind its writer's: that is age 0.
cdef inline uint32_t entry_age_s(const fd_entry_t *entry, uint64_t now_ms) noexcept nogil:
    return <uint32_t>((now_ms - entry.stored_ms) // 1000) if now_ms > entry.stored_ms else 0

# Whether an answer of that age goes out as a stale one. A lifetime of 0 is handed on once, to those who
# asked: it is not stale in its first second.
cdef inline bint entry_stale(const fd_entry_t *entry, uint32_t age_s) noexcept nogil:
    return age_s >= (entry.ttl_s if entry.ttl_s != 0 else 1)

cdef inline uint64_t stale_epoch(const cache_t *cache) noexcept nogil:
    return fd_load64(&(<const fd_cache_header_t *>cache.base).stale_epoch)

# The stale_mark of a failure that is an upstream's silence: the epoch that it holds for, and the EDE of its
# replies (RFC 8914). Any other failure has 0, and holds for its time.
cdef inline uint64_t silence_mark(const cache_t *cache, uint16_t ede) noexcept nogil:
    return stale_epoch(cache) << 48 | ede

# Whether an entry is such a failure, and an upstream is back since.
cdef inline bint silence_over(const cache_t *cache, const fd_entry_t *entry) noexcept nogil:
    return (entry.stale_mark != 0 and entry.kind == FD_ENTRY_FAILURE
            and entry.stale_mark >> 48 != (stale_epoch(cache) & 0xffff))

# FD_EDE_NONE where it has none.
cdef inline uint16_t silence_ede(const fd_entry_t *entry) noexcept nogil:
    if entry.stale_mark != 0 and entry.kind == FD_ENTRY_FAILURE:
        return <uint16_t>entry.stale_mark
    return <uint16_t>FD_EDE_NONE

cdef inline uint16_t hash_tag(uint64_t key_hash) noexcept nogil:
    cdef uint16_t tag = <uint16_t>(key_hash >> 48)
    return tag if tag != 0 else 1

# Ask the processor to load the bucket of `key_hash`; a batch does this for all its queries first.
cdef void cache_prefetch(const cache_t *cache, uint64_t key_hash) noexcept nogil

# The same for the entry, once the bucket is there: a second round over the batch.
cdef void cache_prefetch_entry(const cache_t *cache, uint64_t key_hash) noexcept nogil

# Copy the answer to `query` into `scratch`.
#   now_ms   CLOCK_BOOTTIME, read once a batch by the caller
#   want     octets of records that a reply could hold; no more are copied
#   scratch  caller's, FD_ENTRY_MAX octets, 8-aligned; undefined after a MISS
#   view     filled unless MISS; points into scratch
#   slot     filled unless MISS: number of the slot in the whole cache, for the hit figures
#   counters the caller's block (retries and abandoned reads are counted there)
cdef cache_rc cache_lookup(const cache_t *cache, const fd_query_t *query, uint64_t now_ms,
                           uint32_t want, uint8_t *scratch, answer_view *view,
                           uint32_t *slot, uint64_t *counters) noexcept nogil

# Whether an entry of at most `octets` octets is what it says: lengths, counts, labels of the qname,
# kind, key, every TTL offset. For memory that nobody changes meanwhile.
cdef bint entry_sound(const fd_entry_t *entry, uint32_t octets) noexcept nogil

# The view of an entry that lies whole in memory that nobody changes (an answer record; 8-aligned).
# Returns False if it is not sound: what came from another process is not taken on trust.
cdef bint entry_view(const uint8_t *entry, uint32_t octets, answer_view *view) noexcept nogil
