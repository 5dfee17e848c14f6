# SPDX-License-Identifier: Apache-2.0
# _shard.pxd: one shard as its writer sees it: publish, drop, evict. nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._shm cimport (
    FD_BUCKET_SLOTS,
    FD_LINE,
    FD_UNIT,
    fd_bucket_t,
    fd_config_t,
    fd_entry_t,
    fd_post_t,
)
from fastdns.coordinator._space cimport space_t

cdef enum:
    NO_SLOT = 0xffff             # a shard of 1 MiB has 10,240 slots
    LARGE_OCTETS = 4096          # entries over this share a quarter of the shard
    LARGE_MAX = 64               # of them: a quarter of 1 MiB holds 63

cdef enum:                       # place_t.marks
    PLACE_SPARED = 1             # by the hand when it last passed
    PLACE_KEPT = 2               # in use when it was stored anew: the hand spares it once
    PLACE_ASKED = 4              # asked for ahead of time, once in an entry's life
    PLACE_DYING = 8              # came back with less than half of its life: not asked ahead
    PLACE_LED = 16               # other names were answered by it since it was stored (_cut.pyx)

# What the writer keeps for each slot: its place in the SIEVE queue, and the sum of the workers' hit
# figures when the entry was stored or the hand last passed.
ctypedef struct place_t:
    uint16_t newer
    uint16_t older
    uint16_t seen
    uint8_t before               # hits between the two, 255 at most
    uint8_t marks

ctypedef struct shard_t:
    uint8_t *base
    fd_post_t *post              # totals and counters
    const fd_config_t *config    # whose entries are whose; NULL: blocks are not counted
    const uint16_t **hits        # one array a worker, of the whole cache's slots
    place_t *places              # one a slot
    space_t space
    uint32_t worker_count
    uint32_t first_slot          # number of slot 0 in the whole cache
    uint32_t slots
    uint32_t entries
    uint32_t victims             # of this round of the hand
    uint32_t large_units         # taken by large entries
    uint32_t large_quota         # units they may take
    uint16_t newest, oldest      # ends of the queue; NO_SLOT when it is empty
    uint16_t hand                # next to be judged; NO_SLOT: the oldest
    uint16_t quota_hand          # where the next look for one over its quota begins; NO_SLOT: the oldest
    uint16_t large_count
    uint16_t large[64]           # their slots

cdef inline fd_bucket_t *slot_bucket(const shard_t *shard, uint32_t slot) noexcept nogil:
    return <fd_bucket_t *>(shard.base + slot // FD_BUCKET_SLOTS * FD_LINE)

cdef inline uint32_t slot_off(const shard_t *shard, uint32_t slot) noexcept nogil:
    return slot_bucket(shard, slot).off[slot % FD_BUCKET_SLOTS]

cdef inline uint32_t slot_units(const shard_t *shard, uint32_t slot) noexcept nogil:
    return slot_bucket(shard, slot).len[slot % FD_BUCKET_SLOTS]

cdef inline fd_entry_t *slot_entry(const shard_t *shard, uint32_t slot) noexcept nogil:
    return <fd_entry_t *>(shard.base + slot_off(shard, slot) * FD_UNIT)

cdef inline bint slot_used(const shard_t *shard, uint32_t slot) noexcept nogil:
    return slot_bucket(shard, slot).tag[slot % FD_BUCKET_SLOTS] != 0

cdef inline bint entry_over(const fd_entry_t *entry, uint64_t now_ms) noexcept nogil:
    # Past its TTL and its stale time: of no use to anybody.
    return now_ms >= entry.stored_ms + (<uint64_t>entry.ttl_s + entry.stale_s) * 1000

cdef inline uint16_t hits_since(const shard_t *shard, uint32_t slot) noexcept nogil:
    # Hits since the hand last passed, or the entry was stored (16 bits, wrapping).
    return <uint16_t>(hit_sum(shard, slot) - shard.places[slot].seen)

cdef inline bint in_use(const shard_t *shard, uint32_t slot) noexcept nogil:
    # Hit since the hand last passed, or spared by it: just after it passed nothing can be hit yet.
    return shard.places[slot].marks & (PLACE_SPARED | PLACE_KEPT) or hits_since(shard, slot)

cdef inline uint32_t hits_stored(const shard_t *shard, uint32_t slot) noexcept nogil:
    # Hits since the entry was stored.
    return <uint32_t>shard.places[slot].before + hits_since(shard, slot)

# Sum of the workers' hit figures of a slot, 16 bits, wrapping.
cdef uint16_t hit_sum(const shard_t *shard, uint32_t slot) noexcept nogil

# Take a slot into the queue and the totals (its entry is published, or about to be), or out of them.
cdef void admit(shard_t *shard, uint32_t slot, uint32_t units) noexcept nogil

# Point a slot at an entry, tag 0: empty it; under the bucket's sequence.
cdef void publish(shard_t *shard, uint32_t slot, uint16_t tag, uint32_t off, uint32_t units) noexcept nogil

# Move a published slot to another place, and free the old: its entry is stored anew.
cdef void relocate(shard_t *shard, uint32_t slot, uint16_t tag, uint32_t off, uint32_t units) noexcept nogil

# Empty a slot and free its memory. Returns the first unit of the free run that results.
cdef uint32_t drop(shard_t *shard, uint32_t slot) noexcept nogil

# Count a published slot for its block and class: 1, or -1 before it goes.
cdef void count_block(shard_t *shard, uint32_t slot, uint64_t change) noexcept nogil

# Where the block of a new entry has its Corefile's capacity of this class in the cache, one of them
# goes, if a look at some of the shard's finds one: the quota is soft.
cdef void quota_room(shard_t *shard, const fd_entry_t *entry, uint64_t now_ms) noexcept nogil

# A free slot of the bucket, if need be by evicting the entry that matters least.
cdef uint32_t bucket_room(shard_t *shard, uint32_t bucket, uint64_t now_ms) noexcept nogil

# Whether a large entry of `units` fits the quota, if need be after evicting large ones that nobody
# asked for. `pinned` is the slot that it will replace: left alone and not counted.
cdef bint large_room(shard_t *shard, uint32_t units, uint32_t pinned, uint64_t now_ms) noexcept nogil

# A place for `units`, if need be by evicting. `pinned` is left alone. SPACE_NONE: there is none.
cdef uint32_t space_room(shard_t *shard, uint32_t units, uint32_t pinned, uint64_t now_ms) noexcept nogil
