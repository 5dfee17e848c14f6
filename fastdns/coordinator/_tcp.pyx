# SPDX-License-Identifier: Apache-2.0
"""Questions to upstreams over TCP: after a truncated answer, and where `force_tcp` asks for it.

CoreDNS answers the questions of one connection one after another, so a slow answer holds up what stands
behind it. A question goes to the connection with the fewest outstanding among those on which something
moves; where all of them are held up or crowded, another is opened.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._stats cimport FD_C_upstream_send_failed, FD_C_upstream_tcp, bump
from fastdns.coordinator._channels cimport (
    channel_is_tcp,
    channel_upstream,
    connection_of,
    tcp_channel,
    tcp_place,
)
from fastdns.coordinator._connection cimport (
    connection_close,
    connection_lost,
    connection_open,
    connection_send,
    connection_unacknowledged,
)
from fastdns.coordinator._inflight cimport attempt_add, attempt_id
from fastdns.coordinator._report cimport count_sockets
from fastdns.coordinator._state cimport (
    ASK_LATER,
    ASK_OK,
    NONE,
    TCP_CLOSED,
    TCP_CONNECTIONS,
    TCP_OPEN,
    TLS_CONNECTIONS,
    ask_rc,
    channel_t,
    connection_t,
    coordinator_t,
    flight_t,
    upstream_t,
)
from fastdns.coordinator._upstream cimport rtt_wait_us

cdef enum:
    CROWD = 32                   # questions outstanding on every connection: another is opened
    LOT = 16                     # questions of a round that go to one connection before the choice is made anew
    HOLD_MIN_MS = 10             # of silence, at least, before a connection counts as held up
    HOLD_FIRST_MS = 50           # where nothing was measured
    WAIT_FIRST_US = 200_000      # as over UDP

ctypedef enum rank_t:            # the lower, the better
    RANK_WORKS = 0
    RANK_CONNECTS = 1            # its questions wait for the handshake first
    RANK_HELD = 2                # nothing moves on it, or it is about to end
    RANK_NONE = 3                # closed, or failed and not yet sorted out

ctypedef struct survey_t:        # among an upstream's connections
    uint32_t best                # channel, NONE: there is none
    rank_t rank
    uint32_t free                # channel on which one could be opened, or NONE
    uint32_t crowd               # fewest outstanding of those that work or connect


# --- how a connection fares ---


cdef uint32_t tcp_wait_ms(const upstream_t *upstream) noexcept nogil:
    cdef uint64_t wait_ms = (rtt_wait_us(&upstream.tcp, WAIT_FIRST_US) + 999) // 1000
    return <uint32_t>min(max(wait_ms, <uint64_t>TCP_SILENCE_MS), <uint64_t>TCP_SLOW_MS)


cdef uint64_t hold_ms(const upstream_t *upstream) noexcept nogil:
    # Twice what answers take, and four times what they vary: not every late one opens a connection.
    if upstream.tcp.srtt_us == 0:
        return HOLD_FIRST_MS
    return max((rtt_wait_us(&upstream.tcp, 0) + upstream.tcp.srtt_us) // 1000, <uint64_t>HOLD_MIN_MS)


cdef rank_t rank_of(coordinator_t *c, uint32_t number) noexcept nogil:
    cdef const connection_t *connection = connection_of(c, number)
    cdef const channel_t *channel = &c.channels[number]
    if connection.state == TCP_CLOSED or channel.failed:
        return RANK_NONE
    if channel.draining or connection.stalled:
        return RANK_HELD
    # An octet, or the first question after a pause, whichever came last.
    if channel.outstanding and c.now_ms - connection.active_ms > hold_ms(&c.upstreams[channel_upstream(number)]):
        return RANK_HELD
    return RANK_WORKS if connection.state == TCP_OPEN else RANK_CONNECTS


cdef survey_t survey(coordinator_t *c, uint32_t upstream, uint32_t but) noexcept nogil:
    # The connections of an upstream, but one (NONE: all of them). Among equals the first: the others
    # come to their idle end.
    cdef survey_t found
    cdef uint32_t fewest = 0
    cdef uint32_t number, outstanding, place
    cdef rank_t rank
    found.best = found.free = NONE
    found.rank = RANK_NONE
    found.crowd = <uint32_t>0xffffffff
    cdef uint32_t places = TLS_CONNECTIONS if c.upstreams[upstream].config.tls.count else TCP_CONNECTIONS
    for place in range(places):
        number = tcp_channel(upstream, place)
        rank = rank_of(c, number)
        outstanding = c.channels[number].outstanding
        if rank == RANK_NONE:
            if found.free == NONE and not c.channels[number].failed:
                found.free = number
            continue
        if number == but:
            continue
        if rank != RANK_HELD:
            found.crowd = min(found.crowd, outstanding)
        if rank < found.rank or (rank == found.rank and outstanding < fewest):
            found.best = number
            found.rank = rank
            fewest = outstanding
    return found


cdef uint32_t last_channel(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    # The TCP channel to its upstream on which the flight's newest attempt is, or NONE.
    cdef uint32_t channel
    if flight.attempts == NONE:
        return NONE
    channel = c.attempts[flight.attempts].channel
    return channel if channel_is_tcp(channel) and channel_upstream(channel) == flight.upstream else <uint32_t>NONE


cdef bint tcp_stuck(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef uint32_t number = last_channel(c, flight)
    if number == NONE:
        return True
    if c.now_ms - connection_of(c, number).active_ms < tcp_wait_ms(&c.upstreams[flight.upstream]):
        return False             # others are answered: this one has its turn, or the upstream is slow with it
    # The oldest is what a server that takes one after another works on. Asked again on a second
    # connection it would hold that one up as well. But the server must have it.
    return c.channels[number].oldest != flight.attempts or connection_unacknowledged(c, number)


cdef void tcp_avoid(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef uint32_t number = last_channel(c, flight)
    if number != NONE and rank_of(c, number) == RANK_HELD:
        connection_of(c, number).stalled = 1


cdef other_rc tcp_other(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef survey_t found = survey(c, flight.upstream, last_channel(c, flight))
    if found.rank == RANK_WORKS:
        return OTHER_STANDS
    return OTHER_NEW if found.free != NONE or found.rank == RANK_CONNECTS else OTHER_NONE


cdef bint tcp_stands(coordinator_t *c, uint32_t upstream) noexcept nogil:
    return survey(c, upstream, NONE).rank == RANK_WORKS


# --- asking ---


cdef uint32_t choose(coordinator_t *c, uint32_t upstream, uint32_t but, ask_rc *rc) noexcept nogil:
    # The channel for a question, opened if need be; NONE: there is none, and `rc` says why.
    cdef survey_t found = survey(c, upstream, but)
    cdef bint opened = False
    rc[0] = ASK_LATER
    if found.free != NONE and found.crowd >= CROWD:
        rc[0] = connection_open(c, found.free)
        opened = rc[0] == ASK_OK
    # One that works is better than one that has yet to connect: the next questions go there.
    if opened and found.rank >= RANK_CONNECTS:
        return found.free
    if found.best != NONE:
        return found.best
    # Left is the one that was to be avoided.
    return but if but != NONE and rank_of(c, but) != RANK_NONE else <uint32_t>NONE


cdef ask_rc tcp_ask(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef upstream_t *upstream = &c.upstreams[flight.upstream]
    cdef uint32_t last = last_channel(c, flight)
    cdef ask_rc rc = ASK_OK
    cdef channel_t *channel
    cdef uint16_t id = 0
    if upstream.current_room == 0 or upstream.current == last:
        upstream.current = <uint16_t>choose(c, flight.upstream, last, &rc)
        upstream.current_room = LOT
    if upstream.current == NONE:
        upstream.current_room = 0
        bump(c.counters, FD_C_upstream_send_failed, 1)
        return rc
    if not attempt_id(c, upstream.current, &id):
        bump(c.counters, FD_C_upstream_send_failed, 1)
        return ASK_LATER
    upstream.current_room -= 1
    channel = &c.channels[upstream.current]
    if channel.outstanding == 0:
        connection_of(c, upstream.current).active_ms = c.now_ms      # silence counts from here
    attempt_add(c, index, upstream.current, id)
    if channel.unsent == NONE:
        channel.unsent = channel.attempts
        upstream.unsent |= <uint8_t>(1 << tcp_place(upstream.current))
    count_sockets(c, flight.upstream, True, channel.sent != 0, channel.sent == 0)
    channel.sent = min(channel.sent + 1, 0xffff)
    bump(c.counters, FD_C_upstream_tcp, 1)
    return ASK_OK


cdef void tcp_flush(coordinator_t *c) noexcept nogil:
    cdef upstream_t *upstream
    cdef uint32_t number, i, place
    for i in range(c.upstream_count):
        upstream = &c.upstreams[i]
        upstream.current_room = 0
        if upstream.unsent == 0:
            continue
        for place in range(<uint32_t>TCP_CONNECTIONS):
            number = tcp_channel(i, place)
            # What waits for its handshake, or for the kernel's room, goes out on that event.
            if upstream.unsent >> place & 1 and not connection_of(c, number).wants_write:
                connection_send(c, number)
        upstream.unsent = 0


# --- upkeep ---


cdef bint worn(const coordinator_t *c, const upstream_t *upstream, const channel_t *channel,
               const connection_t *connection, uint32_t idle) noexcept nogil:
    # Whether a connection on which nothing is outstanding ends; `idle` of them are kept before it.
    if connection.state != TCP_OPEN:
        return c.now_ms - connection.active_ms >= TCP_DEAD_MS
    return (channel.draining or connection.stalled
            or c.now_ms - connection.active_ms >= upstream.config.expire_ms
            or (upstream.config.max_idle and idle >= upstream.config.max_idle))


cdef void tend_upstream(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef const upstream_t *upstream = &c.upstreams[index]
    cdef uint32_t idle = 0
    cdef uint32_t number, place
    cdef connection_t *connection
    cdef channel_t *channel
    for place in range(<uint32_t>TCP_CONNECTIONS):
        number = tcp_channel(index, place)
        connection = connection_of(c, number)
        channel = &c.channels[number]
        if connection.state == TCP_CLOSED:
            continue
        if c.now_ms >= connection.retire_ms:
            channel.draining = 1         # what is on it is waited for
        if channel.outstanding:
            if c.now_ms - connection.active_ms >= TCP_DEAD_MS:
                connection_lost(c, number)
        elif worn(c, upstream, channel, connection, idle):
            connection_close(c, number)
        else:
            idle += 1


cdef void tcp_tend(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.upstream_count):
        tend_upstream(c, i)
