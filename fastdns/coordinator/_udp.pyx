# SPDX-License-Identifier: Apache-2.0
"""Questions to upstreams over UDP.

Each upstream has a pool of connected sockets on ports that the kernel chose at random. A round's
questions go out on one of them, chosen at random, with one sendmmsg; IDs are random as well, so
a forger has to guess both (RFC 5452 s9). Connected sockets take no datagram but the upstream's,
and report that nobody is there.
"""

from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

from fastdns._memory cimport fd_take
from fastdns._stats cimport (
    FD_C_upstream_send_failed,
    FD_C_upstream_sockets,
    FD_C_upstream_udp,
    bump,
)
from fastdns._sys cimport EPOLLIN, MSG_DONTWAIT, close, recvmmsg, sendmmsg, watch
from fastdns.coordinator._channels cimport channel_upstream
from fastdns.coordinator._inflight cimport (
    attempt_add,
    attempt_id,
    flight_asked,
    flight_asked_name,
    flight_changed,
)
from fastdns.coordinator._net cimport (
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SOCK_DGRAM,
    SOL_SOCKET,
    setsockopt,
)
from fastdns.coordinator._query cimport write_query
from fastdns.coordinator._random cimport random16
from fastdns.coordinator._report cimport count_sockets
from fastdns.coordinator._state cimport (
    ASK_LATER,
    ASK_NOWHERE,
    ASK_OK,
    BATCH,
    CHANNEL_REFUSED,
    FLIGHT_NO_EDNS,
    NONE,
    POOL_SOCKETS,
    RX_ROOM,
    UPSTREAM_SOCKETS,
    ask_rc,
    channel_t,
    coordinator_t,
    flight_t,
    udp_batch_t,
    udp_rx_t,
    upstream_t,
)
from fastdns.coordinator._upstream cimport dial

cdef enum:
    SOCKET_BUFFER = 512 * 1024   # octets; as much again with the kernel's own: 400 answers of 1232


cdef bint udp_open(coordinator_t *c) noexcept nogil:
    cdef uint32_t i, k
    cdef udp_batch_t *batch
    c.udp_rx = <udp_rx_t *>fd_take(sizeof(udp_rx_t), 0)
    if c.udp_rx == NULL:
        return False
    for k in range(<uint32_t>BATCH):
        c.udp_rx.vectors[k].iov_base = c.udp_rx.buffers[k]
        c.udp_rx.vectors[k].iov_len = RX_ROOM
        c.udp_rx.messages[k].msg_hdr.msg_iov = &c.udp_rx.vectors[k]
        c.udp_rx.messages[k].msg_hdr.msg_iovlen = 1
    for i in range(c.upstream_count):
        for k in range(<uint32_t>POOL_SOCKETS):
            c.upstreams[i].pool[k] = NONE
        batch = <udp_batch_t *>fd_take(sizeof(udp_batch_t), 0)
        c.upstreams[i].batch = batch
        if batch == NULL:
            return False
        for k in range(<uint32_t>BATCH):
            batch.vectors[k].iov_base = batch.queries[k]
            batch.messages[k].msg_hdr.msg_iov = &batch.vectors[k]
            batch.messages[k].msg_hdr.msg_iovlen = 1
    return True


cdef void udp_close(coordinator_t *c) noexcept nogil:
    cdef uint32_t i, k
    for i in range(c.upstream_count):
        for k in range(<uint32_t>UPSTREAM_SOCKETS):
            socket_close(&c.channels[c.upstreams[i].first_channel + k])
        free(c.upstreams[i].batch)
        c.upstreams[i].batch = NULL
    free(c.udp_rx)
    c.udp_rx = NULL


# --- sockets ---


cdef void socket_close(channel_t *channel) noexcept nogil:
    if channel.fd >= 0:
        close(channel.fd)        # takes it out of the epoll set as well
    channel.fd = -1
    channel.draining = 0
    channel.failed = 0


cdef ask_rc socket_open(coordinator_t *c, upstream_t *upstream, uint32_t index) noexcept nogil:
    cdef channel_t *channel = &c.channels[index]
    cdef int size = SOCKET_BUFFER
    cdef int fd = -1
    cdef ask_rc rc = dial(c, upstream, SOCK_DGRAM, &fd)
    if rc != ASK_OK:
        return rc
    # Without CAP_NET_ADMIN rmem_max is the most: fewer answers at once, the rest asked again.
    if setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0:
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size))
    if watch(c.epoll, fd, EPOLLIN, index) != 0:
        close(fd)
        return ASK_LATER
    channel.fd = fd
    channel.failed = 0
    channel.draining = 0
    channel.sent = 0
    channel.opened_ms = c.now_ms
    bump(c.counters, FD_C_upstream_sockets, 1)
    return ASK_OK


cdef uint32_t free_channel(coordinator_t *c, upstream_t *upstream) noexcept nogil:
    cdef uint32_t k
    for k in range(<uint32_t>UPSTREAM_SOCKETS):
        if c.channels[upstream.first_channel + k].fd < 0:
            return upstream.first_channel + k
    return NONE


cdef bint worn(const coordinator_t *c, const channel_t *channel) noexcept nogil:
    return channel.sent >= SOCKET_QUESTIONS or c.now_ms - channel.opened_ms >= SOCKET_AGE_MS


cdef uint32_t pool_channel(coordinator_t *c, upstream_t *upstream, uint32_t place,
                           ask_rc *rc) noexcept nogil:
    # The socket at this place of the pool, opened or replaced as need be; NONE if there is none,
    # and then `rc` says why.
    cdef uint32_t old = upstream.pool[place]
    cdef uint32_t fresh
    if old != NONE and not worn(c, &c.channels[old]):
        return old
    fresh = free_channel(c, upstream)
    if fresh == NONE:
        udp_tend(c)
        fresh = free_channel(c, upstream)
    rc[0] = ASK_LATER if fresh == NONE else socket_open(c, upstream, fresh)
    if rc[0] != ASK_OK:
        return old               # better an old port than no question
    if old != NONE:
        c.channels[old].draining = 1
    upstream.pool[place] = <uint16_t>fresh
    return fresh


cdef uint32_t choose_channel(coordinator_t *c, upstream_t *upstream, uint32_t avoid,
                             ask_rc *rc) noexcept nogil:
    cdef uint32_t place = random16(&c.random)
    cdef uint32_t only = NONE
    cdef uint32_t i, index
    for i in range(<uint32_t>POOL_SOCKETS):
        index = pool_channel(c, upstream, (place + i) & (POOL_SOCKETS - 1), rc)
        if index != NONE and index != avoid:
            return index
        if index != NONE:
            only = index
        elif rc[0] == ASK_NOWHERE:
            break
    return only


cdef void udp_retire(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef upstream_t *upstream = &c.upstreams[channel_upstream(index)]
    cdef uint32_t place
    for place in range(<uint32_t>POOL_SOCKETS):
        if upstream.pool[place] == index:
            upstream.pool[place] = NONE
            c.channels[index].draining = 1


cdef void udp_tend(coordinator_t *c) noexcept nogil:
    cdef uint32_t i, k
    cdef channel_t *channel
    for i in range(c.upstream_count):
        for k in range(<uint32_t>UPSTREAM_SOCKETS):
            channel = &c.channels[c.upstreams[i].first_channel + k]
            if channel.draining and channel.attempts == NONE:
                socket_close(channel)


# --- asking ---


cdef ask_rc udp_ask(coordinator_t *c, uint32_t flight_index) noexcept nogil:
    cdef flight_t *flight = &c.flights[flight_index]
    cdef upstream_t *upstream = &c.upstreams[flight.upstream]
    cdef udp_batch_t *batch = upstream.batch
    cdef uint32_t last = c.attempts[flight.attempts].channel if flight.attempts != NONE else <uint32_t>NONE
    cdef ask_rc rc = ASK_OK
    cdef uint32_t channel
    cdef uint16_t id = 0
    if batch.count and (batch.count == BATCH or batch.channel == last):
        batch_send(c, batch)
    if batch.count == 0:
        channel = choose_channel(c, upstream, last, &rc)
        if channel == NONE:
            bump(c.counters, FD_C_upstream_send_failed, 1)
            return rc
        batch.channel = <uint16_t>channel
    if not attempt_id(c, batch.channel, &id):
        bump(c.counters, FD_C_upstream_send_failed, 1)
        return ASK_LATER
    attempt_add(c, flight_index, batch.channel, id)
    batch.vectors[batch.count].iov_len = write_query(
        flight_asked(c, flight), flight_asked_name(c, flight), id, not flight.state & FLIGHT_NO_EDNS,
        flight_changed(c, flight), batch.queries[batch.count])
    batch.count += 1
    return ASK_OK


cdef void batch_send(coordinator_t *c, udp_batch_t *batch) noexcept nogil:
    # One sendmmsg, more only where the kernel stopped in between.
    cdef channel_t *channel = &c.channels[batch.channel]
    cdef uint32_t done = 0
    cdef bint told = False
    cdef int sent
    while done < batch.count:
        sent = sendmmsg(channel.fd, &batch.messages[done], batch.count - done, MSG_DONTWAIT)
        if sent > 0:
            done += <uint32_t>sent
            bump(c.counters, FD_C_upstream_udp, <uint64_t>sent)
        elif errno == EINTR:
            continue
        elif errno == ECONNREFUSED and not told:
            told = True          # about what was sent before; these may fare better, or it comes again
        else:
            bump(c.counters, FD_C_upstream_send_failed, batch.count - done)
            # A full queue passes: silence, and the questions are asked again. Anything else (port
            # unreachable, no route, no permission) tells that nobody is there.
            if errno != EAGAIN and errno != ENOBUFS and errno != ENOMEM:
                c.upstreams[channel_upstream(batch.channel)].error = errno
                channel.failed = CHANNEL_REFUSED
                c.channel_failed = 1
            break
    count_sockets(c, channel_upstream(batch.channel), False, batch.count - (channel.sent == 0), channel.sent == 0)
    channel.sent += batch.count
    batch.count = 0


cdef void udp_flush(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.upstream_count):
        if c.upstreams[i].batch.count:
            batch_send(c, c.upstreams[i].batch)


cdef uint32_t udp_receive(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef channel_t *channel = &c.channels[index]
    cdef int count
    if channel.fd < 0:           # closed since the kernel reported it
        return 0
    count = recvmmsg(channel.fd, c.udp_rx.messages, BATCH, MSG_DONTWAIT, NULL)
    if count > 0:
        return <uint32_t>count
    if count < 0 and errno != EAGAIN and errno != EINTR and errno != ENOMEM:
        c.upstreams[channel_upstream(index)].error = errno
        channel.failed = CHANNEL_REFUSED
        c.channel_failed = 1
    return 0
