# SPDX-License-Identifier: Apache-2.0
"""A TCP connection to an upstream: many questions in flight, answers in any order (RFC 7766 s6.2.1.1, 7).

No connection has buffers of its own. Questions wait as attempts, in the order of their channel, and are
written when they go to the kernel; of a query that it took only the beginning of, the rest is kept.
Answers are taken from a common room; a part of one is kept in a place of a small pool until the rest
has come.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove

from fastdns._memory cimport fd_reserve
from fastdns._name cimport get_u16, put_u16
from fastdns._stats cimport (
    FD_C_upstream_tcp_broken,
    FD_C_upstream_tcp_connects,
    FD_C_upstream_tcp_full,
    bump,
)
from fastdns._sys cimport EPOLLIN, MSG_DONTWAIT, MSG_NOSIGNAL, close, epoll_ctl, epoll_event, watch
from fastdns.coordinator._channels cimport channel_upstream, connection_of, tcp_channel, tcp_place
from fastdns.coordinator._inflight cimport flight_asked, flight_asked_name, flight_changed
from fastdns.coordinator._net cimport (
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLOUT,
    IPPROTO_TCP,
    SIOCOUTQ,
    SO_ERROR,
    SO_SNDBUF,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    getsockopt,
    ioctl,
    recv,
    send,
    setsockopt,
)
from fastdns.coordinator._query cimport write_query
from fastdns.coordinator._random cimport random16
from fastdns.coordinator._state cimport (
    ASK_LATER,
    ASK_OK,
    CHANNEL_BROKEN,
    CHANNEL_LOST,
    CHANNEL_REFUSED,
    FLIGHT_NO_EDNS,
    NONE,
    QUERY_ROOM,
    TCP_CLOSED,
    TCP_CONNECTING,
    TCP_CONNECTIONS,
    TCP_OPEN,
    TCP_PART_ROOM,
    TCP_PARTS,
    TCP_PREFIX,
    TCP_RX_ROOM,
    TCP_TX_ROOM,
    ask_rc,
    attempt_t,
    channel_t,
    connection_t,
    coordinator_t,
    flight_t,
    tcp_rx_t,
    upstream_t,
)
from fastdns.coordinator._tls cimport CONNECT_GOES_ON, tls_connect, tls_outcome
from fastdns.coordinator._upstream cimport dial

cdef enum:
    SEND_QUEUE = 64 * 1024       # in the kernel: with an upstream that doesn't read, it grows to 4 MiB

cdef extern from *:
    int __builtin_ctz(unsigned int) nogil


cdef bint connections_open(coordinator_t *c) noexcept nogil:
    cdef uint32_t count = max(c.upstream_count, <uint32_t>1) * TCP_CONNECTIONS
    cdef uint32_t i
    c.connections = <connection_t *>fd_reserve(count * sizeof(connection_t))
    c.tcp_rx.room = <uint8_t *>fd_reserve(TCP_RX_ROOM)
    c.tcp_rx.parts = <uint8_t *>fd_reserve(TCP_PARTS * TCP_PART_ROOM)
    c.tcp_rx.free_parts = (<uint32_t>1 << TCP_PARTS) - 1
    c.tcp_tx = <uint8_t *>fd_reserve(TCP_TX_ROOM)
    if c.connections == NULL or c.tcp_rx.room == NULL or c.tcp_rx.parts == NULL or c.tcp_tx == NULL:
        return False
    for i in range(count):
        c.connections[i].part = NONE
    return True


cdef void connections_close(coordinator_t *c) noexcept nogil:
    cdef uint32_t upstream, place
    if c.connections != NULL:
        for upstream in range(c.upstream_count):
            for place in range(<uint32_t>TCP_CONNECTIONS):
                connection_close(c, tcp_channel(upstream, place))
    free(c.connections)
    free(c.tcp_rx.room)
    free(c.tcp_rx.parts)
    free(c.tcp_tx)
    c.connections = NULL
    c.tcp_rx.room = c.tcp_rx.parts = c.tcp_tx = NULL


# --- opened, closed ---


cdef uint64_t lifetime_ms(coordinator_t *c, const upstream_t *upstream) noexcept nogil:
    # Half of the maximum age and a random part of the other half: connections that were opened
    # together don't end together.
    cdef uint64_t half = upstream.config.max_age_ms // 2
    return half + (half * random16(&c.random) >> 16)


cdef ask_rc tcp_connect(coordinator_t *c, upstream_t *upstream, int *fd) noexcept nogil:
    # Even a connection that stands at once is taken note of by its event: one way for all.
    cdef int on = 1
    cdef int queue = SEND_QUEUE
    cdef ask_rc rc = dial(c, upstream, SOCK_STREAM, fd)
    if rc == ASK_OK:
        setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
        setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &queue, sizeof(queue))
    return rc


cdef ask_rc connection_open(coordinator_t *c, uint32_t number) noexcept nogil:
    cdef upstream_t *upstream = &c.upstreams[channel_upstream(number)]
    cdef connection_t *connection = connection_of(c, number)
    cdef channel_t *channel = &c.channels[number]
    cdef bint tls = upstream.config.tls.count != 0
    cdef int fd = -1
    cdef ask_rc rc = tls_connect(c, upstream, &fd) if tls else tcp_connect(c, upstream, &fd)
    if rc != ASK_OK:
        return rc
    # An end of a socketpair can always be written: its word that it stands comes as an octet.
    if watch(c.epoll, fd, EPOLLIN if tls else EPOLLIN | EPOLLOUT, number) != 0:
        close(fd)
        return ASK_LATER
    bump(c.counters, FD_C_upstream_tcp_connects, 1)
    channel.fd = fd
    channel.sent = 0
    channel.draining = 0
    channel.opened_ms = c.now_ms
    connection.state = TCP_CONNECTING
    connection.wants_write = not tls
    connection.answered = connection.stalled = 0
    connection.active_ms = c.now_ms
    connection.retire_ms = c.now_ms + lifetime_ms(c, upstream)
    return ASK_OK


cdef void connection_close(coordinator_t *c, uint32_t number) noexcept nogil:
    cdef upstream_t *upstream = &c.upstreams[channel_upstream(number)]
    cdef connection_t *connection = connection_of(c, number)
    cdef channel_t *channel = &c.channels[number]
    if channel.fd >= 0:
        close(channel.fd)        # takes it out of the epoll set as well
    channel.fd = -1
    channel.draining = 0
    connection.state = TCP_CLOSED
    connection.rest_len = 0
    part_free(&c.tcp_rx, connection)
    upstream.unsent &= <uint8_t>~(1 << tcp_place(number))
    if upstream.current == number:
        upstream.current_room = 0


cdef void connection_lost(coordinator_t *c, uint32_t number) noexcept nogil:
    # Whole messages that came before were taken: connection_event receives once, then it is read out.
    cdef const connection_t *connection = connection_of(c, number)
    cdef channel_t *channel = &c.channels[number]
    cdef bint stood = connection.state == TCP_OPEN
    cdef bint answered = connection.answered
    connection_close(c, number)
    if channel.attempts == NONE:
        return                   # closed by the peer while idle
    if stood:
        bump(c.counters, FD_C_upstream_tcp_broken, 1)
    channel.failed = CHANNEL_LOST if answered else (CHANNEL_BROKEN if stood else CHANNEL_REFUSED)
    c.channel_failed = 1


cdef void want_write(coordinator_t *c, uint32_t number, bint wanted) noexcept nogil:
    cdef connection_t *connection = connection_of(c, number)
    cdef epoll_event event
    if connection.wants_write == <uint8_t>wanted:
        return
    connection.wants_write = <uint8_t>wanted
    event.events = EPOLLIN | (EPOLLOUT if wanted else 0)
    event.data.u64 = number
    epoll_ctl(c.epoll, EPOLL_CTL_MOD, c.channels[number].fd, &event)


# --- written ---


cdef uint32_t write_queries(coordinator_t *c, uint32_t number) noexcept nogil:
    # The rest of a query, and as many unsent ones as there is room for; octets in c.tcp_tx.
    cdef const connection_t *connection = connection_of(c, number)
    cdef uint32_t index = c.channels[number].unsent
    cdef uint32_t end = connection.rest_len
    cdef uint32_t octets
    cdef const attempt_t *attempt
    cdef const flight_t *flight
    memcpy(c.tcp_tx, connection.rest, end)
    while index != NONE and TCP_TX_ROOM - end >= TCP_PREFIX + QUERY_ROOM:
        attempt = &c.attempts[index]
        flight = &c.flights[attempt.flight]
        octets = write_query(flight_asked(c, flight), flight_asked_name(c, flight), attempt.id,
                             not flight.state & FLIGHT_NO_EDNS, flight_changed(c, flight),
                             c.tcp_tx + end + TCP_PREFIX)
        put_u16(c.tcp_tx + end, octets)
        end += TCP_PREFIX + octets
        index = attempt.channel_prev
    return end


cdef void note_sent(coordinator_t *c, uint32_t number, uint32_t sent) noexcept nogil:
    # The kernel took so many octets of c.tcp_tx.
    cdef connection_t *connection = connection_of(c, number)
    cdef channel_t *channel = &c.channels[number]
    cdef uint32_t end = connection.rest_len
    if sent < end:
        connection.rest_len = <uint16_t>(end - sent)
        memmove(connection.rest, connection.rest + sent, end - sent)
        return
    connection.rest_len = 0
    while end < sent:
        end += TCP_PREFIX + get_u16(c.tcp_tx + end)
        channel.unsent = c.attempts[channel.unsent].channel_prev
    if end > sent:
        connection.rest_len = <uint16_t>(end - sent)
        memcpy(connection.rest, c.tcp_tx + sent, end - sent)


cdef void connection_send(coordinator_t *c, uint32_t number) noexcept nogil:
    cdef const connection_t *connection = connection_of(c, number)
    cdef uint32_t octets
    cdef long sent
    if connection.state != TCP_OPEN:
        return
    while True:
        octets = write_queries(c, number)
        if octets == 0:
            break
        sent = send(c.channels[number].fd, c.tcp_tx, octets, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent >= 0:
            note_sent(c, number, <uint32_t>sent)
        elif errno == EAGAIN:
            want_write(c, number, True)
            return
        elif errno != EINTR:
            connection_lost(c, number)
            return
    want_write(c, number, False)


cdef bint connection_unacknowledged(coordinator_t *c, uint32_t number) noexcept nogil:
    cdef int octets = 0
    if connection_of(c, number).state != TCP_OPEN or c.channels[number].unsent != NONE:
        return True
    return ioctl(c.channels[number].fd, SIOCOUTQ, &octets) != 0 or octets != 0


# --- read ---


cdef void part_free(tcp_rx_t *rx, connection_t *connection) noexcept nogil:
    if connection.part != NONE:
        rx.free_parts |= <uint32_t>1 << connection.part
    connection.part = NONE
    connection.part_len = 0


cdef inline uint8_t *part_of(tcp_rx_t *rx, const connection_t *connection) noexcept nogil:
    return rx.parts + <size_t>connection.part * TCP_PART_ROOM


cdef void receive(coordinator_t *c, uint32_t number) noexcept nogil:
    # Behind the part of a message that has come before, if there is one. There is room: the largest
    # message has it.
    cdef tcp_rx_t *rx = &c.tcp_rx
    cdef connection_t *connection = connection_of(c, number)
    cdef uint8_t *data = rx.room
    cdef uint32_t room = TCP_RX_ROOM
    cdef long got
    if connection.part != NONE:
        data = part_of(rx, connection)
        room = TCP_PART_ROOM
    got = recv(c.channels[number].fd, data + connection.part_len, room - connection.part_len, MSG_DONTWAIT)
    if got > 0:
        rx.data = data
        rx.start = 0
        rx.end = connection.part_len + <uint32_t>got
        connection.active_ms = c.now_ms
        connection.answered = 1
        connection.stalled = 0
    elif got == 0 or (errno != EAGAIN and errno != EINTR):
        connection_lost(c, number)


cdef int tcp_outcome(int fd) noexcept nogil:
    cdef int error = 0
    cdef uint32_t octets = sizeof(int)
    return errno if getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &octets) != 0 else error


cdef void finish_connect(coordinator_t *c, uint32_t number, uint32_t events) noexcept nogil:
    cdef upstream_t *upstream = &c.upstreams[channel_upstream(number)]
    cdef connection_t *connection = connection_of(c, number)
    cdef int fd = c.channels[number].fd
    cdef int error
    if upstream.config.tls.count:
        error = tls_outcome(c, fd)
    else:
        error = tcp_outcome(fd) if events & (EPOLLOUT | EPOLLERR | EPOLLHUP) else CONNECT_GOES_ON
    if error == CONNECT_GOES_ON:
        return
    if error != 0:
        upstream.error = error
        connection_lost(c, number)
        return
    connection.state = TCP_OPEN
    connection.active_ms = c.now_ms
    connection_send(c, number)


cdef void connection_event(coordinator_t *c, uint32_t number, uint32_t events) noexcept nogil:
    cdef connection_t *connection = connection_of(c, number)
    c.tcp_rx.data = NULL
    if connection.state == TCP_CONNECTING:
        finish_connect(c, number, events)
    elif connection.state == TCP_OPEN and events & EPOLLOUT:
        connection_send(c, number)
    if connection.state == TCP_OPEN and events & (EPOLLIN | EPOLLERR | EPOLLHUP):
        receive(c, number)


cdef void keep_part(coordinator_t *c, uint32_t number) noexcept nogil:
    # What is left is a part of one message. All places taken: the connection is given up, and its
    # questions are asked again.
    cdef tcp_rx_t *rx = &c.tcp_rx
    cdef connection_t *connection = connection_of(c, number)
    cdef const uint8_t *left = rx.data + rx.start
    cdef uint32_t octets = rx.end - rx.start
    rx.data = NULL
    if octets == 0:
        part_free(rx, connection)
        return
    if connection.part == NONE:
        if rx.free_parts == 0:
            bump(c.counters, FD_C_upstream_tcp_full, 1)
            connection_lost(c, number)
            return
        connection.part = <uint16_t>__builtin_ctz(rx.free_parts)
        rx.free_parts &= ~(<uint32_t>1 << connection.part)
    memmove(part_of(rx, connection), left, octets)
    connection.part_len = octets


cdef const uint8_t *connection_message(coordinator_t *c, uint32_t number, uint32_t *octets) noexcept nogil:
    cdef tcp_rx_t *rx = &c.tcp_rx
    cdef const uint8_t *start
    cdef uint32_t left
    if rx.data == NULL:
        return NULL
    start = rx.data + rx.start
    left = rx.end - rx.start
    if left >= TCP_PREFIX:
        octets[0] = get_u16(start)
        if left - TCP_PREFIX >= octets[0]:
            rx.start += TCP_PREFIX + octets[0]
            return start + TCP_PREFIX
    keep_part(c, number)
    return NULL
