# SPDX-License-Identifier: Apache-2.0
"""A question from a worker's ring: read, checked, joined to one under way, answered from the cache, or begun."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._name cimport name_length
from fastdns._proto cimport EDE_OTHER, REFUSED, TYPE_HINFO
from fastdns._shm cimport (
    FD_ERROR_BUSY,
    FD_NO_ZONE,
    FD_Q_ALONE,
    FD_Q_CLIENT,
    FD_Q_REFRESH,
    FD_RECORD_QUESTION,
    FD_ZONE_REFUSED,
    fd_question_client_off,
    fd_question_client_t,
    fd_question_t,
    fd_record_t,
    fd_zone,
)
from fastdns._stats cimport (
    FD_C_changed_full,
    FD_C_found_stored,
    FD_C_joined,
    FD_C_quarantined,
    FD_C_questions,
    FD_C_questions_invalid,
    bump,
)
from fastdns._zones cimport zone_find
from fastdns.coordinator._ask cimport go_on
from fastdns.coordinator._conclude cimport fail
from fastdns.coordinator._deaths cimport quarantine_refuses
from fastdns.coordinator._delivery cimport deliver_stored, refuse_question
from fastdns.coordinator._hand cimport hand_clear, hand_take
from fastdns.coordinator._inflight cimport flight_begin, flight_change, flight_join, inflight_find
from fastdns.coordinator._judge cimport judge_none
from fastdns.coordinator._probe cimport probe_returned
from fastdns.coordinator._state cimport (
    FLIGHT_SLOW,
    NOBODY,
    NONE,
    change_t,
    coordinator_t,
    flight_t,
    question_t,
)
from fastdns.coordinator._stored cimport answer_stored, stored_overdue, stored_refreshed
from fastdns.coordinator._timers cimport timers_set

cdef extern from "_crash.h" nogil:
    void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len) noexcept
    void fd_debug_hang(const uint8_t *qname, uint32_t qname_len) noexcept


cdef bint read_question(const fd_record_t *record, uint32_t octets, question_t *question,
                        uint8_t *qname, uint64_t *ticket, fd_question_client_t *client) noexcept nogil:
    # Copy, then check: the worker could still change its ring's memory.
    cdef fd_question_t raw
    if octets < sizeof(fd_question_t):
        return False
    memcpy(&raw, record, sizeof(fd_question_t))
    if raw.record.kind != FD_RECORD_QUESTION or octets - sizeof(fd_question_t) < raw.qname_len:
        return False
    memcpy(qname, <const uint8_t *>record + sizeof(fd_question_t), raw.qname_len)
    ticket[0] = raw.ticket
    question.key_hash = raw.key_hash
    question.group = raw.group
    question.variant = raw.variant
    question.key_flags = raw.key_flags
    question.qtype = raw.qtype
    question.qclass = raw.qclass
    question.qname_len = raw.qname_len
    question.flags = raw.flags
    if raw.flags & FD_Q_CLIENT:
        if octets < fd_question_client_off(raw.qname_len) + sizeof(fd_question_client_t):
            return False
        memcpy(client, <const uint8_t *>record + fd_question_client_off(raw.qname_len),
               sizeof(fd_question_client_t))
        question.flags |= FD_Q_ALONE
    return raw.qname_len != 0 and name_length(qname, raw.qname_len) == raw.qname_len


cdef void take_question(coordinator_t *c, uint32_t worker, const fd_record_t *record,
                        uint32_t octets) noexcept nogil:
    cdef question_t question
    cdef uint8_t[256] qname
    cdef fd_question_client_t client
    cdef uint64_t ticket = 0
    if not read_question(record, octets, &question, qname, &ticket, &client):
        bump(c.counters, FD_C_questions_invalid, 1)
        return
    bump(c.counters, FD_C_questions, 1)
    if question.flags & FD_Q_REFRESH:
        worker = NOBODY
    if quarantine_refuses(c, question.key_hash):
        bump(c.counters, FD_C_quarantined, 1)
        refuse_question(c, worker, ticket, EDE_OTHER)
        return
    hand_take(&c.post.in_hand, question.key_hash, qname, question.qname_len)
    fd_debug_crash("crash", qname, question.qname_len)
    fd_debug_hang(qname, question.qname_len)
    start(c, worker, &question, qname, ticket, &client)
    hand_clear(&c.post.in_hand)


cdef void join(coordinator_t *c, uint32_t index, uint32_t worker, uint64_t ticket) noexcept nogil:
    # What was begun ahead of time, or for a look, has the first client's time from now on.
    cdef flight_t *flight = &c.flights[index]
    if flight.waiting == 0:
        flight.deadline_ms = c.now_ms + c.config.question_deadline_ms
        if flight.state & FLIGHT_SLOW:
            timers_set(&c.timers, index, flight.deadline_ms)
    if not flight_join(c, index, worker, ticket):
        bump(c.counters, FD_C_joined, 1)


cdef void start(coordinator_t *c, uint32_t worker, const question_t *question, const uint8_t *qname,
                uint64_t ticket, const fd_question_client_t *client) noexcept nogil:
    cdef uint32_t index = NONE
    cdef uint32_t zone
    if question.qtype == TYPE_HINFO and c.probe_count and probe_returned(c, question, qname):
        refuse_question(c, worker, ticket, EDE_OTHER)
        return
    if not question.flags & FD_Q_ALONE:
        index = inflight_find(c, question, qname)
    if index != NONE:
        if worker == NOBODY:
            stored_refreshed(c, &c.flights[index])
        elif not stored_overdue(c, &c.flights[index], worker, ticket):
            join(c, index, worker, ticket)
        return
    zone = zone_find(c.config, question.group, qname, question.qname_len, question.qtype)
    if zone == FD_NO_ZONE or fd_zone(c.config, zone).flags & FD_ZONE_REFUSED:
        # Workers refuse these by themselves; one that is a configuration behind us may ask.
        judge_none(question, qname, REFUSED, c.now_ms, c.entry)
        deliver_stored(c, worker, ticket, c.entry)
        return
    if not question.flags & FD_Q_ALONE and answer_stored(c, worker, question, qname, ticket, zone):
        bump(c.counters, FD_C_found_stored, 1)
        return
    index = flight_begin(c, question, qname, zone, c.now_ms + c.config.question_deadline_ms)
    if index == NONE:
        refuse_question(c, worker, ticket, EDE_OTHER)
        return
    if worker == NOBODY:
        bump(&c.post.block_series[c.flights[index].block.number].prefetches, 0, 1)
        stored_refreshed(c, &c.flights[index])
    else:
        flight_join(c, index, worker, ticket)
    if question.flags & FD_Q_CLIENT and not keep_client(c, &c.flights[index], client):
        bump(c.counters, FD_C_changed_full, 1)
        fail(c, index, EDE_OTHER, FD_ERROR_BUSY)
        return
    go_on(c, index)


cdef bint keep_client(coordinator_t *c, flight_t *flight, const fd_question_client_t *client) noexcept nogil:
    cdef change_t *change = flight_change(c, flight)
    if change == NULL:
        return False
    change.client = client[0]
    change.has_client = 1
    return True
