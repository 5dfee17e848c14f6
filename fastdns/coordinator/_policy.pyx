# SPDX-License-Identifier: Apache-2.0
"""Whom to ask: CoreDNS's policies, and `fastest`.

An order is a list of places among the forward's upstreams, 4 bits each, the first in the lowest bits.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._memory cimport fd_take
from fastdns._shm cimport (
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
from fastdns.coordinator._random cimport random16
from fastdns.coordinator._state cimport NONE, choice_t, coordinator_t, flight_t
from fastdns.coordinator._upstream cimport PROBE_MS, SILENCES, upstream_rtt_us

cdef enum:                       # how an upstream fares, the best first
    FARES_WELL = 0
    FARES_SILENT = 1             # SILENCES in a row
    FARES = 2


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


cdef uint64_t fastest_order(const coordinator_t *c, const fd_forward_t *forward) noexcept nogil:
    # By insertion: there are 16 at most. One that has not answered yet stands first, to be measured.
    cdef uint8_t[FD_FORWARD_UPSTREAMS] places
    cdef uint32_t i, k, srtt_us
    for i in range(forward.upstream_count):
        srtt_us = upstream_rtt_us(&c.upstreams[forward.upstreams[i]])
        k = i
        while k and upstream_rtt_us(&c.upstreams[forward.upstreams[places[k - 1]]]) > srtt_us:
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


cdef inline uint32_t fares(const coordinator_t *c, uint32_t upstream) noexcept nogil:
    return FARES_SILENT if c.upstreams[upstream].silences >= SILENCES else FARES_WELL


cdef uint32_t policy_first(coordinator_t *c, flight_t *flight) noexcept nogil:
    cdef const fd_forward_t *forward = flight.forward
    cdef uint32_t best = NONE
    cdef uint32_t best_fares = FARES
    cdef uint32_t number, how, i
    flight.order = make_order(c, forward)
    for i in range(forward.upstream_count):
        number = forward.upstreams[at(flight.order, i)]
        if flight.refused >> number & 1:
            continue
        how = fares(c, number)
        if how == FARES_SILENT and c.now_ms >= c.upstreams[number].probe_ms:
            c.upstreams[number].probe_ms = c.now_ms + PROBE_MS
            return number
        if how < best_fares:
            best, best_fares = number, how
        if how == FARES_WELL:
            break
    return best


cdef uint32_t policy_next(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef const fd_forward_t *forward = flight.forward
    cdef uint32_t count = forward.upstream_count
    cdef uint32_t place = 0
    cdef uint32_t best = NONE
    cdef uint32_t best_fares = FARES
    cdef uint32_t number, how, _i
    while place < count and forward.upstreams[at(flight.order, place)] != flight.upstream:
        place += 1
    for _i in range(count):
        place = place + 1 if place + 1 < count else 0
        number = forward.upstreams[at(flight.order, place)]
        if flight.refused >> number & 1:
            continue
        how = fares(c, number)
        if how < best_fares:
            best, best_fares = number, how
    return best
