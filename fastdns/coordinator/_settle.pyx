# SPDX-License-Identifier: Apache-2.0
"""The end of a round: what was put goes out, and channels that failed are sorted out.

The questions of a channel that failed are asked again elsewhere at once, not after their silence; the oldest
first, as their time ends first.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns.coordinator._ask cimport FAILURES_MAX, ask_at_once, gave_up, turn_away
from fastdns.coordinator._channels cimport channel_is_tcp, channel_upstream
from fastdns.coordinator._hand cimport hand_clear
from fastdns.coordinator._inflight cimport attempt_remove, hand_take_flight
from fastdns.coordinator._state cimport (
    CHANNEL_LOST,
    CHANNEL_REFUSED,
    FLIGHT_ORPHAN,
    FLIGHT_USED,
    NONE,
    TCP_CONNECTIONS,
    UPSTREAM_CHANNELS,
    coordinator_t,
    flight_t,
)
from fastdns.coordinator._tcp cimport tcp_flush, tcp_stands
from fastdns.coordinator._udp cimport udp_flush, udp_retire
from fastdns.coordinator._upstream cimport upstream_gone


cdef enum:
    # A question may be what its connections are lost for: asked again at once each time it would end all others
    # as well, for as long as it has. So many are as many as stand on one connection before another is opened: a
    # server that closes after each answer gets through with them.
    LOSSES_MAX = 32


cdef uint32_t collect_orphans(coordinator_t *c, uint32_t channel) noexcept nogil:
    # Take all attempts off the channel; returns how many flights had one there.
    cdef uint32_t count = 0
    cdef uint32_t index
    while c.channels[channel].oldest != NONE:
        index = c.attempts[c.channels[channel].oldest].flight
        attempt_remove(c, c.channels[channel].oldest)
        if not c.flights[index].state & FLIGHT_ORPHAN:
            c.flights[index].state |= FLIGHT_ORPHAN
            c.orphans[count] = <uint16_t>index
            count += 1
    return count


cdef void rehome(coordinator_t *c, uint32_t index, uint32_t upstream, bint blamed) noexcept nogil:
    # `blamed`: that the channel failed says something of its upstream.
    cdef flight_t *flight = &c.flights[index]
    if flight.upstream != upstream:
        if blamed:
            flight.refused |= <uint32_t>1 << upstream
            gave_up(c, flight, upstream)
        return                   # it is under way elsewhere already
    if not blamed:
        flight.losses = min(flight.losses + 1, 0xff)
        if flight.losses > LOSSES_MAX:
            return               # its timer goes on
    elif not turn_away(c, index):
        return
    ask_at_once(c, index)


cdef void channel_failed(coordinator_t *c, uint32_t channel) noexcept nogil:
    cdef uint32_t upstream = channel_upstream(channel)
    cdef uint32_t count = collect_orphans(c, channel)
    cdef uint8_t kind = c.channels[channel].failed
    # While another connection to it works, the upstream is there: behind a service's address one server
    # of several may be gone.
    cdef bint blamed = kind != CHANNEL_LOST and not (channel_is_tcp(channel) and tcp_stands(c, upstream))
    cdef uint32_t i
    c.channels[channel].failed = 0
    if not channel_is_tcp(channel):
        udp_retire(c, channel)
    if blamed and kind == CHANNEL_REFUSED:
        upstream_gone(&c.upstreams[upstream])
    for i in range(count):
        c.flights[c.orphans[i]].state &= ~<uint16_t>FLIGHT_ORPHAN
        if c.flights[c.orphans[i]].state & FLIGHT_USED:
            hand_take_flight(c, c.orphans[i])
            rehome(c, c.orphans[i], upstream, blamed)
            hand_clear(&c.post.in_hand)


cdef void settle(coordinator_t *c) noexcept nogil:
    cdef uint32_t channel, _turn
    udp_flush(c)
    tcp_flush(c)
    # Each turn moves every orphan on: through all upstreams, again until FAILURES_MAX, and from one
    # connection to another.
    for _turn in range(2 * c.upstream_count + FAILURES_MAX + TCP_CONNECTIONS):
        if not c.channel_failed:
            return
        c.channel_failed = 0
        for channel in range(c.upstream_count * UPSTREAM_CHANNELS):
            if c.channels[channel].failed:
                channel_failed(c, channel)
        udp_flush(c)
        tcp_flush(c)
