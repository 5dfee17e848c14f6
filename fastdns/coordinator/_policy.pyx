# SPDX-License-Identifier: Apache-2.0
"""Whom to ask: CoreDNS's policies, and `fastest`; who lags behind; whom to ask as well.

An order is a list of places among the forward's upstreams, 4 bits each, the first in the lowest bits.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._memory cimport fd_take
from fastdns._shm cimport (
    FD_FORWARD_FAILFAST,
    FD_FORWARD_UPSTREAMS,
    FD_POLICY_FASTEST,
    FD_POLICY_RANDOM,
    FD_POLICY_ROUND_ROBIN,
    FD_STEP_FORWARD,
    fd_at,
    fd_block,
    fd_forward_t,
    fd_step_t,
)
from fastdns._stats cimport FD_C_all_down, bump
from fastdns.coordinator._health cimport health_doubt
from fastdns.coordinator._random cimport random16
from fastdns.coordinator._state cimport NONE, choice_t, coordinator_t, flight_t, upstream_t
from fastdns.coordinator._upstream cimport PROBE_MS, SILENCES, upstream_takes_us, upstream_way

cdef enum:                       # how an upstream fares, the best first
    FARES_WELL = 0
    FARES_SLOWLY = 1             # it lags behind the quickest
    FARES_SILENT = 2             # SILENCES in a row
    FARES_DOWN = 3               # more than `max_fails` health checks in a row
    FARES = 4


cdef bint policy_open(coordinator_t *c) noexcept nogil:
    cdef const fd_step_t *steps
    cdef const fd_forward_t *forward
    cdef uint32_t count = 1
    cdef uint32_t number, i
    for number in range(c.config.blocks.count):
        steps = <const fd_step_t *>fd_at(c.config, fd_block(c.config, number).steps.off)
        for i in range(fd_block(c.config, number).steps.count):
            if steps[i].kind == FD_STEP_FORWARD:
                forward = <const fd_forward_t *>fd_at(c.config, steps[i].argument)
                count = max(count, <uint32_t>forward.number + 1)
    c.choices = <choice_t *>fd_take(count * sizeof(choice_t), 0)
    return c.choices != NULL


# --- orders ---


cdef inline uint32_t at(uint64_t order, uint32_t i) noexcept nogil:
    return <uint32_t>(order >> (4 * i)) & 15


cdef inline uint64_t as_written() noexcept nogil:
    return <uint64_t>0xfedcba9876543210


cdef uint64_t pack(const uint8_t *places, uint32_t count) noexcept nogil:
    cdef uint64_t order = 0
    cdef uint32_t i
    for i in range(count):
        order |= <uint64_t>places[i] << (4 * i)
    return order


cdef uint64_t random_order(coordinator_t *c, uint32_t count) noexcept nogil:
    # Fisher and Yates.
    cdef uint8_t[FD_FORWARD_UPSTREAMS] places
    cdef uint32_t left = count
    cdef uint32_t i, chosen
    for i in range(count):
        places[i] = <uint8_t>i
    while left > 1:
        chosen = random16(&c.random) % left
        left -= 1
        places[left], places[chosen] = places[chosen], places[left]
    return pack(places, count)


cdef uint64_t turn_order(choice_t *choice, uint32_t count) noexcept nogil:
    # As CoreDNS: the second one first of all, those behind the first in the order of the text.
    cdef uint32_t first
    cdef uint64_t before
    choice.turn += 1
    first = choice.turn % count
    before = as_written() & ((<uint64_t>1 << (4 * first)) - 1)
    return (as_written() & ~((<uint64_t>16 << (4 * first)) - 1)) | before << 4 | first


cdef uint64_t fastest_order(coordinator_t *c, const fd_forward_t *forward) noexcept nogil:
    # By insertion: there are 16 at most. One that has not answered yet stands first, to be measured.
    cdef uint8_t[FD_FORWARD_UPSTREAMS] places
    cdef uint32_t i, k, srtt_us
    for i in range(forward.upstream_count):
        srtt_us = upstream_way(&c.upstreams[forward.upstreams[i]]).srtt_us
        k = i
        while k and upstream_way(&c.upstreams[forward.upstreams[places[k - 1]]]).srtt_us > srtt_us:
            places[k] = places[k - 1]
            k -= 1
        places[k] = <uint8_t>i
    return pack(places, forward.upstream_count)


cdef uint64_t make_order(coordinator_t *c, const fd_forward_t *forward) noexcept nogil:
    if forward.upstream_count < 2:
        return 0
    if forward.policy == FD_POLICY_RANDOM:
        return random_order(c, forward.upstream_count)
    if forward.policy == FD_POLICY_ROUND_ROBIN:
        return turn_order(&c.choices[forward.number], forward.upstream_count)
    if forward.policy == FD_POLICY_FASTEST:
        return fastest_order(c, forward)
    return as_written()


# --- choosing ---


cdef uint32_t lag_us(coordinator_t *c, const fd_forward_t *forward) noexcept nogil:
    # An upstream that takes longer than this lags behind the quickest.
    cdef uint32_t quickest = 0
    cdef uint32_t srtt_us, i
    for i in range(forward.upstream_count):
        srtt_us = upstream_way(&c.upstreams[forward.upstreams[i]]).srtt_us
        if srtt_us and c.upstreams[forward.upstreams[i]].silences == 0:
            quickest = min(srtt_us, quickest) if quickest else srtt_us
    if quickest == 0:
        return 0xffffffff
    return max(LAG_TIMES * quickest, quickest + <uint32_t>LAG_MS * 1000)


cdef uint32_t fares(coordinator_t *c, const fd_forward_t *forward, uint32_t upstream,
                    uint32_t slow_us) noexcept nogil:
    if forward.max_fails and c.upstreams[upstream].check.fails > forward.max_fails:
        return FARES_DOWN
    if c.upstreams[upstream].silences >= SILENCES:
        return FARES_SILENT
    return FARES_SLOWLY if upstream_takes_us(&c.upstreams[upstream], c.now_ms) > slow_us else FARES_WELL


cdef bint policy_well(coordinator_t *c, const flight_t *flight) noexcept nogil:
    return fares(c, flight.forward, flight.upstream, lag_us(c, flight.forward)) == FARES_WELL


cdef void compare(coordinator_t *c, const flight_t *flight, uint32_t slow_us) noexcept nogil:
    # Once a second those that get no questions are measured by a check.
    cdef const fd_forward_t *forward = flight.forward
    cdef choice_t *choice = &c.choices[forward.number]
    cdef uint32_t number, i
    if c.now_ms < choice.compare_ms:
        return
    choice.compare_ms = c.now_ms + PROBE_MS
    for i in range(forward.upstream_count):
        number = forward.upstreams[i]
        if (not flight.refused >> number & 1
                and (forward.policy == FD_POLICY_FASTEST or fares(c, forward, number, slow_us) != FARES_WELL)):
            health_doubt(c, flight, number)


cdef bint probe_due(coordinator_t *c, const fd_forward_t *forward, upstream_t *upstream) noexcept nogil:
    # Without health checks it is a question now and then that finds out whether a silent upstream is back.
    if forward.max_fails or c.now_ms < upstream.probe_ms:
        return False
    upstream.probe_ms = c.now_ms + PROBE_MS
    return True


cdef uint32_t all_down(coordinator_t *c, const flight_t *flight) noexcept nogil:
    # It may be the checks that fail. As CoreDNS: anyone of them, unless the text says that nobody is asked.
    cdef const fd_forward_t *forward = flight.forward
    cdef uint64_t order = random_order(c, forward.upstream_count)
    cdef uint32_t number, i
    bump(c.counters, FD_C_all_down, 1)
    if not forward.flags & FD_FORWARD_FAILFAST:
        for i in range(forward.upstream_count):
            number = forward.upstreams[at(order, i)]
            if not flight.refused >> number & 1:
                return number
    return NONE


cdef uint32_t policy_first(coordinator_t *c, flight_t *flight) noexcept nogil:
    cdef const fd_forward_t *forward = flight.forward
    cdef uint32_t best = NONE
    cdef uint32_t best_fares = FARES
    cdef uint32_t number, how, slow_us, i
    flight.order = make_order(c, forward)
    if forward.upstream_count == 1:
        slow_us = 0xffffffff
    else:
        slow_us = lag_us(c, forward)
        compare(c, flight, slow_us)
        c.choices[forward.number].credit = min(c.choices[forward.number].credit + 1,
                                               <uint32_t>HEDGE_BURST * HEDGE_SHARE)
    for i in range(forward.upstream_count):
        number = forward.upstreams[at(flight.order, i)]
        if flight.refused >> number & 1:
            continue
        how = fares(c, forward, number, slow_us)
        if (how == FARES_SILENT or how == FARES_SLOWLY) and probe_due(c, forward, &c.upstreams[number]):
            return number
        if how < best_fares:
            best, best_fares = number, how
        if how == FARES_WELL:
            break
    return all_down(c, flight) if best_fares == FARES_DOWN else best


cdef uint32_t policy_next(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef const fd_forward_t *forward = flight.forward
    cdef uint32_t count = forward.upstream_count
    cdef uint32_t place = 0
    cdef uint32_t best = NONE
    cdef uint32_t best_fares = FARES
    cdef uint32_t slow_us = lag_us(c, forward)
    cdef uint32_t number, how, _i
    while place < count and forward.upstreams[at(flight.order, place)] != flight.upstream:
        place += 1
    for _i in range(count):
        place = place + 1 if place + 1 < count else 0
        number = forward.upstreams[at(flight.order, place)]
        if flight.refused >> number & 1:
            continue
        how = fares(c, forward, number, slow_us)
        if how < best_fares:
            best, best_fares = number, how
    return best


# --- hedging ---


cdef uint32_t policy_hedge_ms(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef uint32_t late_us = c.upstreams[flight.upstream].udp.late_us
    if flight.forward.upstream_count < 2 or late_us == 0:
        return 0
    return max((late_us + 999) // 1000, <uint32_t>HEDGE_MIN_MS)


cdef uint32_t policy_hedge(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef choice_t *choice = &c.choices[flight.forward.number]
    cdef uint32_t other = policy_next(c, flight)
    # Only over UDP: TCP has other connections for it, and what is encrypted does not leave as it is.
    if (choice.credit < HEDGE_SHARE or other == NONE or other == flight.upstream
            or c.upstreams[other].config.force_tcp
            or fares(c, flight.forward, other, lag_us(c, flight.forward)) != FARES_WELL):
        return NONE
    choice.credit -= HEDGE_SHARE
    return other
