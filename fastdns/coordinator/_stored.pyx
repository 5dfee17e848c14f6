# SPDX-License-Identifier: Apache-2.0
"""What the cache holds for a question under way: fresh answers, and stale ones (RFC 8767)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._cache cimport silence_over
from fastdns._shm cimport (
    FD_ENTRY_FAILURE,
    FD_ENTRY_QNAME_OFF,
    fd_entry_t,
    fd_load32,
    fd_zone,
)
from fastdns._stats cimport FD_C_stale_marks, bump
from fastdns.coordinator._delivery cimport deliver_stored
from fastdns.coordinator._inflight cimport flight_qname
from fastdns.coordinator._state cimport FLIGHT_AHEAD, FLIGHT_LOOK, coordinator_t, flight_t, question_t
from fastdns.coordinator._store cimport store_find, store_hold
from fastdns.coordinator._sweep cimport entry_survives


cdef bint still_holds(const coordinator_t *c, const fd_entry_t *entry, uint32_t zone) noexcept nogil:
    # Whether an entry is what its block would say today. Once the sweep after a reload has seen the
    # whole cache, all are.
    return (entry.zone == zone and entry.fingerprint == fd_zone(c.config, zone).fingerprint
            and (fd_load32(&c.post.swept) == c.config.number or entry_survives(c, entry)))


cdef void write_key(coordinator_t *c, const question_t *question, const uint8_t *qname,
                    uint32_t zone) noexcept nogil:
    cdef fd_entry_t *key = c.entry
    memset(key, 0, sizeof(fd_entry_t))
    key.key_hash = question.key_hash
    key.group = question.group
    key.variant = question.variant
    key.key_flags = question.key_flags
    key.qtype = question.qtype
    key.qclass = question.qclass
    key.zone = <uint16_t>zone
    key.qname_len = question.qname_len
    memcpy(<uint8_t *>key + FD_ENTRY_QNAME_OFF, qname, question.qname_len)


cdef const fd_entry_t *find_stored(coordinator_t *c, const question_t *question, const uint8_t *qname,
                                   uint32_t zone, uint32_t left_ms) noexcept nogil:
    cdef const fd_entry_t *entry
    write_key(c, question, qname, zone)
    entry = store_find(c.store, c.entry)
    if (entry == NULL or c.now_ms + left_ms >= entry.stored_ms + <uint64_t>entry.ttl_s * 1000
            or silence_over(&c.store.cache, entry) or not still_holds(c, entry, zone)):
        return NULL
    return entry


cdef bint answer_stored(coordinator_t *c, uint32_t worker, const question_t *question,
                        const uint8_t *qname, uint64_t ticket, uint32_t zone) noexcept nogil:
    # The answer may have been stored between the worker's look and ours: another worker asked, or
    # a coordinator before us. Whether it is there, fresh, and handed on. Not in its last second:
    # `now_ms` may be older than the look that found it expired, and on its way to the client it
    # must not become a stale one.
    cdef const fd_entry_t *entry = find_stored(c, question, qname, zone, LAST_MS)
    if entry == NULL:
        return False
    deliver_stored(c, worker, ticket, entry)
    return True


cdef const fd_entry_t *stored_usable(coordinator_t *c) noexcept nogil:
    cdef const fd_entry_t *entry = store_find(c.store, c.entry)
    if (entry == NULL or entry.kind == FD_ENTRY_FAILURE or not still_holds(c, entry, c.entry.zone)
            or c.now_ms + LAST_MS >= entry.stored_ms + (<uint64_t>entry.ttl_s + entry.stale_s) * 1000):
        return NULL
    return entry


cdef void stored_hold(coordinator_t *c, uint64_t ms) noexcept nogil:
    # A fresh one gets no mark: a question ahead of time that failed changes nothing.
    cdef const fd_entry_t *entry = store_find(c.store, c.entry)
    if ms == 0 or entry == NULL or c.now_ms < entry.stored_ms + <uint64_t>entry.ttl_s * 1000:
        return
    if store_hold(c.store, c.entry, c.now_ms + ms):
        bump(c.counters, FD_C_stale_marks, 1)


cdef void hold_on(coordinator_t *c, const flight_t *flight) noexcept nogil:
    stored_hold(c, max(flight.deadline_ms, c.now_ms) - c.now_ms)


cdef void stored_refreshed(coordinator_t *c, const flight_t *flight) noexcept nogil:
    write_key(c, &flight.question, flight_qname(c, flight), flight.zone)
    hold_on(c, flight)


cdef bint stored_overdue(coordinator_t *c, const flight_t *flight, uint32_t worker,
                         uint64_t ticket) noexcept nogil:
    cdef const fd_entry_t *entry
    if (flight.block.stale_s == 0 or (flight.state & (FLIGHT_AHEAD | FLIGHT_LOOK) and flight.waiting == 0)
            or c.now_ms + c.config.question_deadline_ms < flight.deadline_ms + flight.block.stale_wait_ms):
        return False
    write_key(c, &flight.question, flight_qname(c, flight), flight.zone)
    entry = stored_usable(c)
    if entry == NULL:
        return False
    deliver_stored(c, worker, ticket, entry)
    hold_on(c, flight)
    return True
