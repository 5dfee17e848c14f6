# SPDX-License-Identifier: Apache-2.0
"""The loop's dealings with the Python thread, which does regular expressions, templates and DNS64.

A flight that the thread has waits with FLIGHT_SLOW, and with a serial number that its result must
bear: a result for a flight that has ended meanwhile is nobody's.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from fastdns._answer cimport compose_error, compose_reply
from fastdns._cache cimport answer_view, entry_view
from fastdns._name cimport put_u16
from fastdns._proto cimport FLAG_RD, HEADER_LEN, MESSAGE_MAX, SERVFAIL
from fastdns._shm cimport (
    FD_EDE_NONE,
    FD_EDNS_DO,
    FD_EDNS_PRESENT,
    FD_KEY_DO,
    fd_entry_size,
    fd_entry_t,
    fd_listener_t,
    fd_query_t,
    fd_question_client_t,
    fd_step_t,
    sockaddr_in,
)
from fastdns._sys cimport AF_INET
from fastdns.coordinator._inflight cimport flight_asked, flight_asked_name, flight_change
from fastdns.coordinator._queue cimport SLOW_ANSWER, SLOW_ASK, slow_client_t, slow_job_t, slow_put
from fastdns.coordinator._state cimport FLIGHT_SLOW, change_t, coordinator_t, flight_t, question_t
from fastdns.coordinator._timers cimport timers_set


cdef void fill_client(const coordinator_t *c, const fd_question_client_t *client,
                      slow_client_t *out) noexcept nogil:
    cdef const fd_listener_t *listener
    out.peer = client.peer
    out.tcp = client.tcp
    if client.listener >= c.config.listener_count:
        return
    listener = &c.config.listeners[client.listener]
    out.local = listener.address
    if not listener.wildcard:
        return
    if listener.address.sin6_family == AF_INET:
        memcpy(&(<sockaddr_in *>&out.local).sin_addr, client.local.address, 4)
    else:
        memcpy(&out.local.sin6_addr, client.local.address, 16)


cdef bint put(coordinator_t *c, uint32_t index, uint8_t kind, uint16_t step, const uint8_t *msg,
              uint32_t octets) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef change_t *change = flight_change(c, flight)
    cdef const question_t *asked
    cdef slow_job_t job
    if c.slow == NULL or change == NULL:
        return False
    asked = flight_asked(c, flight)
    memset(&job, 0, sizeof(job))
    job.key_hash = flight.question.key_hash
    job.flight = <uint16_t>index
    job.block = flight.block.number
    job.step = step
    job.qtype = asked.qtype
    job.qclass = asked.qclass
    job.key_flags = asked.key_flags
    job.variant = asked.variant
    job.flags = flight.question.flags
    job.qname_len = asked.qname_len
    if change.has_client:
        fill_client(c, &change.client, &job.client)
    change.serial = slow_put(c.slow, kind, &job, flight.block.slow_limit, flight_asked_name(c, flight), msg, octets)
    if change.serial == 0:
        return False
    flight.state |= FLIGHT_SLOW
    timers_set(&c.timers, index, flight.deadline_ms)
    return True


cdef bint slow_ask(coordinator_t *c, uint32_t index, const fd_step_t *step) noexcept nogil:
    return put(c, index, SLOW_ASK, step.number, NULL, 0)


cdef bint slow_give(coordinator_t *c, uint32_t index, const uint8_t *msg, uint32_t octets) noexcept nogil:
    cdef change_t *change = &c.changes[c.flights[index].change]
    change.back_count -= 1
    return put(c, index, SLOW_ANSWER, change.back[change.back_count], msg, octets)


cdef uint32_t slow_message(const coordinator_t *c, const question_t *question, const uint8_t *qname,
                           const fd_entry_t *entry, uint8_t *out) noexcept nogil:
    cdef answer_view view
    cdef fd_query_t query
    memset(&query, 0, sizeof(query))
    query.flags = FLAG_RD
    query.qtype = question.qtype
    query.qclass = question.qclass
    query.qname_len = question.qname_len
    query.udp_size = MESSAGE_MAX
    if question.key_flags & FD_KEY_DO:
        query.edns = FD_EDNS_PRESENT | FD_EDNS_DO
    memcpy(out + HEADER_LEN, qname, question.qname_len)
    put_u16(out + HEADER_LEN + question.qname_len, question.qtype)
    put_u16(out + HEADER_LEN + question.qname_len + 2, question.qclass)
    if entry == NULL:
        return compose_error(&query, SERVFAIL, FD_EDE_NONE, out)
    if not entry_view(<const uint8_t *>entry,
                      fd_entry_size(entry.qname_len, entry.ttl_count, entry.records_len), &view):
        return 0
    return compose_reply(&view, &query, out, MESSAGE_MAX, c.now_ms)
