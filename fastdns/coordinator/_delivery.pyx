# SPDX-License-Identifier: Apache-2.0
"""Answers and failures into the workers' rings."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._ring cimport ring_commit, ring_reserve
from fastdns._shm cimport (
    FD_EDE_NONE,
    FD_RECORD_ANSWER,
    FD_RECORD_FAILURE,
    fd_answer_t,
    fd_entry_size,
    fd_entry_t,
    fd_must_wake,
)
from fastdns._stats cimport FD_C_answer_ring_full, FD_C_failures, bump
from fastdns._sys cimport ring_eventfd
from fastdns.coordinator._state cimport NOBODY, coordinator_t, worker_link_t


cdef void put_record(coordinator_t *c, uint32_t worker, uint64_t ticket, uint8_t kind, uint16_t ede,
                     const fd_entry_t *entry, uint32_t entry_octets) noexcept nogil:
    cdef worker_link_t *link = &c.workers[worker]
    cdef fd_answer_t *answer
    if worker == NOBODY:
        return
    answer = <fd_answer_t *>ring_reserve(&link.answers, <uint32_t>sizeof(fd_answer_t) + entry_octets)
    # Woken also when there was no room: it has to see the mark.
    c.dirty |= <uint32_t>1 << worker
    if answer == NULL:
        bump(c.counters, FD_C_answer_ring_full, 1)
        return
    answer.record.kind = kind
    answer.record.flags = 0
    answer.record.ede = ede
    answer.ticket = ticket
    if entry_octets:
        memcpy(<uint8_t *>answer + sizeof(fd_answer_t), entry, entry_octets)
    ring_commit(&link.answers)


cdef void deliver_answer(coordinator_t *c, uint32_t flight, const fd_entry_t *entry) noexcept nogil:
    cdef uint32_t octets = fd_entry_size(entry.qname_len, entry.ttl_count, entry.records_len)
    cdef uint32_t i
    for i in range(c.worker_count):
        if c.flights[flight].waiting >> i & 1:
            put_record(c, i, c.tickets[flight * c.worker_count + i], FD_RECORD_ANSWER, FD_EDE_NONE,
                       entry, octets)


cdef void deliver_stored(coordinator_t *c, uint32_t worker, uint64_t ticket,
                         const fd_entry_t *entry) noexcept nogil:
    put_record(c, worker, ticket, FD_RECORD_ANSWER, FD_EDE_NONE, entry,
               fd_entry_size(entry.qname_len, entry.ttl_count, entry.records_len))


cdef void deliver_failure(coordinator_t *c, uint32_t flight, uint16_t ede) noexcept nogil:
    cdef uint32_t i
    for i in range(c.worker_count):
        if c.flights[flight].waiting >> i & 1:
            refuse_question(c, i, c.tickets[flight * c.worker_count + i], ede)


cdef void refuse_question(coordinator_t *c, uint32_t worker, uint64_t ticket, uint16_t ede) noexcept nogil:
    bump(c.counters, FD_C_failures, 1)
    put_record(c, worker, ticket, FD_RECORD_FAILURE, ede, NULL, 0)


cdef void wake_workers(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.worker_count):
        if c.dirty >> i & 1 and fd_must_wake(&c.workers[i].region.answer_ring.sleeping):
            ring_eventfd(c.workers[i].wake)
    c.dirty = 0
