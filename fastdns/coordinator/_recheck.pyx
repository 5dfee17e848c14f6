# SPDX-License-Identifier: Apache-2.0
"""The return of upstreams that were all silent.

After a failed refresh a stale entry is answered at once for 30 s (RFC 8767 section 5), so that a dead
upstream costs names in use nothing. While all upstreams of a `forward` are silent each of them is asked for
the root's NS every 500 ms, as CoreDNS's health checks do. The first answer, to this or to anything, makes
all stale marks void: the next client of each name has it refreshed.

A question may also fail because its name leads a resolver nowhere. Then the upstream answers the first
round, and the marks stay.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from fastdns._proto cimport CLASS_IN, TYPE_NS
from fastdns._shm cimport FD_PLUGIN_FORWARD, FD_Q_ALONE, FD_Q_RD, fd_forward_t, fd_zone
from fastdns._stats cimport FD_C_rechecks, FD_C_upstreams_back, bump
from fastdns.coordinator._inflight cimport inflight_add
from fastdns.coordinator._state cimport (
    NONE,
    RECHECKS,
    coordinator_t,
    flight_t,
    question_t,
    recheck_t,
)
from fastdns.coordinator._store cimport store_void_holds

cdef enum:
    ROUND_MS = 500               # from one question to an upstream to the next
    LOOK_MS = 100
    ROUNDS_SILENT = 2            # begun: the first was answered by nobody


cdef bint looping(const coordinator_t *c, uint32_t block, uint32_t upstream) noexcept nogil:
    return c.looping[block] >> upstream & 1


cdef bint somebody_there(const coordinator_t *c, uint32_t block, const fd_forward_t *forward) noexcept nogil:
    cdef uint32_t i
    for i in range(forward.upstream_count):
        if c.upstreams[forward.upstreams[i]].silences == 0 and not looping(c, block, forward.upstreams[i]):
            return True
    return False


cdef void recheck_begin(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef recheck_t *recheck
    cdef uint32_t place = RECHECKS
    cdef uint32_t i
    if (flight.forward == NULL or flight.block.stale_s == 0 or flight.block.recheck_ms == 0
            or somebody_there(c, flight.block.number, flight.forward)):
        return
    for i in range(<uint32_t>RECHECKS):
        if c.rechecks[i].forward == flight.forward:
            return
        if c.rechecks[i].forward == NULL:
            place = i
    if place == RECHECKS:
        return                   # its marks end by their time
    recheck = &c.rechecks[place]
    memset(recheck, 0, sizeof(recheck_t))
    recheck.forward = flight.forward
    recheck.block = flight.block
    recheck.zone = flight.zone
    c.recheck_count += 1


cdef void back(coordinator_t *c, recheck_t *recheck) noexcept nogil:
    if recheck.rounds >= ROUNDS_SILENT:
        bump(c.counters, FD_C_upstreams_back, 1)
        store_void_holds(c.store)
    recheck.forward = NULL
    c.recheck_count -= 1


cdef uint32_t next_upstream(coordinator_t *c, recheck_t *recheck) noexcept nogil:
    cdef uint32_t upstream = recheck.forward.upstreams[recheck.turn]
    recheck.turn += 1
    if recheck.turn >= recheck.forward.upstream_count:
        recheck.turn = 0
        recheck.rounds = <uint8_t>min(recheck.rounds + 1, <int>ROUNDS_SILENT)
        recheck.due_ms = c.now_ms + ROUND_MS
    return upstream


cdef uint32_t begin(coordinator_t *c, recheck_t *recheck) noexcept nogil:
    cdef uint8_t root = 0
    cdef uint32_t upstream = next_upstream(c, recheck)
    cdef question_t question
    cdef flight_t *flight
    cdef uint32_t index
    if looping(c, recheck.block.number, upstream):
        return NONE
    memset(&question, 0, sizeof(question_t))
    question.qname_len = 1
    question.qtype = TYPE_NS
    question.qclass = CLASS_IN
    question.flags = FD_Q_RD | FD_Q_ALONE
    question.group = fd_zone(c.config, recheck.zone).group
    index = inflight_add(c, &question, &root)
    if index == NONE:
        return NONE              # the table is full: another time
    flight = &c.flights[index]
    flight.zone = recheck.zone
    flight.block = recheck.block
    flight.forward = recheck.forward
    flight.upstream = <uint8_t>upstream
    flight.plugin = FD_PLUGIN_FORWARD
    flight.refused = ~(<uint32_t>1 << upstream)      # the others are asked by themselves
    flight.deadline_ms = c.now_ms + ROUND_MS
    bump(c.counters, FD_C_rechecks, 1)
    return index


cdef uint32_t recheck_next(coordinator_t *c) noexcept nogil:
    cdef recheck_t *recheck
    cdef uint32_t i, index
    if c.recheck_count == 0 or c.now_ms < c.recheck_look_ms:
        return NONE
    for i in range(<uint32_t>RECHECKS):
        recheck = &c.rechecks[i]
        if recheck.forward == NULL:
            continue
        if somebody_there(c, recheck.block.number, recheck.forward):
            back(c, recheck)
        while recheck.forward != NULL and c.now_ms >= recheck.due_ms:
            index = begin(c, recheck)
            if index != NONE:
                return index
    c.recheck_look_ms = c.now_ms + LOOK_MS
    return NONE
