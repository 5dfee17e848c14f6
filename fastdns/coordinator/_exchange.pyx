# SPDX-License-Identifier: Apache-2.0
"""The life of a question.

    taken from a ring (_take) -- joined to one under way, or
        asked (_ask) -- response --> judged, stored, handed on (_conclude)
          |  `-- truncated --> the same upstream over TCP
          |  `-- OPT not understood --> the same upstream without it
          |  `-- rcode of `failover` --> each of the other upstreams
          |  `-- rcode of `next`, NODATA --> the forward behind
          |  `-- SERVFAIL and the like --> another upstream, once
          |  `-- nobody there --> another upstream; none left: all of them again from other ports
          |  `-- TCP connection lost --> another one
          `-- silence --> another port or connection, then another upstream, waiting longer each time
    4 s in all (question_deadline_ms), then failure
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from fastdns._name cimport get_u16
from fastdns._proto cimport (
    BADVERS,
    FLAG_QR,
    FLAG_RCODE,
    FLAG_TC,
    FORMERR,
    HEADER_LEN,
    NOERROR,
    NOTIMP,
    REFUSED,
    SERVFAIL,
)
from fastdns._response cimport RESPONSE_NXDOMAIN, RESPONSE_OK, parse_response, response_matches, response_t
from fastdns._shm cimport FD_FORWARD_NODATA_NEXT, FD_STEP_FORWARD, fd_at, fd_forward_t, fd_step_t
from fastdns._stats cimport FD_C_upstream_malformed, FD_C_upstream_mismatched, FD_C_upstream_truncated, bump
from fastdns.coordinator._ahead cimport ahead_next
from fastdns.coordinator._ask cimport ask, ask_again, ask_at_once, go_on, turn_to
from fastdns.coordinator._channels cimport channel_is_tcp, channel_upstream
from fastdns.coordinator._conclude cimport conclude, conclude_made
from fastdns.coordinator._cut cimport cut_learn, cut_next
from fastdns.coordinator._hand cimport hand_clear
from fastdns.coordinator._health cimport health_answered, health_next, health_passed
from fastdns.coordinator._inflight cimport (
    attempt_find,
    attempt_remove,
    flight_asked,
    flight_asked_name,
    flight_qname,
    flight_uncount,
    hand_take_flight,
)
from fastdns.coordinator._policy cimport policy_next
from fastdns.coordinator._probe cimport probe_next
from fastdns.coordinator._report cimport count_exchange
from fastdns.coordinator._state cimport (
    FLIGHT_CHECK,
    FLIGHT_LATE,
    FLIGHT_NO_EDNS,
    FLIGHT_REFUSED,
    FLIGHT_SLOW,
    FLIGHT_TCP,
    NONE,
    coordinator_t,
    flight_t,
    upstream_t,
)
from fastdns.coordinator._timers cimport timers_clear
from fastdns.coordinator._upstream cimport rtt_checked, rtt_measured

cdef extern from "_crash.h" nogil:
    void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len) noexcept


cdef void exchange_silence(coordinator_t *c, uint32_t index) noexcept nogil:
    hand_take_flight(c, index)
    fd_debug_crash("late", flight_qname(c, &c.flights[index]), c.flights[index].question.qname_len)
    ask_again(c, index)
    hand_clear(&c.post.in_hand)


# --- answered ---


cdef bint edns_refused(const flight_t *flight, const uint8_t *msg, uint32_t octets) noexcept nogil:
    # FORMERR from a server that doesn't know OPT may come as a bare header (RFC 6891 s7): too
    # little to be held against the question, and enough to ask once more without.
    return (octets == HEADER_LEN and not flight.state & FLIGHT_NO_EDNS and get_u16(msg + 4) == 0
            and get_u16(msg + 2) & FLAG_QR
            and (get_u16(msg + 2) & FLAG_RCODE == FORMERR or get_u16(msg + 2) & FLAG_RCODE == NOTIMP))


cdef inline bint truncated(uint32_t channel, const uint8_t *msg) noexcept nogil:
    # Whatever else stands in it, perhaps half a record: it is asked for over TCP (RFC 2181 s9). A response over
    # TCP is all that there is.
    return not channel_is_tcp(channel) and get_u16(msg + 2) & (FLAG_QR | FLAG_TC) == (FLAG_QR | FLAG_TC)


cdef void exchange_response(coordinator_t *c, uint32_t channel, const uint8_t *msg, uint32_t octets,
                            bint cut) noexcept nogil:
    cdef uint32_t attempt = NONE
    cdef uint32_t index
    cdef uint16_t id
    cdef flight_t *flight
    if octets >= HEADER_LEN:
        memcpy(&id, msg, 2)
        attempt = attempt_find(c, channel, id)
    if attempt == NONE:
        bump(c.counters, FD_C_upstream_mismatched, 1)
        return
    index = c.attempts[attempt].flight
    flight = &c.flights[index]
    cut = cut or truncated(channel, msg)
    hand_take_flight(c, index)
    fd_debug_crash("response", flight_qname(c, flight), flight.question.qname_len)
    if edns_refused(flight, msg, octets):
        without_edns(c, index, attempt)
    elif not response_matches(msg, octets, flight_asked_name(c, flight), flight_asked(c, flight).qname_len,
                              flight_asked(c, flight).qtype, flight_asked(c, flight).qclass):
        bump(c.counters, FD_C_upstream_mismatched, 1)
        bump(&c.post.block_series[flight.block.number].drops, 0, 1)
    elif not cut and parse_response(msg, octets, c.response) != RESPONSE_OK:
        bump(c.counters, FD_C_upstream_malformed, 1)
    elif flight.state & FLIGHT_CHECK:
        checked(c, index, attempt)
    else:
        answered(c, index, attempt, msg, cut)
    hand_clear(&c.post.in_hand)


cdef void checked(coordinator_t *c, uint32_t index, uint32_t attempt) noexcept nogil:
    # Whatever it says, somebody is there. It is none of the clients' exchanges, and not counted among them.
    cdef uint32_t channel = c.attempts[attempt].channel
    cdef upstream_t *upstream = &c.upstreams[channel_upstream(channel)]
    health_answered(c, channel_upstream(channel))
    rtt_checked(&upstream.tcp if channel_is_tcp(channel) else &upstream.udp,
                <uint32_t>c.now_us - c.attempts[attempt].sent_us)
    health_passed(c, index)


cdef void answered(coordinator_t *c, uint32_t index, uint32_t attempt, const uint8_t *msg,
                   bint cut) noexcept nogil:
    # The answer to one attempt, well-formed unless it was cut: it came over UDP, and only its header and question
    # are good. Decide whether it is the flight's.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t channel = c.attempts[attempt].channel
    cdef uint32_t upstream = channel_upstream(channel)
    cdef bint tcp = channel_is_tcp(channel)
    cdef uint32_t time_us = <uint32_t>c.now_us - c.attempts[attempt].sent_us
    health_answered(c, upstream)
    count_exchange(c, upstream, time_us, get_u16(msg + 2) & FLAG_RCODE if cut else c.response.rcode)
    rtt_measured(&c.upstreams[upstream].tcp if tcp else &c.upstreams[upstream].udp, time_us,
                 flight.state & FLIGHT_LATE and upstream == flight.upstream)
    if cut:
        bump(c.counters, FD_C_upstream_truncated, 1)
        forget_attempts(c, flight, upstream)
        if flight.upstream != upstream:
            turn_to(c, index, upstream)
        flight.state |= FLIGHT_TCP
        ask_at_once(c, index)
        return
    if fails_over(flight.forward, c.response) and failed_over(c, index, attempt):
        return
    if goes_next(c, flight):
        hand_over(c, index)
        return
    if refuses(c.response):
        if (c.response.opt_off == 0 and c.response.rcode != SERVFAIL and c.response.rcode != REFUSED
                and not flight.state & FLIGHT_NO_EDNS):
            without_edns(c, index, attempt)
            return
        if another_asked(c, index, attempt):
            return
    if c.response.kind == RESPONSE_NXDOMAIN:
        cut_learn(c, index)
    conclude(c, index, msg)


cdef inline bint lists(uint32_t rcodes, uint16_t rcode) noexcept nogil:
    return rcode < 32 and rcodes >> rcode & 1


cdef inline bint fails_over(const fd_forward_t *forward, const response_t *response) noexcept nogil:
    return lists(forward.failover_rcodes, response.rcode)


cdef bint failed_over(coordinator_t *c, uint32_t index, uint32_t attempt) noexcept nogil:
    # Whether one of those who have not said so yet is asked now, or was. The last one's answer is the answer.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t upstream = channel_upstream(c.attempts[attempt].channel)
    cdef uint32_t other = flight.upstream
    flight.refused |= <uint32_t>1 << upstream
    if flight.upstream == upstream:
        other = policy_next(c, flight)
    if other == NONE or flight.refused >> other & 1:
        return False
    forget_attempts(c, flight, upstream)
    if flight.upstream != other:
        turn_to(c, index, other)
        ask_at_once(c, index)
    return True


cdef bint goes_next(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    # Whether the answer is one on which the forward right behind this one is asked.
    cdef const fd_forward_t *forward = flight.forward
    cdef const fd_step_t *steps
    if not (lists(forward.next_rcodes, c.response.rcode)
            or (forward.flags & FD_FORWARD_NODATA_NEXT and c.response.rcode == NOERROR
                and c.response.ancount == 0)):
        return False
    steps = <const fd_step_t *>fd_at(c.config, flight.block.steps.off)
    return flight.step < flight.block.steps.count and steps[flight.step].kind == FD_STEP_FORWARD


cdef void hand_over(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    while flight.attempts != NONE:
        attempt_remove(c, flight.attempts)
    flight_uncount(c, flight)
    flight.tries = flight.failures = flight.losses = flight.failed_by = 0
    flight.state &= ~<uint16_t>(FLIGHT_TCP | FLIGHT_NO_EDNS | FLIGHT_REFUSED | FLIGHT_LATE)
    go_on(c, index)


cdef inline bint refuses(const response_t *response) noexcept nogil:
    # Says more of the upstream than of the name: another may know better.
    return (response.rcode == SERVFAIL or response.rcode == REFUSED or response.rcode == FORMERR
            or response.rcode == NOTIMP or response.rcode == BADVERS)


cdef void forget_attempts(coordinator_t *c, flight_t *flight, uint32_t upstream) noexcept nogil:
    # What this upstream said once it will say again to the attempts that repeated the question.
    cdef uint32_t attempt = flight.attempts
    cdef uint32_t sibling
    while attempt != NONE:
        sibling = c.attempts[attempt].sibling
        if channel_upstream(c.attempts[attempt].channel) == upstream:
            attempt_remove(c, attempt)
        attempt = sibling


cdef void without_edns(coordinator_t *c, uint32_t index, uint32_t attempt) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t upstream = channel_upstream(c.attempts[attempt].channel)
    forget_attempts(c, flight, upstream)
    if flight.upstream != upstream:
        turn_to(c, index, upstream)
    flight.state |= FLIGHT_NO_EDNS
    ask_at_once(c, index)


cdef bint another_asked(coordinator_t *c, uint32_t index, uint32_t attempt) noexcept nogil:
    # Whether the question goes on at another upstream, or is under way there.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t upstream = channel_upstream(c.attempts[attempt].channel)
    cdef uint32_t other
    if flight.state & FLIGHT_REFUSED:
        return False
    if flight.upstream != upstream:
        other = flight.upstream
    else:
        other = policy_next(c, flight)
    if other == upstream or other == NONE:
        return False
    flight.state |= FLIGHT_REFUSED
    forget_attempts(c, flight, upstream)
    if flight.upstream != other:
        turn_to(c, index, other)
        ask_at_once(c, index)
    return True


cdef void exchange_resume(coordinator_t *c, uint32_t index) noexcept nogil:
    c.flights[index].state &= ~<uint16_t>FLIGHT_SLOW
    timers_clear(&c.timers, index)
    hand_take_flight(c, index)
    go_on(c, index)
    hand_clear(&c.post.in_hand)


cdef void exchange_made(coordinator_t *c, uint32_t index) noexcept nogil:
    c.flights[index].state &= ~<uint16_t>FLIGHT_SLOW
    hand_take_flight(c, index)
    conclude_made(c, index)
    hand_clear(&c.post.in_hand)


cdef void ask_own(coordinator_t *c, uint32_t index) noexcept nogil:
    hand_take_flight(c, index)
    ask(c, index)
    hand_clear(&c.post.in_hand)


cdef void walk_own(coordinator_t *c, uint32_t index) noexcept nogil:
    hand_take_flight(c, index)
    go_on(c, index)
    hand_clear(&c.post.in_hand)


cdef void exchange_own(coordinator_t *c) noexcept nogil:
    cdef uint32_t index = probe_next(c)
    while index != NONE:         # each probe is due once
        ask_own(c, index)
        index = probe_next(c)
    index = health_next(c)
    while index != NONE:         # of each upstream at most one
        ask_own(c, index)
        index = health_next(c)
    index = cut_next(c)
    while index != NONE:         # a look asks for each ancestor once
        walk_own(c, index)
        index = cut_next(c)
    index = ahead_next(c)
    while index != NONE:         # an entry is due once, and few are under way
        walk_own(c, index)
        index = ahead_next(c)
