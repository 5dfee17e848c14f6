# SPDX-License-Identifier: Apache-2.0
"""One TCP connection: octets to messages, messages to octets (RFC 1035 s4.2.2, RFC 7766).

A message is served where it was read, in the buffer at the start of region.tcp: there a successor
finds its octets if this process dies on it. Only what is not whole yet goes to blocks. While a
client doesn't read its replies, it isn't read either.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._proto cimport HEADER_LEN
from fastdns._shm cimport FD_CLIENT_TCP, iovec, msghdr
from fastdns._stats cimport (
    FD_C_replies_tcp,
    FD_C_send_failed,
    FD_C_tcp_buffers_full,
    FD_C_tcp_closed_bad,
    FD_C_tcp_closed_queries,
    FD_C_tcp_closed_slow,
    bump,
)
from fastdns.worker._state cimport EVENT_TCP_CONNECTION, origin_t, worker_t
from fastdns.worker._tcp_pool cimport (
    chain_append,
    chain_copy,
    chain_drop,
    chain_t,
    chain_take,
    chain_vectors,
)
from fastdns.worker._tcp_table cimport (
    NO_COUNTER,
    PHASE_FIRST,
    PHASE_IDLE,
    PHASE_SLOW,
    PHASE_WAITING,
    connection_close,
    connection_index,
    connection_move,
    connection_t,
    phase_head,
    phase_next,
    tcp_state,
    tcp_state_t,
)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *buffer, size_t n, int flags)
    ssize_t send(int fd, const void *buffer, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    enum:
        MSG_DONTWAIT, MSG_NOSIGNAL

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_ctl(int epoll, int op, int fd, epoll_event *event)
    enum:
        EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT

cdef enum:
    PREFIX = 2                   # octets of a message's length; RFC 1035 s4.2.2
    VECTORS = 256                # blocks written in one call


cdef inline bint _may_serve(const connection_t *connection) noexcept nogil:
    return connection.output.len == 0 and not connection.full


cdef inline bint _whole_kept(const connection_t *connection) noexcept nogil:
    return connection.input.len >= PREFIX and connection.input.len >= connection.need


cdef inline uint32_t _get_u16(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 8) | p[1]


cdef bint stream_advance(worker_t *worker, connection_t *connection) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef uint32_t kept = connection.input.len
    cdef uint32_t want = READ_CHUNK
    cdef ssize_t got = 0
    if not _may_serve(connection):
        return False
    if not _whole_kept(connection):
        if connection.ended:
            return False
        if connection.need > kept and connection.need - kept > want:
            want = connection.need - kept
        got = recv(connection.fd, tcp.buffer + kept, min(want, READ_BUFFER - kept), MSG_DONTWAIT)
        if got < 0:
            if errno != EAGAIN and errno != EINTR:
                connection_close(worker, connection, NO_COUNTER)
            return False
        if got == 0:
            # The client may only have closed its side: what it asked is still answered.
            connection.ended = True
            chain_drop(&tcp.pool, &connection.input)
            stream_settle(worker, connection, False)
            return False
        if kept >= PREFIX and kept + <uint32_t>got < connection.need:
            # Not whole yet. What is kept stays where it is, so a message that comes octet by
            # octet is copied once, not once an octet.
            if _keep(worker, connection, &connection.input, tcp.buffer + kept, <uint32_t>got):
                stream_settle(worker, connection, False)
            return True
    if kept:
        chain_copy(&tcp.pool, &connection.input, tcp.buffer)
        chain_drop(&tcp.pool, &connection.input)
    _serve_buffer(worker, connection, kept + <uint32_t>got)
    return True


cdef void _serve_buffer(worker_t *worker, connection_t *connection, uint32_t total) noexcept nogil:
    # Serve the whole messages among the first `total` octets of the buffer and keep the rest.
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef const uint8_t *at = tcp.buffer
    cdef uint32_t left = total
    cdef uint32_t use = connection.use
    cdef uint32_t gathered = 0
    cdef uint32_t most = worker.config.listeners[connection.listener].tcp_queries
    cdef uint32_t length, answer
    cdef origin_t origin
    memset(&origin, 0, sizeof(origin))
    origin.state = FD_CLIENT_TCP
    origin.listener = connection.listener
    origin.connection = connection_index(tcp, connection)
    origin.connection_use = use
    while left >= PREFIX and _may_serve(connection):
        length = _get_u16(at)
        if length < HEADER_LEN:
            if stream_send(worker, connection, tcp.gather, gathered):
                connection_close(worker, connection, FD_C_tcp_closed_bad)
            return
        if left - PREFIX < length:
            break
        connection.queries += 1
        origin.request_size = <uint16_t>length
        answer = tcp.serve(worker, at + PREFIX, length, &origin, tcp.gather + gathered + PREFIX)
        if connection.use != use:
            return               # serving made late replies due, and one found it broken
        if answer:
            tcp.gather[gathered] = <uint8_t>(answer >> 8)
            tcp.gather[gathered + 1] = <uint8_t>answer
            gathered += PREFIX + answer
            bump(worker.counters, FD_C_replies_tcp, 1)
        at += PREFIX + length
        left -= PREFIX + length
        if connection.queries == most:
            # Closed when all is answered; what was sent beyond that is not looked at.
            bump(worker.counters, FD_C_tcp_closed_queries, 1)
            connection.ended = True
            left = 0
        if gathered >= GATHER_FLUSH:
            if not stream_send(worker, connection, tcp.gather, gathered):
                return
            gathered = 0
    if not stream_send(worker, connection, tcp.gather, gathered):
        return
    connection.need = PREFIX + _get_u16(at) if left >= PREFIX else 0
    if left and not _keep(worker, connection, &connection.input, at, left):
        return
    stream_settle(worker, connection, left != total)


cdef bint _keep(worker_t *worker, connection_t *connection, chain_t *chain,
                const uint8_t *data, uint32_t n) noexcept nogil:
    # Put octets into blocks. When there are none, those who hold them longest without progress
    # lose theirs: a few clients that never finish must not close the door for all others.
    # False: the connection itself was closed.
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef connection_t *slowest
    while not chain_append(&tcp.pool, chain, data, n):
        slowest = phase_head(tcp, PHASE_SLOW)
        if slowest == connection and connection.input.len + connection.output.len == 0:
            # It stands in that queue for a message that was finished just now.
            slowest = phase_next(tcp, connection)
        if slowest == NULL:
            slowest = connection
        connection_close(worker, slowest, FD_C_tcp_buffers_full)
        if slowest == connection:
            return False
    return True


cdef bint stream_send(worker_t *worker, connection_t *connection,
                      const uint8_t *data, uint32_t n) noexcept nogil:
    cdef ssize_t sent = 0
    if n == 0:
        return True
    if connection.output.len == 0:
        sent = send(connection.fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            if errno != EAGAIN and errno != EINTR:
                connection_close(worker, connection, FD_C_send_failed)
                return False
            sent = 0
        if <uint32_t>sent == n:
            return True
    if connection.output.len + n - <uint32_t>sent > UNSENT_MAX:
        connection_close(worker, connection, FD_C_tcp_closed_slow)
        return False
    return _keep(worker, connection, &connection.output, data + sent, n - <uint32_t>sent)


cdef void stream_writable(worker_t *worker, connection_t *connection) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef iovec vectors[VECTORS]
    cdef msghdr message
    cdef ssize_t sent
    if connection.output.len == 0:
        return
    memset(&message, 0, sizeof(message))
    message.msg_iov = vectors
    message.msg_iovlen = chain_vectors(&tcp.pool, &connection.output, vectors, VECTORS)
    sent = sendmsg(connection.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
    if sent < 0:
        if errno != EAGAIN and errno != EINTR:
            connection_close(worker, connection, FD_C_send_failed)
        return
    chain_take(&tcp.pool, &connection.output, <uint32_t>sent)
    stream_settle(worker, connection, True)


cdef uint8_t _phase(const connection_t *connection) noexcept nogil:
    if connection.output.len or (connection.input.len and not connection.full):
        return PHASE_SLOW
    if connection.waiting:
        return PHASE_WAITING
    return PHASE_IDLE if connection.queries else PHASE_FIRST


cdef void stream_settle(worker_t *worker, connection_t *connection, bint progress) noexcept nogil:
    cdef uint8_t phase
    cdef uint32_t wanted = 0
    if connection.full and connection.waiting <= WAITING_MAX // 2:
        connection.full = False
    if connection.ended and not (connection.waiting or connection.output.len or connection.input.len):
        connection_close(worker, connection, NO_COUNTER)
        return
    phase = _phase(connection)
    if progress or phase != connection.phase:
        connection_move(tcp_state(worker), connection, phase, worker.now_ms)
    if connection.output.len:
        wanted = EPOLLOUT
    elif not connection.full:
        if _whole_kept(connection):
            wanted = EPOLLOUT    # nothing to wait for: it is served in the next round
        elif not connection.ended:
            wanted = EPOLLIN
    if wanted != connection.armed:
        stream_arm(worker, connection, wanted)


cdef bint stream_arm(worker_t *worker, connection_t *connection, uint32_t events) noexcept nogil:
    # The data carries 16 bits of the use count: an event from the batch in which a connection was
    # closed must not reach the next one in its place.
    cdef epoll_event event
    cdef int op = EPOLL_CTL_MOD if connection.registered else EPOLL_CTL_ADD
    event.events = events
    event.data.u64 = (<uint64_t>EVENT_TCP_CONNECTION << 32) | ((connection.use & 0xffff) << 16) | (
        connection_index(tcp_state(worker), connection))
    if epoll_ctl(worker.epoll, op, connection.fd, &event) != 0:
        return False
    connection.registered = True
    connection.armed = events
    return True
