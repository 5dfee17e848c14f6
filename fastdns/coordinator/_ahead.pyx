# SPDX-License-Identifier: Apache-2.0
"""Names in use are asked again before they expire.

The whole cache is looked through every PASS_MS, a shard at a time, one each ms where there are more. An entry
is due when what its block leaves of its life is over (10 % of it, where the text says nothing), and workers have
hit it often enough since it was stored. The last quarter of that share is spread by the key's hash, so that what
was stored at once is not asked at once. An entry is asked for once in its life; a failure changes nothing.

Where an ancestor answers for the names below it (_cut), that one is in use, and they are not asked ahead.

Never asked ahead: what nobody hit; what the Python thread or a table answers; and what came back with less
than half of the life it had before. A forwarder upstream gives what is left of its own TTL, and would be
asked for ever shorter rests of it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._shm cimport (
    FD_BLOCK_CUT,
    FD_ENTRY_FAILURE,
    FD_ENTRY_NXDOMAIN,
    FD_ENTRY_QNAME_OFF,
    FD_PLUGIN_DNS64,
    FD_PLUGIN_FORWARD,
    FD_PLUGIN_REWRITE,
    FD_Q_RD,
    fd_block,
    fd_block_t,
    fd_entry_t,
    fd_zone_t,
)
from fastdns._stats cimport bump
from fastdns._zones cimport zone_at, zone_find
from fastdns.coordinator._deaths cimport quarantine_refuses
from fastdns.coordinator._inflight cimport flight_begin, inflight_find
from fastdns.coordinator._shard cimport (
    PLACE_ASKED,
    PLACE_DYING,
    PLACE_LED,
    hits_stored,
    place_t,
    shard_t,
    slot_entry,
    slot_used,
)
from fastdns.coordinator._state cimport FLIGHT_AHEAD, NONE, coordinator_t, question_t

cdef enum:
    PASS_MS = 128
    UNDER_WAY = 64               # questions at once, at most
    WAIT_MS = 1000               # for an answer: a dead upstream does not hold up the others' names
    SPREAD = 1024                # the last quarter of the share is cut by so many steps


cdef inline uint32_t shard_ms(const coordinator_t *c) noexcept nogil:
    # From one shard to the next.
    return max(PASS_MS // c.store.cache.shard_count, <uint32_t>1)


cdef inline uint32_t pass_ms(const coordinator_t *c) noexcept nogil:
    return shard_ms(c) * c.store.cache.shard_count


cdef uint64_t lead_ms(const coordinator_t *c, const fd_entry_t *entry, uint32_t percent) noexcept nogil:
    # How long before its end the entry is due: at least one pass and an answer's time, no earlier than halfway.
    cdef uint64_t share_ms = <uint64_t>entry.ttl_s * 10 * percent
    share_ms -= share_ms // 4 * (entry.key_hash >> 32 & (SPREAD - 1)) // SPREAD
    return min(max(share_ms, <uint64_t>2 * pass_ms(c)), <uint64_t>entry.ttl_s * 1000 * max(percent, 50) // 100)


cdef const fd_block_t *block_of(const coordinator_t *c, const fd_entry_t *entry) noexcept nogil:
    # Whose text made the entry, if it is in force. NULL: another one did.
    cdef const fd_zone_t *zone = zone_at(c.config, entry.zone)
    if zone == NULL or zone.fingerprint != entry.fingerprint:
        return NULL
    return fd_block(c.config, zone.block)


cdef bint is_due(const coordinator_t *c, const shard_t *shard, uint32_t slot) noexcept nogil:
    cdef const place_t *place = &shard.places[slot]
    cdef uint32_t hits = hits_stored(shard, slot)
    cdef bint led = place.marks & PLACE_LED
    cdef const fd_entry_t *entry
    cdef const fd_block_t *block
    cdef uint64_t end_ms
    if (hits == 0 and not led) or place.marks & (PLACE_ASKED | PLACE_DYING) or not slot_used(shard, slot):
        return False
    entry = slot_entry(shard, slot)
    end_ms = entry.stored_ms + <uint64_t>entry.ttl_s * 1000
    if c.now_ms >= end_ms or entry.kind == FD_ENTRY_FAILURE:
        return False
    if (entry.plugin != FD_PLUGIN_FORWARD and entry.plugin != FD_PLUGIN_REWRITE
            and entry.plugin != FD_PLUGIN_DNS64):
        return False
    block = block_of(c, entry)
    if block == NULL or block.prefetch_hits == 0 or c.now_ms + lead_ms(c, entry, block.prefetch_percent) < end_ms:
        return False
    if entry.kind == FD_ENTRY_NXDOMAIN and block.flags & FD_BLOCK_CUT:
        return led
    return hits >= block.prefetch_hits


cdef uint32_t begin(coordinator_t *c, const fd_entry_t *entry) noexcept nogil:
    cdef const uint8_t *qname = <const uint8_t *>entry + FD_ENTRY_QNAME_OFF
    cdef question_t question
    cdef uint32_t index
    memset(&question, 0, sizeof(question_t))
    question.key_hash = entry.key_hash
    question.group = entry.group
    question.variant = entry.variant
    question.key_flags = entry.key_flags
    question.qtype = entry.qtype
    question.qclass = entry.qclass
    question.qname_len = entry.qname_len
    question.flags = FD_Q_RD
    if (zone_find(c.config, question.group, qname, question.qname_len, question.qtype) != entry.zone
            or inflight_find(c, &question, qname) != NONE or quarantine_refuses(c, question.key_hash)):
        return NONE
    index = flight_begin(c, &question, qname, entry.zone,
                         c.now_ms + min(c.config.question_deadline_ms, <uint32_t>WAIT_MS))
    if index != NONE:
        c.flights[index].state |= FLIGHT_AHEAD
        c.ahead_count += 1
        bump(&c.post.block_series[c.flights[index].block.number].prefetches, 0, 1)
    return index


cdef uint32_t ahead_next(coordinator_t *c) noexcept nogil:
    cdef shard_t *shard
    cdef uint32_t slot, index
    while c.now_ms >= c.ahead_due_ms and c.ahead_count < UNDER_WAY:
        shard = &c.store.shards[c.ahead_shard]
        while shard.entries and c.ahead_slot < shard.slots:
            slot = c.ahead_slot
            c.ahead_slot += 1
            if is_due(c, shard, slot):
                shard.places[slot].marks |= PLACE_ASKED
                index = begin(c, slot_entry(shard, slot))
                if index != NONE:
                    return index
        c.ahead_slot = 0
        c.ahead_shard = (c.ahead_shard + 1) % c.store.cache.shard_count
        # After a pause there is one pass to catch up with, not all that were missed.
        c.ahead_due_ms = max(c.ahead_due_ms + shard_ms(c), c.now_ms - pass_ms(c))
    return NONE
