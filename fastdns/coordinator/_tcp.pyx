# SPDX-License-Identifier: Apache-2.0
"""Questions to upstreams over TCP: after a truncated answer, and where `force_tcp` asks for it."""

from libc.errno cimport EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EINPROGRESS, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memmove

from fastdns._memory cimport fd_reserve
from fastdns._name cimport get_u16, put_u16
from fastdns._shm cimport sockaddr, sockaddr_in, sockaddr_in6
from fastdns._stats cimport (
    FD_C_upstream_send_failed,
    FD_C_upstream_tcp,
    FD_C_upstream_tcp_broken,
    FD_C_upstream_tcp_connects,
    bump,
)
from fastdns._sys cimport AF_INET, EPOLLIN, MSG_DONTWAIT, MSG_NOSIGNAL, close, epoll_ctl, epoll_event, watch
from fastdns.coordinator._inflight cimport (
    attempt_add,
    attempt_find,
    flight_asked,
    flight_asked_name,
    flight_changed,
)
from fastdns.coordinator._net cimport (
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLOUT,
    IPPROTO_TCP,
    SO_ERROR,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    connect,
    getsockopt,
    recv,
    send,
    setsockopt,
    socket,
)
from fastdns.coordinator._query cimport write_query
from fastdns.coordinator._random cimport random16
from fastdns.coordinator._report cimport count_sockets
from fastdns.coordinator._state cimport (
    ASK_LATER,
    ASK_NOWHERE,
    ASK_OK,
    CHANNEL_BROKEN,
    CHANNEL_REFUSED,
    FLIGHT_NO_EDNS,
    NONE,
    QUERY_ROOM,
    TCP_CLOSED,
    TCP_CONNECTING,
    TCP_OPEN,
    TCP_RX_ROOM,
    TCP_SLOT,
    TCP_TX_ROOM,
    ask_rc,
    channel_t,
    coordinator_t,
    flight_t,
    tcp_t,
    upstream_t,
)

cdef enum:
    PREFIX = 2                   # octets of length before each message; RFC 1035 s4.2.2
    ID_TRIES = 8
    SEND_QUEUE = 64 * 1024       # in the kernel: with an upstream that doesn't read, it grows to 4 MiB


cdef bint tcp_open(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    cdef tcp_t *tcp
    for i in range(c.upstream_count):
        tcp = &c.upstreams[i].tcp
        tcp.rx = <uint8_t *>fd_reserve(TCP_RX_ROOM)
        tcp.tx = <uint8_t *>fd_reserve(TCP_TX_ROOM)
        if tcp.rx == NULL or tcp.tx == NULL:
            return False
    return True


cdef void tcp_close(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.upstream_count):
        connection_close(c, i)
        free(c.upstreams[i].tcp.rx)
        free(c.upstreams[i].tcp.tx)
        c.upstreams[i].tcp.rx = c.upstreams[i].tcp.tx = NULL


cdef inline channel_t *channel_of(coordinator_t *c, uint32_t index) noexcept nogil:
    return &c.channels[c.upstreams[index].first_channel + TCP_SLOT]


# --- the connection ---


cdef void connection_close(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    cdef channel_t *channel = channel_of(c, index)
    if channel.fd >= 0:
        close(channel.fd)
    channel.fd = -1
    tcp.state = TCP_CLOSED
    tcp.wants_write = 0
    tcp.rx_start = tcp.rx_end = tcp.tx_start = tcp.tx_end = 0


cdef void connection_lost(coordinator_t *c, uint32_t index) noexcept nogil:
    # Whole messages that stand in rx were taken before: tcp_event receives once, then it is read out.
    cdef channel_t *channel = channel_of(c, index)
    cdef bint stood = c.upstreams[index].tcp.state == TCP_OPEN
    connection_close(c, index)
    if channel.attempts != NONE:
        if stood:
            bump(c.counters, FD_C_upstream_tcp_broken, 1)
        channel.failed = CHANNEL_BROKEN if stood else CHANNEL_REFUSED
        c.channel_failed = 1


cdef void want_write(coordinator_t *c, uint32_t index, bint wanted) noexcept nogil:
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    cdef epoll_event event
    if tcp.wants_write == <uint8_t>wanted:
        return
    tcp.wants_write = <uint8_t>wanted
    event.events = EPOLLIN | (EPOLLOUT if wanted else 0)
    event.data.u64 = c.upstreams[index].first_channel + TCP_SLOT
    epoll_ctl(c.epoll, EPOLL_CTL_MOD, channel_of(c, index).fd, &event)


cdef ask_rc connection_start(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef upstream_t *upstream = &c.upstreams[index]
    cdef channel_t *channel = channel_of(c, index)
    cdef const sockaddr *address = <const sockaddr *>&upstream.config.address
    cdef uint32_t octets = sizeof(sockaddr_in) if address.sa_family == AF_INET else sizeof(sockaddr_in6)
    cdef int on = 1
    cdef int queue = SEND_QUEUE
    cdef bint out_of_ports
    cdef int fd = socket(address.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd < 0:
        return ASK_NOWHERE if errno == EAFNOSUPPORT else ASK_LATER
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &queue, sizeof(queue))
    # Even a connection that stands at once is taken note of by its event: one way for all.
    if connect(fd, address, octets) != 0 and errno != EINPROGRESS:
        upstream.error = errno
        out_of_ports = errno == EAGAIN or errno == EADDRNOTAVAIL
        close(fd)
        return ASK_LATER if out_of_ports else ASK_NOWHERE
    if watch(c.epoll, fd, EPOLLIN | EPOLLOUT, upstream.first_channel + TCP_SLOT) != 0:
        close(fd)
        return ASK_LATER
    bump(c.counters, FD_C_upstream_tcp_connects, 1)
    channel.fd = fd
    channel.failed = 0
    channel.sent = 0
    channel.opened_ms = c.now_ms
    upstream.tcp.state = TCP_CONNECTING
    upstream.tcp.wants_write = 1
    upstream.tcp.active_ms = c.now_ms
    return ASK_OK


# --- asking ---


cdef bint make_room(coordinator_t *c, uint32_t index) noexcept nogil:
    # Whether one more query fits behind what waits to be sent.
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    if TCP_TX_ROOM - tcp.tx_end >= PREFIX + QUERY_ROOM:
        return True
    if tcp.state == TCP_OPEN:
        transmit(c, index)
    if tcp.state == TCP_CLOSED:
        return False
    if tcp.tx_start:
        memmove(tcp.tx, tcp.tx + tcp.tx_start, tcp.tx_end - tcp.tx_start)
        tcp.tx_end -= tcp.tx_start
        tcp.tx_start = 0
    return TCP_TX_ROOM - tcp.tx_end >= PREFIX + QUERY_ROOM


cdef ask_rc tcp_ask(coordinator_t *c, uint32_t flight_index) noexcept nogil:
    cdef flight_t *flight = &c.flights[flight_index]
    cdef uint32_t index = flight.upstream
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    cdef channel_t *channel = channel_of(c, index)
    cdef uint32_t number = c.upstreams[index].first_channel + TCP_SLOT
    cdef ask_rc rc = ASK_OK
    cdef uint32_t octets, _tries
    cdef uint16_t id = 0
    if tcp.state == TCP_CLOSED and not channel.failed:
        rc = connection_start(c, index)
    # A failed channel's questions are not yet sorted out: a new connection would mix with them.
    if rc == ASK_OK and (channel.failed or not make_room(c, index)):
        rc = ASK_LATER
    if rc != ASK_OK:
        bump(c.counters, FD_C_upstream_send_failed, 1)
        return rc
    for _tries in range(<uint32_t>ID_TRIES):
        id = random16(&c.random)
        if attempt_find(c, number, id) == NONE:
            break
    else:
        bump(c.counters, FD_C_upstream_send_failed, 1)
        return ASK_LATER
    if channel.attempts == NONE:
        tcp.active_ms = c.now_ms         # silence counts from here
    attempt_add(c, flight_index, number, id)
    octets = write_query(flight_asked(c, flight), flight_asked_name(c, flight), id,
                         not flight.state & FLIGHT_NO_EDNS, flight_changed(c, flight),
                         tcp.tx + tcp.tx_end + PREFIX)
    put_u16(tcp.tx + tcp.tx_end, octets)
    tcp.tx_end += PREFIX + octets
    count_sockets(c, index, True, channel.sent != 0, channel.sent == 0)
    channel.sent += 1
    bump(c.counters, FD_C_upstream_tcp, 1)
    return ASK_OK


cdef void transmit(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    cdef long sent
    while tcp.tx_start < tcp.tx_end:
        sent = send(channel_of(c, index).fd, tcp.tx + tcp.tx_start, tcp.tx_end - tcp.tx_start,
                    MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent >= 0:
            tcp.tx_start += <uint32_t>sent
        elif errno == EAGAIN:
            want_write(c, index, True)
            return
        elif errno != EINTR:
            connection_lost(c, index)
            return
    tcp.tx_start = tcp.tx_end = 0
    want_write(c, index, False)


cdef void tcp_flush(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    cdef tcp_t *tcp
    for i in range(c.upstream_count):
        tcp = &c.upstreams[i].tcp
        if tcp.state == TCP_OPEN and tcp.tx_end and not tcp.wants_write:
            transmit(c, i)


# --- receiving ---


cdef void receive(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    cdef long got
    if tcp.rx_start:
        memmove(tcp.rx, tcp.rx + tcp.rx_start, tcp.rx_end - tcp.rx_start)
        tcp.rx_end -= tcp.rx_start
        tcp.rx_start = 0
    # There is room: what is left over is less than one message, and the buffer is larger.
    got = recv(channel_of(c, index).fd, tcp.rx + tcp.rx_end, TCP_RX_ROOM - tcp.rx_end, MSG_DONTWAIT)
    if got > 0:
        tcp.rx_end += <uint32_t>got
        tcp.active_ms = c.now_ms
    elif got == 0 or (errno != EAGAIN and errno != EINTR):
        connection_lost(c, index)


cdef void tcp_event(coordinator_t *c, uint32_t index, uint32_t events) noexcept nogil:
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    cdef int error = 0
    cdef uint32_t octets = sizeof(int)
    if tcp.state == TCP_CONNECTING and events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
        if (getsockopt(channel_of(c, index).fd, SOL_SOCKET, SO_ERROR, &error, &octets) != 0 or error != 0):
            c.upstreams[index].error = error
            connection_lost(c, index)
            return
        tcp.state = TCP_OPEN
    if tcp.state == TCP_OPEN and events & EPOLLOUT:
        transmit(c, index)
    if tcp.state == TCP_OPEN and events & (EPOLLIN | EPOLLERR | EPOLLHUP):
        receive(c, index)


cdef const uint8_t *tcp_message(coordinator_t *c, uint32_t index, uint32_t *octets) noexcept nogil:
    cdef tcp_t *tcp = &c.upstreams[index].tcp
    cdef const uint8_t *start = tcp.rx + tcp.rx_start
    cdef uint32_t left = tcp.rx_end - tcp.rx_start
    if left < PREFIX:
        return NULL
    octets[0] = get_u16(start)
    if left - PREFIX < octets[0]:
        return NULL
    tcp.rx_start += PREFIX + octets[0]
    return start + PREFIX


cdef void tcp_tend(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    cdef tcp_t *tcp
    for i in range(c.upstream_count):
        tcp = &c.upstreams[i].tcp
        if tcp.state == TCP_CLOSED:
            continue
        if channel_of(c, i).attempts == NONE:
            if c.now_ms - tcp.active_ms >= TCP_IDLE_MS:
                connection_close(c, i)
        elif c.now_ms - tcp.active_ms >= TCP_DEAD_MS:
            connection_lost(c, i)
