# SPDX-License-Identifier: Apache-2.0
"""Health checks: an upstream at which a question failed is asked for its NS of `.`, again and again until it
answers, whatever the answer is (corefile.md 2.2). Answers to clients' questions clear it as well."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._proto cimport CLASS_IN, TYPE_NS
from fastdns._shm cimport FD_FORWARD_CHECK_NO_RD, FD_Q_ALONE, FD_Q_RD, fd_at, fd_zone
from fastdns.coordinator._inflight cimport flight_begin, inflight_remove
from fastdns.coordinator._report cimport count_failed_check
from fastdns.coordinator._state cimport (
    FLIGHT_CHECK,
    FLIGHT_NO_EDNS,
    NONE,
    check_t,
    coordinator_t,
    flight_t,
    question_t,
)
from fastdns.coordinator._upstream cimport upstream_answered

cdef enum:                       # check_t.state
    CHECK_NONE = 0
    CHECK_DUE = 1                # at due_ms
    CHECK_ASKED = 2


cdef void set_due(coordinator_t *c, check_t *check, uint64_t due_ms) noexcept nogil:
    check.state = CHECK_DUE
    check.due_ms = due_ms
    c.check_due_ms = min(c.check_due_ms, due_ms)


cdef void health_doubt(coordinator_t *c, const flight_t *flight, uint32_t upstream) noexcept nogil:
    cdef check_t *check = &c.upstreams[upstream].check
    if flight.forward.max_fails == 0 or check.state != CHECK_NONE:
        return
    check.options = flight.forward
    check.zone = flight.zone
    memset(&check.forward, 0, sizeof(check.forward))
    check.forward.upstream_count = 1
    check.forward.upstreams[0] = <uint8_t>upstream
    if not c.checking:
        c.check_due_ms = c.now_ms
    c.checking |= <uint32_t>1 << upstream
    # due_ms is still that of the last one: a check that passed doesn't make room for one with each failure.
    set_due(c, check, max(c.now_ms, check.due_ms))


cdef uint32_t begin(coordinator_t *c, uint32_t upstream) noexcept nogil:
    cdef check_t *check = &c.upstreams[upstream].check
    cdef question_t question
    cdef flight_t *flight
    cdef uint32_t index
    check.due_ms = c.now_ms + max(check.options.check_ms, <uint32_t>CHECK_MIN_MS)
    memset(&question, 0, sizeof(question_t))
    question.qname_len = check.options.check_len
    question.qtype = TYPE_NS
    question.qclass = CLASS_IN
    question.flags = FD_Q_ALONE | (0 if check.options.flags & FD_FORWARD_CHECK_NO_RD else FD_Q_RD)
    question.group = fd_zone(c.config, check.zone).group
    index = flight_begin(c, &question, <const uint8_t *>fd_at(c.config, check.options.check_off), check.zone,
                         c.now_ms + CHECK_WAIT_MS)
    if index == NONE:
        return NONE              # the table is full: another time
    check.state = CHECK_ASKED
    c.checks_asked += 1
    flight = &c.flights[index]
    flight.state |= <uint16_t>(FLIGHT_CHECK | FLIGHT_NO_EDNS)
    flight.forward = &check.forward
    flight.upstream = <uint8_t>upstream
    return index


cdef uint32_t health_next(coordinator_t *c) noexcept nogil:
    cdef check_t *check
    cdef uint64_t next_ms = <uint64_t>0xffffffffffffffff
    cdef uint32_t i, index
    if c.checking == 0 or c.now_ms < c.check_due_ms:
        return NONE
    for i in range(c.upstream_count):
        check = &c.upstreams[i].check
        if check.state == CHECK_DUE and c.now_ms >= check.due_ms:
            index = begin(c, i)
            if index != NONE:
                return index
        if check.state == CHECK_DUE:
            next_ms = min(next_ms, check.due_ms)
    c.check_due_ms = next_ms
    return NONE


cdef void health_passed(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef uint32_t upstream = c.flights[index].upstream
    upstream_answered(&c.upstreams[upstream])
    c.upstreams[upstream].check.state = CHECK_NONE
    c.checking &= ~(<uint32_t>1 << upstream)
    c.checks_asked -= 1
    inflight_remove(c, index)


cdef void health_failed(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef uint32_t upstream = c.flights[index].upstream
    cdef check_t *check = &c.upstreams[upstream].check
    check.fails += 1
    count_failed_check(c, upstream)
    set_due(c, check, max(c.now_ms, check.due_ms))
    c.checks_asked -= 1
    inflight_remove(c, index)
