# SPDX-License-Identifier: Apache-2.0
"""One shard as its writer sees it: publishing, freeing, evicting. SHM_LAYOUT

Eviction is SIEVE (Zhang and others, NSDI 2024): one queue in the order of storing, one hand that
goes from the oldest to the newest. What was hit since the hand last passed stays where it is, the
rest goes. A flood of names asked once is evicted by its own successors, since the hand meets them
unhit, and a name in use needs one hit for each round of the hand. Hits cost the workers one
relaxed increment in their own region; here the difference of the sums is all that counts.

One thing is added. In a flood the plain hand takes one step for each entry that comes in, so it
stays as far from the newest as it is, and never sees what lies behind it again: names that nobody
asks for any more would keep their place for as long as the flood lasts, and new names in use would
have only the rest. So a round ends after as many evictions as there are entries.

Entries differ in size, so a victim may leave too small a hole. Then the hole is widened to its
right over entries that nobody asked for. Where entries in use stand in the way eight times, the
window of the shard that holds the fewest of them is emptied.
"""

from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

from fastdns._shm cimport (
    FD_BUCKET_SLOTS,
    FD_UNIT,
    FD_ENTRY_POSITIVE,
    fd_block,
    fd_block_series_t,
    fd_bucket_t,
    fd_entry_t,
    fd_load16,
    fd_load64,
    fd_seq_close,
    fd_seq_open,
    fd_store16,
    fd_store64,
    fd_zone_t,
)
from fastdns._stats cimport FD_C_evicted_bucket, FD_C_evicted_bytes, FD_C_expired, bump
from fastdns._zones cimport zone_at
from fastdns.coordinator._space cimport (
    SPACE_NONE,
    space_give,
    space_run,
    space_take,
    space_take_at,
)

cdef enum:
    HAND_STEPS = 1024            # most entries that the hand passes for one victim: some 20 us
    QUOTA_STEPS = 64             # entries that are looked at for one of a block over its quota
    VICTIMS = 8                  # tries before entries in use are evicted for their place
    SMALL_UNITS = LARGE_OCTETS // FD_UNIT


cdef uint16_t hit_sum(const shard_t *shard, uint32_t slot) noexcept nogil:
    cdef uint32_t total = 0
    cdef uint32_t worker
    for worker in range(shard.worker_count):
        total += fd_load16(&shard.hits[worker][shard.first_slot + slot])
    return <uint16_t>total


cdef void count_entries(shard_t *shard, uint64_t entries, uint64_t units) noexcept nogil:
    # Both wrap, so that a negative difference may be given.
    fd_store64(&shard.post.entries, fd_load64(&shard.post.entries) + entries)
    fd_store64(&shard.post.entry_octets, fd_load64(&shard.post.entry_octets) + units * FD_UNIT)


# ------------------------------------------------------------------------ shares of blocks ----

cdef inline uint32_t class_of(const fd_entry_t *entry) noexcept nogil:
    return 0 if entry.kind == FD_ENTRY_POSITIVE else 1       # success, denial


cdef fd_block_series_t *share_of(const shard_t *shard, const fd_entry_t *entry) noexcept nogil:
    # NULL: blocks are not counted, or the entry's zone is of another configuration.
    cdef const fd_zone_t *zone
    if shard.config == NULL:
        return NULL
    zone = zone_at(shard.config, entry.zone)
    return NULL if zone == NULL else &shard.post.block_series[zone.block]


cdef void count_block(shard_t *shard, uint32_t slot, uint64_t change) noexcept nogil:
    cdef const fd_entry_t *entry = slot_entry(shard, slot)
    cdef fd_block_series_t *share = share_of(shard, entry)
    if share != NULL:
        fd_store64(&share.entries[class_of(entry)], fd_load64(&share.entries[class_of(entry)]) + change)


cdef void count_eviction(shard_t *shard, uint32_t slot) noexcept nogil:
    cdef const fd_entry_t *entry = slot_entry(shard, slot)
    cdef fd_block_series_t *share = share_of(shard, entry)
    if share != NULL:
        bump(share.evictions, class_of(entry), 1)


cdef void quota_room(shard_t *shard, const fd_entry_t *entry, uint64_t now_ms) noexcept nogil:
    cdef fd_block_series_t *share = share_of(shard, entry)
    cdef uint32_t which = class_of(entry)
    cdef uint32_t victim = NO_SLOT
    cdef uint32_t slot, most
    if share == NULL:
        return
    most = fd_block(shard.config, zone_at(shard.config, entry.zone).block).capacity[which]
    if most == 0 or fd_load64(&share.entries[which]) < most:
        return
    # The look goes on where the last one ended: what it passed over then is not looked at each time.
    for _ in range(<uint32_t>QUOTA_STEPS):
        slot = shard.quota_hand if shard.quota_hand != NO_SLOT else shard.oldest
        if slot == NO_SLOT:
            break
        shard.quota_hand = shard.places[slot].newer
        if class_of(slot_entry(shard, slot)) == which and share_of(shard, slot_entry(shard, slot)) == share:
            if victim == NO_SLOT:
                victim = slot
            if not in_use(shard, slot) or entry_over(slot_entry(shard, slot), now_ms):
                victim = slot
                break
    if victim != NO_SLOT:
        evict(shard, victim, now_ms)


# ---------------------------------------------------------------- queue, totals, large ones ----

cdef void note_large(shard_t *shard, uint32_t slot, uint32_t units) noexcept nogil:
    if units > <uint32_t>SMALL_UNITS:
        shard.large[shard.large_count] = <uint16_t>slot
        shard.large_count += 1
        shard.large_units += units


cdef void forget_large(shard_t *shard, uint32_t slot, uint32_t units) noexcept nogil:
    cdef uint32_t i
    if units <= <uint32_t>SMALL_UNITS:
        return
    for i in range(shard.large_count):
        if shard.large[i] == slot:
            shard.large_count -= 1
            shard.large[i] = shard.large[shard.large_count]
            shard.large_units -= units
            return


cdef void admit(shard_t *shard, uint32_t slot, uint32_t units) noexcept nogil:
    cdef place_t *place = &shard.places[slot]
    place.newer = NO_SLOT
    place.older = shard.newest
    place.seen = hit_sum(shard, slot)
    place.before = place.marks = 0
    if shard.newest != NO_SLOT:
        shard.places[shard.newest].newer = <uint16_t>slot
    shard.newest = <uint16_t>slot
    if shard.oldest == NO_SLOT:
        shard.oldest = <uint16_t>slot
    shard.entries += 1
    count_block(shard, slot, 1)
    note_large(shard, slot, units)
    count_entries(shard, 1, units)


cdef void dismiss(shard_t *shard, uint32_t slot, uint32_t units) noexcept nogil:
    cdef const place_t *place = &shard.places[slot]
    if shard.hand == slot:
        shard.hand = place.newer
    if shard.quota_hand == slot:
        shard.quota_hand = place.newer
    if place.newer != NO_SLOT:
        shard.places[place.newer].older = place.older
    else:
        shard.newest = place.older
    if place.older != NO_SLOT:
        shard.places[place.older].newer = place.newer
    else:
        shard.oldest = place.newer
    shard.entries -= 1
    forget_large(shard, slot, units)
    count_entries(shard, <uint64_t>0 - 1, <uint64_t>0 - units)


# ------------------------------------------------------------------ what the readers see ----

cdef void publish(shard_t *shard, uint32_t slot, uint16_t tag, uint32_t off, uint32_t units) noexcept nogil:
    cdef fd_bucket_t *bucket = slot_bucket(shard, slot)
    cdef uint32_t i = slot % FD_BUCKET_SLOTS
    fd_seq_open(&bucket.seq)
    fd_store16(&bucket.tag[i], tag)
    fd_store16(&bucket.off[i], <uint16_t>off)
    fd_store16(&bucket.len[i], <uint16_t>units)
    fd_seq_close(&bucket.seq)


cdef void relocate(shard_t *shard, uint32_t slot, uint16_t tag, uint32_t off, uint32_t units) noexcept nogil:
    cdef uint32_t old_off = slot_off(shard, slot)
    cdef uint32_t old_units = slot_units(shard, slot)
    cdef uint32_t old_ttl_s = slot_entry(shard, slot).ttl_s
    cdef bint asked = shard.places[slot].marks & PLACE_ASKED
    count_block(shard, slot, <uint64_t>0 - 1)
    publish(shard, slot, tag, off, units)
    count_block(shard, slot, 1)
    renew(shard, slot, asked and slot_entry(shard, slot).ttl_s * 2 < old_ttl_s)
    space_give(&shard.space, old_off, old_units)
    forget_large(shard, slot, old_units)
    note_large(shard, slot, units)
    count_entries(shard, 0, <uint64_t>units - old_units)


cdef uint32_t drop(shard_t *shard, uint32_t slot) noexcept nogil:
    cdef uint32_t off = slot_off(shard, slot)
    cdef uint32_t units = slot_units(shard, slot)
    count_block(shard, slot, <uint64_t>0 - 1)
    publish(shard, slot, 0, 0, 0)
    dismiss(shard, slot, units)
    return space_give(&shard.space, off, units)


# ------------------------------------------------------------------------------ eviction ----

cdef uint32_t evict(shard_t *shard, uint32_t slot, uint64_t now_ms) noexcept nogil:
    if entry_over(slot_entry(shard, slot), now_ms):
        bump(shard.post.counters, FD_C_expired, 1)
    else:
        bump(shard.post.counters, FD_C_evicted_bytes, 1)
        count_eviction(shard, slot)
    return drop(shard, slot)


cdef uint32_t bucket_room(shard_t *shard, uint32_t bucket, uint64_t now_ms) noexcept nogil:
    cdef uint32_t slot = bucket * FD_BUCKET_SLOTS
    cdef uint32_t victim = NO_SLOT
    cdef uint32_t fewest = 0xffffffff
    cdef uint64_t oldest_ms = 0
    cdef const fd_entry_t *entry
    cdef uint32_t i, hits
    for i in range(slot, slot + FD_BUCKET_SLOTS):
        if not slot_used(shard, i):
            return i
    for i in range(slot, slot + FD_BUCKET_SLOTS):
        entry = slot_entry(shard, i)
        if entry_over(entry, now_ms):
            bump(shard.post.counters, FD_C_expired, 1)
            drop(shard, i)
            return i
        hits = hits_since(shard, i) * 2 + (shard.places[i].marks & (PLACE_SPARED | PLACE_KEPT) != 0)
        if hits < fewest or (hits == fewest and entry.stored_ms < oldest_ms):
            fewest = hits
            oldest_ms = entry.stored_ms
            victim = i
    bump(shard.post.counters, FD_C_evicted_bucket, 1)
    count_eviction(shard, victim)
    drop(shard, victim)
    return victim


cdef bint large_room(shard_t *shard, uint32_t units, uint32_t pinned, uint64_t now_ms) noexcept nogil:
    cdef uint32_t limit = shard.large_quota
    cdef uint32_t slot, victim, i
    cdef uint64_t oldest_ms = 0
    cdef const fd_entry_t *entry
    if pinned != NO_SLOT and slot_units(shard, pinned) > <uint32_t>SMALL_UNITS:
        limit += slot_units(shard, pinned)
    while shard.large_units + units > limit:
        victim = NO_SLOT
        for i in range(shard.large_count):
            slot = shard.large[i]
            entry = slot_entry(shard, slot)
            if slot == pinned or (in_use(shard, slot) and not entry_over(entry, now_ms)):
                continue
            if victim == NO_SLOT or entry.stored_ms < oldest_ms:
                victim = slot
                oldest_ms = entry.stored_ms
        if victim == NO_SLOT:
            # All are in use. They have to be hit once more to be spared the next time.
            for i in range(shard.large_count):
                pass_by(shard, shard.large[i], 0)
            return False
        evict(shard, victim, now_ms)
    return True


cdef void pass_by(shard_t *shard, uint32_t slot, uint8_t spared) noexcept nogil:
    # From here on it has to be hit again to be in use.
    cdef place_t *place = &shard.places[slot]
    place.before = <uint8_t>min(hits_stored(shard, slot), <uint32_t>255)
    place.seen = hit_sum(shard, slot)
    place.marks = place.marks & ~<uint8_t>(PLACE_SPARED | PLACE_KEPT) | spared


cdef void renew(shard_t *shard, uint32_t slot, bint dying) noexcept nogil:
    # A new life for the entry of a slot, in the queue where it was.
    cdef place_t *place = &shard.places[slot]
    place.marks = <uint8_t>((PLACE_KEPT if in_use(shard, slot) else 0) | (PLACE_DYING if dying else 0))
    place.seen = hit_sum(shard, slot)
    place.before = 0


cdef uint32_t next_victim(shard_t *shard, uint32_t pinned, uint64_t now_ms) noexcept nogil:
    cdef uint32_t last = NO_SLOT
    cdef uint32_t slot
    cdef uint16_t total
    cdef uint8_t kept
    if shard.victims >= shard.entries:
        shard.hand = NO_SLOT
    shard.victims += 1
    for _ in range(<uint32_t>HAND_STEPS):
        if shard.hand == NO_SLOT:
            shard.hand = shard.oldest
            shard.victims = 0
        slot = shard.hand
        if slot == NO_SLOT:
            return NO_SLOT
        shard.hand = shard.places[slot].newer
        if slot == pinned:
            continue
        last = slot
        total = hit_sum(shard, slot)
        kept = shard.places[slot].marks & PLACE_KEPT
        if (total == shard.places[slot].seen and not kept) or entry_over(slot_entry(shard, slot), now_ms):
            return slot
        pass_by(shard, slot, PLACE_SPARED)
    return last


cdef uint32_t slot_at(const shard_t *shard, uint32_t off) noexcept nogil:
    # The slot whose entry starts at unit `off`, by its back reference.
    cdef const fd_entry_t *entry = <const fd_entry_t *>(shard.base + off * FD_UNIT)
    cdef uint32_t slot = entry.slot_ref
    if slot >= shard.slots or not slot_used(shard, slot) or slot_off(shard, slot) != off:
        return NO_SLOT
    return slot


cdef uint32_t empty_window(shard_t *shard, uint32_t start, uint32_t units, uint64_t now_ms) noexcept nogil:
    # Evict what stands in units start .. start + units; `start` is the first unit of an entry or
    # of a free run. Takes the units and returns `start`.
    cdef uint32_t end = start + units
    cdef uint32_t at = start
    cdef uint32_t slot, length
    while at < end:
        length = space_run(&shard.space, at, end - at)
        if length == 0:
            slot = slot_at(shard, at)
            length = slot_units(shard, slot)
            evict(shard, slot, now_ms)
        at += length
    space_take_at(&shard.space, start, units)
    return start


cdef bint may_widen(const shard_t *shard, uint32_t start, uint32_t units, uint32_t pinned) noexcept nogil:
    # Whether units start .. start + units hold nothing that anybody asked for.
    cdef uint32_t at = start
    cdef uint32_t slot, length
    if units > shard.space.units - start:
        return False
    while at - start < units:
        length = space_run(&shard.space, at, units - (at - start))
        if length == 0:
            slot = slot_at(shard, at)
            if slot == NO_SLOT or slot == pinned or in_use(shard, slot):
                return False
            length = slot_units(shard, slot)
        at += length
    return True


cdef uint32_t best_window(const shard_t *shard, uint32_t units, uint32_t pinned) noexcept nogil:
    # The place where `units` cost the fewest entries in use, or SPACE_NONE. One pass over the
    # shard with a window from `left` to `right`, both at bounds of entries or free runs.
    cdef uint32_t left = shard.space.first
    cdef uint32_t right = left
    cdef uint32_t best = SPACE_NONE
    cdef int32_t least = 0x7fffffff
    cdef int32_t cost = 0        # signed: a worker may hit an entry between its two countings
    cdef uint32_t slot, length
    while right < shard.space.units:
        length = space_run(&shard.space, right, shard.space.units)
        if length == 0:
            slot = slot_at(shard, right)
            if slot == NO_SLOT or slot == pinned:
                # A wall: the window begins anew behind it. (An entry without its slot can't be:
                # what attach doesn't know is free.)
                length = slot_units(shard, slot) if slot != NO_SLOT else 1
                right += length
                left = right
                cost = 0
                continue
            length = slot_units(shard, slot)
            cost += in_use(shard, slot)
        right += length
        while right - left >= units:
            if cost < least:
                least = cost
                best = left
            length = space_run(&shard.space, left, shard.space.units)
            if length == 0:
                slot = slot_at(shard, left)
                length = slot_units(shard, slot)
                cost -= in_use(shard, slot)
            left += length
    return best


cdef uint32_t space_room(shard_t *shard, uint32_t units, uint32_t pinned, uint64_t now_ms) noexcept nogil:
    cdef uint32_t off = space_take(&shard.space, units)
    cdef uint32_t slot
    if off != SPACE_NONE:
        return off
    for _ in range(<uint32_t>VICTIMS):
        slot = next_victim(shard, pinned, now_ms)
        if slot == NO_SLOT:
            break
        off = evict(shard, slot, now_ms)
        if may_widen(shard, off, units, pinned):
            return empty_window(shard, off, units, now_ms)
    off = best_window(shard, units, pinned)
    return SPACE_NONE if off == SPACE_NONE else empty_window(shard, off, units, now_ms)
