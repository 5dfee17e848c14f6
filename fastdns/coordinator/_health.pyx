# SPDX-License-Identifier: Apache-2.0
"""Health checks: an upstream at which a question failed is asked for its NS of `.`, again and again until it
answers, whatever the answer is (corefile.md 2.2). Answers to clients' questions clear it as well.

While upstreams are silent stale answers are given at once for 30 s (RFC 8767 section 5), and failures are
kept (RFC 9520). Both end when one of those upstreams is back. It was away if

    the kernel said that nobody is there; or
    a check was not answered as soon as its other answers are; or
    it was silent four times in a row and nobody checks it (`max_fails 0`).

An upstream that answers its first check at once was there all the time: only a name leads it nowhere, and
what is kept of that name stays.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._proto cimport CLASS_IN, TYPE_NS
from fastdns._shm cimport FD_FORWARD_CHECK_NO_RD, FD_Q_ALONE, FD_Q_RD, fd_at, fd_zone
from fastdns._stats cimport FD_C_upstreams_back, bump
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
    upstream_t,
)
from fastdns.coordinator._store cimport store_void_holds
from fastdns.coordinator._upstream cimport (
    GONE,
    SILENCES,
    WAIT_MAX_MS,
    rtt_wait_us,
    upstream_answered,
    upstream_way,
)

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


cdef uint32_t interval_ms(const coordinator_t *c, uint32_t upstream) noexcept nogil:
    # Its return is to be seen within 1 s where something waits for it, whatever `health_check` says.
    cdef uint32_t interval = max(c.upstreams[upstream].check.options.check_ms, <uint32_t>CHECK_MIN_MS)
    return min(interval, <uint32_t>CHECK_AGAIN_MS) if c.awaited >> upstream & 1 else interval


cdef uint32_t health_wait_ms(const coordinator_t *c, uint32_t upstream) noexcept nogil:
    return CHECK_AGAIN_MS if interval_ms(c, upstream) <= CHECK_AGAIN_MS else CHECK_WAIT_MS


cdef uint32_t begin(coordinator_t *c, uint32_t upstream) noexcept nogil:
    cdef check_t *check = &c.upstreams[upstream].check
    cdef question_t question
    cdef flight_t *flight
    cdef uint32_t index
    check.due_ms = c.now_ms + interval_ms(c, upstream)
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
    if check.since_ms == 0:
        check.since_ms = c.now_ms
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


# --- the return ---


cdef bint was_away(upstream_t *upstream, uint64_t now_ms) noexcept nogil:
    # To be asked before its answer is measured.
    cdef uint64_t wait_ms = rtt_wait_us(upstream_way(upstream), 0) // 1000
    if upstream.silences == GONE:
        return True
    if upstream.check.options == NULL:
        return upstream.silences == SILENCES
    wait_ms = min(max(wait_ms, <uint64_t>AWAY_MS), <uint64_t>WAIT_MAX_MS)
    return upstream.check.since_ms != 0 and now_ms - upstream.check.since_ms > wait_ms


cdef void health_answered(coordinator_t *c, uint32_t upstream) noexcept nogil:
    if was_away(&c.upstreams[upstream], c.now_ms):
        c.back_ms = c.now_ms
        if c.awaited >> upstream & 1:
            bump(c.counters, FD_C_upstreams_back, 1)
            store_void_holds(c.store)
            c.awaited = 0        # nothing is kept any more, whoever's silence it was for
    c.awaited &= ~(<uint32_t>1 << upstream)
    upstream_answered(&c.upstreams[upstream])


cdef bint health_await(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef bint silent = False
    cdef check_t *check
    cdef uint32_t upstream, i
    if flight.forward == NULL:
        return False
    for i in range(flight.forward.upstream_count):
        upstream = flight.forward.upstreams[i]
        if c.upstreams[upstream].silences == 0:
            continue
        silent = True
        c.awaited |= <uint32_t>1 << upstream
        check = &c.upstreams[upstream].check
        check.due_ms = min(check.due_ms, c.now_ms + CHECK_AGAIN_MS)
        if check.state == CHECK_DUE:
            c.check_due_ms = min(c.check_due_ms, check.due_ms)
    return silent


cdef bint health_just_back(const coordinator_t *c) noexcept nogil:
    return c.now_ms < c.back_ms + c.config.question_deadline_ms
