# SPDX-License-Identifier: Apache-2.0
"""The only writer of the cache: attach, put, find, sweep. SHM_LAYOUT

What is shared is buckets and entries; queue, free space and totals are this process's own
(``_shard``, ``_space``), taken once at attach and built from one scan. Any of it may be cut off by
a SIGKILL at any instruction, beside readers that take no lock:

    writer, storing                         reader
    1  free units: a place                  a  s = seq           acquire; odd: again
    2  entry written to it                  b  bucket copied     relaxed
         ---- published below ----          c  entry copied      relaxed, clamped to the shard
    3  seq + 1 (odd)    then release fence  d  acquire fence
    4  tag, off, len    relaxed stores      e  seq == s ?        no: again, at last a miss
    5  seq + 1 (even)   release store,
                        release fence
    6  old place is free: written by a later 2

- A reader that sees 5's number at (a) sees the entry of 2 at (c): release store, acquire load.
- One that sees any of 4 sees 3's number at (e): release fence before 4, acquire fence after b.
- One that still copies the old place while a later 2 writes there sees 5's number at (e): the
  fence after 5 stands before that 2, the fence (d) after what it wrote was read. This is why the
  number stands in the bucket, which never moves, and not in the entry: bytes in a freed place may
  imitate any entry, number included.
- Killed in 1 or 2: the place is free, attach sees nothing of it. In 3 to 5: the bucket stays odd,
  readers miss, attach empties it. Before 6: attach finds the old place unreferenced.

Replacing and evicting are the same with other values in 4.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from fastdns._cache cimport cache_t, entry_sound, hash_bucket, hash_tag
from fastdns._memory cimport fd_take
from fastdns._shm cimport (
    FD_BUCKET_SLOTS,
    FD_ENTRY_FAILURE,
    FD_ENTRY_MAX,
    FD_ENTRY_POSITIVE,
    FD_ENTRY_PREFERRED,
    FD_ENTRY_QNAME_OFF,
    FD_LINE,
    FD_MAX_BLOCKS,
    FD_MAX_WORKERS,
    FD_PAGE,
    FD_UNIT,
    fd_acquire64,
    fd_bucket_t,
    fd_cache_header_t,
    fd_config_t,
    fd_copy_in,
    fd_entry_size,
    fd_entry_t,
    fd_load64,
    fd_post_t,
    fd_release64,
    fd_seq_close,
    fd_seq_open,
    fd_stale_mark,
    fd_store16,
    fd_store64,
)
from fastdns._stats cimport (
    FD_C_expired,
    FD_C_outdated,
    FD_C_rejected_large,
    FD_C_scan_dropped,
    FD_C_scan_kept,
    FD_C_store_stale_writer,
    FD_C_stores,
    bump,
)
from fastdns.coordinator._shard cimport (
    LARGE_OCTETS,
    NO_SLOT,
    PLACE_KEPT,
    PLACE_LED,
    admit,
    bucket_room,
    count_block,
    drop,
    entry_over,
    large_room,
    place_t,
    publish,
    quota_room,
    relocate,
    shard_t,
    slot_bucket,
    slot_entry,
    slot_off,
    slot_units,
    slot_used,
    space_room,
)
from fastdns.coordinator._space cimport (
    SPACE_NONE,
    space_claim,
    space_index,
    space_octets,
    space_open,
    space_run,
)

cdef enum:
    SWEEP_BUCKETS = 7            # a call of store_sweep looks at some 64 slots: 2 to 5 us
    AGREE_BUCKETS = 64           # a call of store_agree at 640: some 50 us


# ---------------------------------------------------------------------------------- attach ----

cdef bint slot_sound(shard_t *shard, const cache_t *cache, uint32_t number, uint32_t slot,
                     uint64_t now_ms) noexcept nogil:
    # Whether a slot and what it points to are whole, and its place is nobody else's.
    cdef fd_bucket_t *bucket = slot_bucket(shard, slot)
    cdef uint32_t i = slot % FD_BUCKET_SLOTS
    cdef uint32_t off = bucket.off[i]
    cdef uint32_t units = bucket.len[i]
    cdef uint32_t other
    cdef const fd_entry_t *entry
    if off < shard.space.first or off >= shard.space.units or units > shard.space.units - off:
        return False
    entry = <const fd_entry_t *>(shard.base + off * FD_UNIT)
    if entry.slot_ref != slot or not entry_sound(entry, units * FD_UNIT):
        return False
    if units != entry_units(entry) or hash_tag(entry.key_hash) != bucket.tag[i]:
        return False
    if (entry.key_hash & (cache.shard_count - 1)) != number:
        return False
    if hash_bucket(cache, entry.key_hash) != slot // FD_BUCKET_SLOTS or entry.stored_ms > now_ms:
        return False
    if units * FD_UNIT > <uint32_t>LARGE_OCTETS and shard.large_units + units > shard.large_quota:
        return False
    # Equal keys have equal tags: no other entry is touched without need.
    for other in range(i):
        if bucket.tag[other] == bucket.tag[i] and same_key(slot_entry(shard, slot - i + other), entry):
            return False
    return space_run(&shard.space, off, units) == units


cdef void empty_odd(fd_bucket_t *bucket) noexcept nogil:
    # A writer died with this bucket in hand: what its slots say can't be told from what they
    # were going to say.
    cdef uint32_t i
    for i in range(<uint32_t>FD_BUCKET_SLOTS):
        fd_store16(&bucket.tag[i], 0)
    fd_seq_close(&bucket.seq)


cdef void warm_up(const shard_t *shard) noexcept nogil:
    # Read the shard once in order. The scan then jumps about in the second-level cache: without
    # this each entry costs a miss of its own, 5 times as long in all.
    cdef uint32_t off
    for off in range(shard.space.units * FD_UNIT // FD_LINE):
        fd_load64(shard.base + off * FD_LINE)


cdef bint holds_entries(const shard_t *shard) noexcept nogil:
    cdef uint32_t slot
    for slot in range(shard.slots):
        if slot_used(shard, slot):
            return True
    return False


cdef void scan_shard(store_t *store, uint32_t number, uint64_t now_ms) noexcept nogil:
    cdef shard_t *shard = &store.shards[number]
    cdef uint64_t *counters = store.post.counters
    cdef fd_bucket_t *bucket
    cdef uint32_t first, slot
    cdef uint32_t nth
    # An empty one is not mapped for nothing: pages count where they are mapped.
    if holds_entries(shard):
        warm_up(shard)
    for nth in range(store.cache.bucket_count):
        first = nth * FD_BUCKET_SLOTS
        bucket = slot_bucket(shard, first)
        if bucket.seq & 1:
            for slot in range(first, first + FD_BUCKET_SLOTS):
                bump(counters, FD_C_scan_dropped, slot_used(shard, slot))
            empty_odd(bucket)
            continue
        for slot in range(first, first + FD_BUCKET_SLOTS):
            if not slot_used(shard, slot):
                continue
            if not slot_sound(shard, &store.cache, number, slot, now_ms):
                publish(shard, slot, 0, 0, 0)
                bump(counters, FD_C_scan_dropped, 1)
            elif entry_over(slot_entry(shard, slot), now_ms):
                publish(shard, slot, 0, 0, 0)
                bump(counters, FD_C_expired, 1)
            else:
                space_claim(&shard.space, slot_off(shard, slot), slot_units(shard, slot))
                admit(shard, slot, slot_units(shard, slot))
                bump(counters, FD_C_scan_kept, 1)
    space_index(&shard.space)


cdef void open_shard(store_t *store, uint32_t number, void *memory) noexcept nogil:
    cdef shard_t *shard = &store.shards[number]
    cdef const cache_t *cache = &store.cache
    shard.base = cache.base + FD_PAGE + <uint64_t>number * cache.shard_size
    shard.post = store.post
    shard.hits = store.hits
    shard.worker_count = store.worker_count
    shard.first_slot = number * cache.slots
    shard.slots = cache.slots
    shard.large_quota = cache.shard_size // 4 // FD_UNIT
    shard.newest = NO_SLOT
    shard.oldest = NO_SLOT
    shard.hand = NO_SLOT
    shard.quota_hand = NO_SLOT
    space_open(&shard.space, memory, cache.bucket_count * FD_LINE // FD_UNIT, cache.shard_size // FD_UNIT)
    shard.places = <place_t *>(<uint8_t *>memory + space_octets(shard.space.units))
    memset(shard.places, 0xff, shard.slots * sizeof(place_t))


cdef store_t *store_attach(cache_t *cache, const uint16_t **hits, uint32_t worker_count,
                           fd_post_t *post, uint64_t generation, uint64_t now_ms) noexcept nogil:
    # One block of memory: the store, the shards, then bitmaps and places of each shard.
    cdef size_t head = (sizeof(store_t) + 63) // 64 * 64
    cdef size_t shards = (cache.shard_count * sizeof(shard_t) + 63) // 64 * 64
    cdef size_t bits = space_octets(cache.shard_size // FD_UNIT)
    cdef size_t one = (bits + cache.slots * sizeof(place_t) + 63) // 64 * 64
    cdef uint8_t *memory = <uint8_t *>fd_take(head + shards + cache.shard_count * one, 0)
    cdef store_t *store = <store_t *>memory
    cdef uint32_t i
    if memory == NULL:
        return NULL
    store.cache = cache[0]
    store.header = <fd_cache_header_t *>cache.base
    store.post = post
    store.generation = generation
    store.shards = <shard_t *>(memory + head)
    for i in range(min(worker_count, <uint32_t>FD_MAX_WORKERS)):
        if hits[i] != NULL:
            store.hits[store.worker_count] = hits[i]
            store.worker_count += 1
    fd_release64(&store.header.generation, generation)
    fd_store64(&post.entries, 0)
    fd_store64(&post.entry_octets, 0)
    for i in range(cache.shard_count):
        open_shard(store, i, memory + head + shards + i * one)
        scan_shard(store, i, now_ms)
    return store


cdef void store_count_blocks(store_t *store, const fd_config_t *config) noexcept nogil:
    cdef shard_t *shard
    cdef uint32_t number, slot
    for number in range(<uint32_t>FD_MAX_BLOCKS):
        fd_store64(&store.post.block_series[number].entries[0], 0)
        fd_store64(&store.post.block_series[number].entries[1], 0)
    for number in range(store.cache.shard_count):
        shard = &store.shards[number]
        shard.config = config
        slot = shard.oldest
        while slot != NO_SLOT:
            count_block(shard, slot, 1)
            slot = shard.places[slot].newer


cdef void store_close(store_t *store) noexcept nogil:
    free(store)


# ------------------------------------------------------------------------------- find, put ----

cdef uint32_t entry_units(const fd_entry_t *entry) noexcept nogil:
    cdef uint32_t size = fd_entry_size(entry.qname_len, entry.ttl_count, entry.records_len)
    return (size + FD_UNIT - 1) // FD_UNIT


cdef bint same_key(const fd_entry_t *a, const fd_entry_t *b) noexcept nogil:
    return (a.key_hash == b.key_hash and a.qname_len == b.qname_len and a.group == b.group
            and a.variant == b.variant and a.key_flags == b.key_flags
            and a.qtype == b.qtype and a.qclass == b.qclass
            and memcmp(<const uint8_t *>a + FD_ENTRY_QNAME_OFF, <const uint8_t *>b + FD_ENTRY_QNAME_OFF,
                       a.qname_len) == 0)


cdef shard_t *shard_of(store_t *store, uint64_t key_hash) noexcept nogil:
    return &store.shards[key_hash & (store.cache.shard_count - 1)]


cdef uint32_t find_slot(store_t *store, const shard_t *shard, const fd_entry_t *key) noexcept nogil:
    cdef uint32_t slot = hash_bucket(&store.cache, key.key_hash) * FD_BUCKET_SLOTS
    cdef const fd_bucket_t *bucket = slot_bucket(shard, slot)
    cdef uint16_t tag = hash_tag(key.key_hash)
    cdef uint32_t i
    for i in range(<uint32_t>FD_BUCKET_SLOTS):
        if bucket.tag[i] == tag and same_key(slot_entry(shard, slot + i), key):
            return slot + i
    return NO_SLOT


cdef const fd_entry_t *store_find(store_t *store, const fd_entry_t *key) noexcept nogil:
    cdef const shard_t *shard = shard_of(store, key.key_hash)
    cdef uint32_t slot = find_slot(store, shard, key)
    return NULL if slot == NO_SLOT else slot_entry(shard, slot)


cdef void store_led(store_t *store, const fd_entry_t *entry) noexcept nogil:
    shard_of(store, entry.key_hash).places[entry.slot_ref].marks |= PLACE_KEPT | PLACE_LED


cdef bint still_writer(store_t *store) noexcept nogil:
    return fd_acquire64(&store.header.generation) == store.generation


cdef bint worth_more(const fd_entry_t *old, const fd_entry_t *new, uint64_t now_ms) noexcept nogil:
    # A failure replaces no answer that can still be given, fresh or stale (RFC 8767 s4): NXDOMAIN
    # and NODATA are answers too, but where a block prefers those with records. How long the failure
    # holds is then the answer's recheck timer.
    if entry_over(old, now_ms):
        return False
    if new.kind == FD_ENTRY_FAILURE:
        return old.kind != FD_ENTRY_FAILURE
    return old.marks & FD_ENTRY_PREFERRED != 0 and (new.kind != FD_ENTRY_POSITIVE or new.ancount == 0)


cdef void write_entry(shard_t *shard, uint32_t off, const fd_entry_t *entry, uint32_t slot) noexcept nogil:
    # The place is free: no slot points there. Whole words go straight over, the last octets by way
    # of a word of zeros, so that nothing is read behind the caller's entry.
    cdef uint8_t *to = shard.base + off * FD_UNIT
    cdef const uint8_t *source = <const uint8_t *>entry
    cdef uint32_t size = fd_entry_size(entry.qname_len, entry.ttl_count, entry.records_len)
    cdef uint32_t whole = size & ~<uint32_t>7
    cdef uint64_t tail = 0
    cdef fd_entry_t header = entry[0]
    header.slot_ref = slot
    fd_copy_in(to, &header, sizeof(fd_entry_t))
    fd_copy_in(to + sizeof(fd_entry_t), source + sizeof(fd_entry_t), whole - sizeof(fd_entry_t))
    if size != whole:
        memcpy(&tail, source + whole, size - whole)
        fd_store64(to + whole, tail)


cdef store_rc store_put(store_t *store, const fd_entry_t *entry, uint64_t now_ms) noexcept nogil:
    cdef shard_t *shard = shard_of(store, entry.key_hash)
    cdef uint32_t bucket = hash_bucket(&store.cache, entry.key_hash)
    cdef uint32_t units, slot, old, off
    if not still_writer(store):
        bump(store.post.counters, FD_C_store_stale_writer, 1)
        return STORE_NOT_WRITER
    if not entry_sound(entry, FD_ENTRY_MAX):
        return STORE_UNSOUND
    units = entry_units(entry)
    old = find_slot(store, shard, entry)
    if old != NO_SLOT and worth_more(slot_entry(shard, old), entry, now_ms):
        return STORE_KEPT_BETTER
    if units * FD_UNIT > <uint32_t>LARGE_OCTETS and not large_room(shard, units, old, now_ms):
        bump(store.post.counters, FD_C_rejected_large, 1)
        return STORE_TOO_LARGE
    if old == NO_SLOT:
        quota_room(shard, entry, now_ms)
    slot = old if old != NO_SLOT else bucket_room(shard, bucket, now_ms)
    off = space_room(shard, units, old, now_ms)
    if off == SPACE_NONE:
        bump(store.post.counters, FD_C_rejected_large, 1)
        return STORE_TOO_LARGE
    write_entry(shard, off, entry, slot)
    if old != NO_SLOT:
        relocate(shard, slot, hash_tag(entry.key_hash), off, units)
    else:
        publish(shard, slot, hash_tag(entry.key_hash), off, units)
        admit(shard, slot, units)
    bump(store.post.counters, FD_C_stores, 1)
    return STORE_OK


# ---------------------------------------------------------------------------------- upkeep ----

cdef bint store_hold(store_t *store, const fd_entry_t *key, uint64_t until_ms) noexcept nogil:
    cdef shard_t *shard = shard_of(store, key.key_hash)
    cdef uint32_t slot = find_slot(store, shard, key)
    cdef uint64_t mark = fd_stale_mark(until_ms, fd_load64(&store.header.stale_epoch))
    cdef fd_bucket_t *bucket
    if slot == NO_SLOT or not still_writer(store):
        return False
    bucket = slot_bucket(shard, slot)
    fd_seq_open(&bucket.seq)
    fd_store64(&slot_entry(shard, slot).stale_mark, mark)
    fd_seq_close(&bucket.seq)
    return True


cdef void store_void_holds(store_t *store) noexcept nogil:
    if still_writer(store):
        fd_store64(&store.header.stale_epoch, fd_load64(&store.header.stale_epoch) + 1)


cdef uint32_t store_sweep(store_t *store, uint64_t now_ms) noexcept nogil:
    cdef uint32_t total = store.cache.shard_count * store.cache.bucket_count
    cdef uint32_t dropped = 0
    cdef uint32_t slot, first
    cdef shard_t *shard
    if not still_writer(store):
        return 0
    for _ in range(<uint32_t>SWEEP_BUCKETS):
        shard = &store.shards[store.sweep_bucket // store.cache.bucket_count]
        first = store.sweep_bucket % store.cache.bucket_count * FD_BUCKET_SLOTS
        for slot in range(first, first + FD_BUCKET_SLOTS):
            if slot_used(shard, slot) and entry_over(slot_entry(shard, slot), now_ms):
                drop(shard, slot)
                dropped += 1
        store.sweep_bucket = (store.sweep_bucket + 1) % total
    if dropped:
        bump(store.post.counters, FD_C_expired, dropped)
    return dropped


cdef agree_rc store_agree(store_t *store, agrees_t agrees, const void *context) noexcept nogil:
    cdef uint32_t total = store.cache.shard_count * store.cache.bucket_count
    cdef uint32_t dropped = 0
    cdef uint32_t slot, first
    cdef shard_t *shard
    if not still_writer(store):
        return AGREE_NOT_WRITER
    for _ in range(<uint32_t>AGREE_BUCKETS):
        if store.agree_bucket >= total:
            break
        shard = &store.shards[store.agree_bucket // store.cache.bucket_count]
        first = store.agree_bucket % store.cache.bucket_count * FD_BUCKET_SLOTS
        for slot in range(first, first + FD_BUCKET_SLOTS):
            if slot_used(shard, slot) and not agrees(context, slot_entry(shard, slot)):
                drop(shard, slot)
                dropped += 1
        store.agree_bucket += 1
    if dropped:
        bump(store.post.counters, FD_C_outdated, dropped)
    return AGREE_DONE if store.agree_bucket >= total else AGREE_MORE
