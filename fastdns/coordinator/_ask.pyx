# SPDX-License-Identifier: Apache-2.0
"""A question is put to an upstream, and put again after silence."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._proto cimport EDE_NETWORK_ERROR, EDE_NO_REACHABLE_AUTHORITY, EDE_OTHER
from fastdns._shm cimport (
    FD_ERROR_BUSY,
    FD_ERROR_NO_NEXT,
    FD_ERROR_NO_UPSTREAM,
    FD_ERROR_PLUGIN,
    FD_ERROR_REFUSED,
    FD_ERROR_TIMEOUT,
    FD_PLUGIN_LOOP,
)
from fastdns._stats cimport FD_C_changed_full, FD_C_hedges, FD_C_slow_full, FD_C_upstream_retries, bump
from fastdns.coordinator._conclude cimport conclude_made, fail, refuse
from fastdns.coordinator._cut cimport cut_answer
from fastdns.coordinator._health cimport health_doubt, health_wait_ms
from fastdns.coordinator._policy cimport (
    policy_first,
    policy_hedge,
    policy_hedge_ms,
    policy_next,
    policy_well,
)
from fastdns.coordinator._state cimport (
    ASK_NOWHERE,
    ASK_OK,
    FLIGHT_AHEAD,
    FLIGHT_CHECK,
    FLIGHT_COUNTED,
    FLIGHT_LATE,
    FLIGHT_MAY_HEDGE,
    FLIGHT_NO_EDNS,
    FLIGHT_TCP,
    NONE,
    ask_rc,
    choice_t,
    coordinator_t,
    flight_t,
)
from fastdns.coordinator._table cimport (
    TABLE_ANSWER,
    TABLE_BAD,
    TABLE_BUSY,
    TABLE_FAIL,
    TABLE_FORWARD,
    TABLE_NO_NEXT,
    TABLE_WAIT,
    table_rc,
    table_walk,
)
from fastdns.coordinator._tcp cimport (
    OTHER_NONE,
    OTHER_STANDS,
    TCP_SLOW_MS,
    other_rc,
    tcp_ask,
    tcp_avoid,
    tcp_other,
    tcp_stuck,
    tcp_wait_ms,
)
from fastdns.coordinator._timers cimport timers_set
from fastdns.coordinator._udp cimport udp_ask
from fastdns.coordinator._upstream cimport (
    WAIT_MAX_MS,
    rtt_late,
    upstream_asked,
    upstream_gone,
    upstream_silent,
    upstream_wait_ms,
)

cdef enum:
    SAME_UPSTREAM = 2            # times in a row an upstream is asked before another is; a silent one once


cdef void walk_failed(coordinator_t *c, uint32_t index, table_rc rc) noexcept nogil:
    if rc == TABLE_NO_NEXT:
        fail(c, index, EDE_NO_REACHABLE_AUTHORITY, FD_ERROR_NO_NEXT)
    elif rc == TABLE_FAIL:
        fail(c, index, EDE_OTHER, 0)
    elif rc == TABLE_BAD:
        fail(c, index, EDE_OTHER, FD_ERROR_PLUGIN)
    else:
        bump(c.counters, FD_C_slow_full if rc == TABLE_BUSY else FD_C_changed_full, 1)
        fail(c, index, EDE_OTHER, FD_ERROR_BUSY)


cdef uint32_t barred(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    return 0 if flight.plugin == FD_PLUGIN_LOOP else c.looping[flight.block.number]


cdef bint admit(coordinator_t *c, flight_t *flight) noexcept nogil:
    # Whether its forward's `max_concurrent` leaves room for it. Joined clients are one question.
    cdef choice_t *choice = &c.choices[flight.forward.number]
    cdef uint32_t most = flight.forward.max_concurrent
    if most == 0:
        return True
    if flight.state & FLIGHT_AHEAD:
        most //= 2               # the rest is for what clients wait for
    if choice.under_way >= most:
        return False
    choice.under_way += 1
    flight.state |= FLIGHT_COUNTED
    return True


cdef bint gave_up(coordinator_t *c, flight_t *flight, uint32_t upstream) noexcept nogil:
    health_doubt(c, flight, upstream)
    flight.failed_by = <uint8_t>min(flight.failed_by + 1, 255)
    return flight.forward.max_attempts and flight.failed_by >= flight.forward.max_attempts


cdef void go_on(coordinator_t *c, uint32_t index) noexcept nogil:
    # The steps of its block, as far as one that takes the question.
    cdef flight_t *flight = &c.flights[index]
    cdef table_rc rc = table_walk(c, index)
    cdef uint32_t upstream
    if rc == TABLE_ANSWER:
        conclude_made(c, index)
        return
    if rc == TABLE_WAIT:
        timers_set(&c.timers, index, flight.deadline_ms)
        return
    if rc != TABLE_FORWARD:
        walk_failed(c, index, rc)
        return
    if cut_answer(c, index):
        return
    if not admit(c, flight):
        refuse(c, index)
        return
    flight.refused = barred(c, flight)
    upstream = policy_first(c, flight)
    if upstream == NONE:
        fail(c, index, EDE_NO_REACHABLE_AUTHORITY, FD_ERROR_NO_UPSTREAM)
        return
    flight.upstream = <uint8_t>upstream
    flight.wait_ms = 0
    flight.state |= FLIGHT_MAY_HEDGE
    ask(c, index)


cdef inline bint over_tcp(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    return c.upstreams[flight.upstream].config.force_tcp or flight.state & FLIGHT_TCP


cdef void ask(coordinator_t *c, uint32_t index) noexcept nogil:
    # Put the flight's question to its upstream, or to the next one to which there is a way, and set
    # its timer. What could not be put now (no socket, a full buffer) is tried again after the
    # shortest silence. The flight may be gone afterwards: no upstream could be reached.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t wait_ms = c.config.retry_floor_ms
    cdef ask_rc rc
    while True:
        rc = tcp_ask(c, index) if over_tcp(c, flight) else udp_ask(c, index)
        if rc != ASK_NOWHERE:
            break
        upstream_gone(&c.upstreams[flight.upstream])
        if not turn_away(c, index):
            return
    if rc == ASK_OK and over_tcp(c, flight):
        wait_ms = tcp_wait_ms(&c.upstreams[flight.upstream])
    elif rc == ASK_OK:
        wait_ms = upstream_wait_ms(&c.upstreams[flight.upstream], c.config.retry_floor_ms)
    flight.wait_ms = min(max(wait_ms, 2 * flight.wait_ms), <uint32_t>WAIT_MAX_MS)
    if flight.forward.read_timeout_ms:
        flight.wait_ms = min(flight.wait_ms, flight.forward.read_timeout_ms)
    if flight.state & FLIGHT_CHECK:
        flight.wait_ms = health_wait_ms(c, flight.upstream)
    if rc == ASK_OK:
        upstream_asked(&c.upstreams[flight.upstream], c.now_ms)
    set_timer(c, index, rc == ASK_OK)


cdef void set_timer(coordinator_t *c, uint32_t index, bint asked) noexcept nogil:
    # For its silence; or before that for the time when a second upstream is asked as well.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t wait_ms = flight.wait_ms
    cdef uint32_t hedge_ms = 0
    if flight.state & FLIGHT_MAY_HEDGE and asked and not over_tcp(c, flight):
        hedge_ms = policy_hedge_ms(c, flight)
    if hedge_ms and hedge_ms < wait_ms:
        wait_ms = hedge_ms
    else:
        flight.state &= ~<uint16_t>FLIGHT_MAY_HEDGE
    timers_set(&c.timers, index, min(c.now_ms + wait_ms, flight.deadline_ms))


cdef void hedge(coordinator_t *c, uint32_t index) noexcept nogil:
    # The upstream is later than it mostly is. It stays the flight's; whoever answers first, answers.
    cdef flight_t *flight = &c.flights[index]
    cdef uint8_t first = flight.upstream
    cdef uint16_t form = flight.state & <uint16_t>FLIGHT_NO_EDNS
    cdef uint32_t hedge_ms = policy_hedge_ms(c, flight)
    cdef uint32_t other
    flight.state &= ~<uint16_t>FLIGHT_MAY_HEDGE
    flight.state |= FLIGHT_LATE
    rtt_late(&c.upstreams[first].udp)
    other = policy_hedge(c, flight)
    if other != NONE:
        turn_to(c, index, other)
        if udp_ask(c, index) == ASK_OK:
            bump(c.counters, FD_C_hedges, 1)
            upstream_asked(&c.upstreams[other], c.now_ms)
        turn_to(c, index, first)
        flight.state |= form
    timers_set(&c.timers, index,
               min(c.now_ms + max(flight.wait_ms, hedge_ms + 1) - hedge_ms, flight.deadline_ms))


cdef void ask_at_once(coordinator_t *c, uint32_t index) noexcept nogil:
    # Not after silence: the waiting begins anew.
    c.flights[index].wait_ms = 0
    ask(c, index)


cdef void turn_to(coordinator_t *c, uint32_t index, uint32_t upstream) noexcept nogil:
    # Another upstream may answer over UDP, and may know EDNS.
    cdef flight_t *flight = &c.flights[index]
    flight.upstream = <uint8_t>upstream
    flight.tries = 0
    flight.state &= ~<uint16_t>(FLIGHT_TCP | FLIGHT_NO_EDNS | FLIGHT_MAY_HEDGE)


cdef void last_wait(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    if flight.forward.read_timeout_ms:
        flight.deadline_ms = min(flight.deadline_ms, c.now_ms + flight.forward.read_timeout_ms)
    timers_set(&c.timers, index, flight.deadline_ms)


cdef bint turn_away(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t other
    flight.failures = min(flight.failures + 1, 0xff)
    flight.refused |= <uint32_t>1 << flight.upstream
    other = policy_next(c, flight)
    if gave_up(c, flight, flight.upstream) or (other == NONE and flight.failures >= FAILURES_MAX):
        fail(c, index, EDE_NETWORK_ERROR, FD_ERROR_REFUSED)
        return False
    if other == NONE:
        # Behind a service's address another port may lead to another server, which is there.
        flight.refused = barred(c, flight)
    elif other != flight.upstream:
        turn_to(c, index, other)
    return True


cdef void wait_on(coordinator_t *c, uint32_t index) noexcept nogil:
    timers_set(&c.timers, index, min(c.now_ms + c.flights[index].wait_ms, c.flights[index].deadline_ms))


cdef void ask_tcp_again(coordinator_t *c, uint32_t index) noexcept nogil:
    # TCP repeats lost packets by itself. What is asked again is what waits behind another's answer, or
    # on a connection whose other end is gone; and after a second whatever has no answer.
    cdef flight_t *flight = &c.flights[index]
    cdef bint slow = True
    cdef uint32_t next_upstream
    cdef other_rc other
    if flight.attempts != NONE:
        slow = <uint32_t>c.now_us - c.attempts[flight.attempts].sent_us >= <uint32_t>TCP_SLOW_MS * 1000
    if not slow and not tcp_stuck(c, flight):
        wait_on(c, index)
        return
    tcp_avoid(c, flight)
    other = tcp_other(c, flight)
    if slow or other != OTHER_STANDS:
        upstream_silent(&c.upstreams[flight.upstream])
        if slow:
            health_doubt(c, flight, flight.upstream)
        next_upstream = policy_next(c, flight)
        if next_upstream != NONE and next_upstream != flight.upstream:
            if gave_up(c, flight, flight.upstream):
                last_wait(c, index)
                return
            turn_to(c, index, next_upstream)
        elif other == OTHER_NONE:
            wait_on(c, index)
            return
    bump(c.counters, FD_C_upstream_retries, 1)
    ask(c, index)


cdef inline bint nowhere(const flight_t *flight) noexcept nogil:
    # Nothing is to be said of an upstream, and it may have none: the Python thread has it, or it waits for
    # another flight's answer, or there was no socket for it.
    return flight.attempts == NONE and flight.losses == 0


cdef void out_of_time(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    if nowhere(flight):
        fail(c, index, EDE_OTHER, FD_ERROR_BUSY)
        return
    if not flight.state & FLIGHT_CHECK:
        upstream_silent(&c.upstreams[flight.upstream])
        health_doubt(c, flight, flight.upstream)
    fail(c, index, EDE_NO_REACHABLE_AUTHORITY, FD_ERROR_TIMEOUT)


cdef void ask_elsewhere(coordinator_t *c, uint32_t index) noexcept nogil:
    # It could not be put, for want of a socket or of room: the next upstream's may be there (ports are taken by
    # address), and nothing is held against this one.
    cdef uint32_t other = policy_next(c, &c.flights[index])
    if other != NONE and other != c.flights[index].upstream:
        turn_to(c, index, other)
    ask(c, index)


cdef void ask_again(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t next_upstream
    if c.now_ms >= flight.deadline_ms:
        out_of_time(c, index)
        return
    if flight.state & FLIGHT_MAY_HEDGE:
        hedge(c, index)
        return
    if flight.state & FLIGHT_CHECK:
        if over_tcp(c, flight):
            tcp_avoid(c, flight)
        ask(c, index)
        return
    flight.tries += 1
    if nowhere(flight):
        ask_elsewhere(c, index)
        return
    if over_tcp(c, flight):
        ask_tcp_again(c, index)
        return
    upstream_silent(&c.upstreams[flight.upstream])
    if flight.tries < SAME_UPSTREAM and policy_well(c, flight):
        next_upstream = flight.upstream
    else:
        next_upstream = policy_next(c, flight)
    if (flight.tries >= SAME_UPSTREAM or next_upstream != flight.upstream) and gave_up(c, flight, flight.upstream):
        # As many have failed it as may: what was asked has the rest of its time.
        last_wait(c, index)
        return
    if next_upstream == NONE:
        next_upstream = flight.upstream
    if next_upstream != flight.upstream:
        turn_to(c, index, next_upstream)
    bump(c.counters, FD_C_upstream_retries, 1)
    ask(c, index)
