# SPDX-License-Identifier: Apache-2.0
"""The end of a round: what was put goes out, and channels that failed are sorted out.

The questions of a channel that failed are asked again elsewhere at once, not after their silence.
"""

from libc.stdint cimport uint16_t, uint32_t

from fastdns._proto cimport EDE_NETWORK_ERROR
from fastdns._shm cimport FD_ERROR_REFUSED
from fastdns.coordinator._ask cimport ask_at_once, barred, turn_to
from fastdns.coordinator._channels cimport channel_is_tcp, channel_upstream
from fastdns.coordinator._conclude cimport fail
from fastdns.coordinator._hand cimport hand_clear
from fastdns.coordinator._inflight cimport attempt_remove, hand_take_flight
from fastdns.coordinator._policy cimport policy_next
from fastdns.coordinator._state cimport (
    CHANNEL_BROKEN,
    FLIGHT_AGAIN,
    FLIGHT_ORPHAN,
    FLIGHT_USED,
    NONE,
    UPSTREAM_CHANNELS,
    coordinator_t,
    flight_t,
)
from fastdns.coordinator._tcp cimport tcp_flush
from fastdns.coordinator._udp cimport udp_flush, udp_retire
from fastdns.coordinator._upstream cimport SILENCES, upstream_silent


cdef uint32_t collect_orphans(coordinator_t *c, uint32_t channel) noexcept nogil:
    # Take all attempts off the channel; returns how many flights had one there.
    cdef uint32_t count = 0
    cdef uint32_t index
    while c.channels[channel].attempts != NONE:
        index = c.attempts[c.channels[channel].attempts].flight
        attempt_remove(c, c.channels[channel].attempts)
        if not c.flights[index].state & FLIGHT_ORPHAN:
            c.flights[index].state |= FLIGHT_ORPHAN
            c.orphans[count] = <uint16_t>index
            count += 1
    return count


cdef void rehome(coordinator_t *c, uint32_t index, uint32_t upstream, bint broken) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t other = upstream
    if not broken or flight.state & FLIGHT_AGAIN:
        flight.refused |= <uint32_t>1 << upstream
    if flight.upstream != upstream:
        return                   # it is under way elsewhere already
    if flight.refused >> upstream & 1:
        other = policy_next(c, flight)
    if other == NONE and flight.state & FLIGHT_AGAIN:
        fail(c, index, EDE_NETWORK_ERROR, FD_ERROR_REFUSED)
        return
    if other == NONE:
        # Another port may find somebody there (udp_retire says why): all upstreams once more.
        flight.refused = barred(c, flight)
        other = upstream
    if other == upstream:
        flight.state |= FLIGHT_AGAIN
    else:
        turn_to(c, index, other)
    ask_at_once(c, index)


cdef void channel_failed(coordinator_t *c, uint32_t channel) noexcept nogil:
    cdef bint broken = c.channels[channel].failed == CHANNEL_BROKEN
    cdef uint32_t count = collect_orphans(c, channel)
    cdef uint32_t i
    c.channels[channel].failed = 0
    if not channel_is_tcp(channel):
        udp_retire(c, channel)
    if not broken:
        upstream_silent(&c.upstreams[channel_upstream(channel)], SILENCES)
    for i in range(count):
        c.flights[c.orphans[i]].state &= ~<uint16_t>FLIGHT_ORPHAN
        if c.flights[c.orphans[i]].state & FLIGHT_USED:
            hand_take_flight(c, c.orphans[i])
            rehome(c, c.orphans[i], channel_upstream(channel), broken)
            hand_clear(&c.post.in_hand)


cdef void settle(coordinator_t *c) noexcept nogil:
    cdef uint32_t channel, _turn
    udp_flush(c)
    tcp_flush(c)
    # Each turn moves every orphan on, through the upstreams twice at most.
    for _turn in range(2 * c.upstream_count + 2):
        if not c.channel_failed:
            return
        c.channel_failed = 0
        for channel in range(c.upstream_count * UPSTREAM_CHANNELS):
            if c.channels[channel].failed:
                channel_failed(c, channel)
        udp_flush(c)
        tcp_flush(c)
