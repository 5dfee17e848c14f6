# SPDX-License-Identifier: Apache-2.0
"""DNS over TCP to clients (RFC 7766): accepting, events, late replies, time limits, the end.

_tcp_stream has the octets of one connection, _tcp_table who is who and how long, _tcp_pool the
blocks. Nothing here waits or allocates after tcp_open.
"""

from libc.errno cimport (
    EAGAIN,
    ECONNABORTED,
    EINTR,
    EMFILE,
    EPERM,
    EPROTO,
    errno,
)
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastdns._memory cimport fd_reserve, fd_take
from fastdns._shm cimport fd_at, fd_listener_t, fd_local_t, fd_store32, sockaddr_in, sockaddr_in6
from fastdns._stats cimport (
    FD_C_replies_tcp,
    FD_C_tcp_accept_failed,
    FD_C_tcp_accepted,
    FD_C_tcp_closed_cap,
    FD_C_tcp_closed_idle,
    FD_C_tcp_closed_slow,
    bump,
)
from fastdns._sys cimport AF_INET
from fastdns.worker._state cimport EVENT_TCP_LISTENER, TCP_REPLY_ROOM, tcp_t, worker_t
from fastdns.worker._tcp_pool cimport pool_close, pool_open
from fastdns.worker._tcp_stream cimport (
    GATHER_FLUSH,
    POOL_MIN,
    READ_BUFFER,
    WAITING_MAX,
    stream_advance,
    stream_arm,
    stream_send,
    stream_settle,
    stream_writable,
)
from fastdns.worker._tcp_table cimport (
    NO_CONNECTION,
    NO_COUNTER,
    PHASE_FIRST,
    PHASE_FREE,
    PHASE_IDLE,
    PHASE_SLOW,
    connection_close,
    connection_t,
    connection_take,
    phase_head,
    phase_next,
    table_close,
    table_idlest,
    table_open,
    tcp_state,
    tcp_state_t,
)

cdef extern from "<sys/socket.h>" nogil:
    int getpeername(int fd, void *address, unsigned int *length)
    int getsockname(int fd, void *address, unsigned int *length)
    int accept4(int fd, void *address, void *length, int flags)
    int setsockopt(int fd, int level, int option, const void *value, unsigned int size)
    enum:
        SOCK_NONBLOCK, SOCK_CLOEXEC, SOL_SOCKET, SO_SNDBUF, SO_RCVBUF

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        IPPROTO_TCP, TCP_NODELAY

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_ctl(int epoll, int op, int fd, epoll_event *event)
    enum:
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, EPOLLERR, EPOLLHUP

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef enum:
    ACCEPTS = 16                 # connections accepted in one event
    # octets of payload that the kernel keeps for a connection in each direction (it books twice
    # that): a full reply fits, and 1,024 clients that don't read take 128 MiB of it, not 4 GiB
    SOCKET_BUFFER = 64 * 1024
    TICK_MS = 100                # nobody sleeps longer


cdef tcp_t *tcp_open(worker_t *worker, tcp_serve_t serve) noexcept nogil:
    cdef tcp_state_t *tcp
    cdef uint8_t *part = <uint8_t *>fd_at(worker.region, worker.region.tcp.off)
    cdef uint32_t octets = worker.region.tcp.count
    cdef uint32_t capacity = min(worker.config.tcp_connections, <uint32_t>NO_CONNECTION)
    if octets < READ_BUFFER + POOL_MIN:
        return NULL
    tcp = <tcp_state_t *>fd_take(sizeof(tcp_state_t), 0)
    if tcp == NULL:
        return NULL
    tcp.serve = serve
    tcp.buffer = part
    tcp.gather = <uint8_t *>fd_reserve(GATHER_FLUSH + TCP_REPLY_ROOM)
    # Clients of a predecessor that wait in the pending table name its connections: its use counts
    # must not come again. A million uses of one place in one life are out of reach.
    if (tcp.gather == NULL or not table_open(tcp, capacity, worker.region.starts << 20)
            or not pool_open(&tcp.pool, part + READ_BUFFER, octets - READ_BUFFER)):
        _free(tcp)
        return NULL
    fd_store32(&worker.region.tcp_connections, 0)
    fd_store32(&worker.region.tcp_blocks, 0)
    worker.tcp = <tcp_t *>tcp
    _prepare_listeners(worker)
    _listen(worker)
    return worker.tcp


cdef void _free(tcp_state_t *tcp) noexcept nogil:
    pool_close(&tcp.pool)
    table_close(tcp)
    free(tcp.gather)
    free(tcp)


cdef void tcp_close(worker_t *worker) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef uint32_t i
    if tcp == NULL:
        return
    _stop_listening(worker)
    for i in range(tcp.capacity):
        if tcp.connections[i].phase != PHASE_FREE:
            connection_close(worker, &tcp.connections[i], NO_COUNTER)
    worker.tcp = NULL
    _free(tcp)


# ------------------------------------------------------------------------------ accepting ----

cdef void _prepare_listeners(worker_t *worker) noexcept nogil:
    # Accepted sockets inherit these: no system call for each connection.
    cdef uint32_t i
    cdef int on = 1
    cdef int octets = SOCKET_BUFFER
    for i in range(worker.config.listener_count):
        if worker.tcp_fds[i] < 0:
            continue             # an empty slot
        setsockopt(worker.tcp_fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
        setsockopt(worker.tcp_fds[i], SOL_SOCKET, SO_SNDBUF, &octets, sizeof(octets))
        setsockopt(worker.tcp_fds[i], SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets))


cdef void _listen(worker_t *worker) noexcept nogil:
    cdef uint32_t i
    cdef epoll_event event
    event.events = EPOLLIN
    for i in range(worker.config.listener_count):
        if worker.tcp_fds[i] >= 0:
            event.data.u64 = (<uint64_t>EVENT_TCP_LISTENER << 32) | i
            epoll_ctl(worker.epoll, EPOLL_CTL_ADD, worker.tcp_fds[i], &event)
    tcp_state(worker).accepting = True


cdef void _stop_listening(worker_t *worker) noexcept nogil:
    cdef uint32_t i
    for i in range(worker.config.listener_count):
        if worker.tcp_fds[i] >= 0:
            epoll_ctl(worker.epoll, EPOLL_CTL_DEL, worker.tcp_fds[i], NULL)
    tcp_state(worker).accepting = False


cdef void _accept(worker_t *worker, uint8_t listener) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef int i, fd
    for i in range(ACCEPTS):
        if not tcp.accepting:
            return
        fd = accept4(worker.tcp_fds[listener], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            bump(worker.counters, FD_C_tcp_accepted, 1)
            _admit(worker, fd, listener)
        elif errno == EAGAIN:
            return
        elif errno == EMFILE:
            # The kernel looks for a descriptor before it looks for a connection. Only at the
            # start of an event is there surely one to make room for.
            if i:
                return
            if not _make_room(worker):
                _pause(worker)
        elif errno != EINTR and errno != ECONNABORTED and errno != EPROTO and errno != EPERM:
            _pause(worker)


cdef void _pause(worker_t *worker) noexcept nogil:
    # A listener that can't be served stays readable: the loop would turn without rest. The next
    # tick tries again.
    bump(worker.counters, FD_C_tcp_accept_failed, 1)
    _stop_listening(worker)


cdef bint _make_room(worker_t *worker) noexcept nogil:
    cdef connection_t *idlest = table_idlest(tcp_state(worker))
    if idlest == NULL:
        return False
    connection_close(worker, idlest, FD_C_tcp_closed_cap)
    return True


cdef void _admit(worker_t *worker, int fd, uint8_t listener) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef connection_t *connection
    if tcp.used == tcp.capacity and not _make_room(worker):
        # All have queries waiting: they were first.
        close(fd)
        bump(worker.counters, FD_C_tcp_closed_cap, 1)
        return
    connection = connection_take(worker, fd, listener)
    if not stream_arm(worker, connection, EPOLLIN):
        connection_close(worker, connection, FD_C_tcp_accept_failed)


# -------------------------------------------------------------------- events and replies ----

cdef void tcp_event(worker_t *worker, uint64_t data, uint32_t events) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef connection_t *connection
    if data >> 32 == EVENT_TCP_LISTENER:
        _accept(worker, <uint8_t>data)
        return
    connection = &tcp.connections[data & 0xffff]
    if connection.phase == PHASE_FREE or (connection.use & 0xffff) != ((data >> 16) & 0xffff):
        return                   # closed by an earlier event of the same batch
    if events & (EPOLLERR | EPOLLHUP):
        # Reset, or closed both ways: no reply can reach it any more.
        connection_close(worker, connection, NO_COUNTER)
        return
    stream_writable(worker, connection)
    if connection.phase != PHASE_FREE:
        stream_advance(worker, connection)


cdef connection_t *_find(worker_t *worker, uint16_t index, uint32_t use) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef connection_t *connection
    if index >= tcp.capacity:
        return NULL
    connection = &tcp.connections[index]
    return connection if connection.phase != PHASE_FREE and connection.use == use else NULL


cdef void tcp_peer(worker_t *worker, uint16_t connection, uint32_t connection_use, sockaddr_in6 *peer,
                   fd_local_t *local) noexcept nogil:
    cdef connection_t *asking = _find(worker, connection, connection_use)
    cdef sockaddr_in6 own
    cdef unsigned int octets = sizeof(sockaddr_in6)
    memset(peer, 0, sizeof(sockaddr_in6))
    memset(local, 0, sizeof(fd_local_t))
    memset(&own, 0, sizeof(sockaddr_in6))
    if asking == NULL:
        return
    getpeername(asking.fd, peer, &octets)
    if not worker.config.listeners[asking.listener].wildcard:
        return
    octets = sizeof(sockaddr_in6)
    getsockname(asking.fd, &own, &octets)
    if own.sin6_family == AF_INET:
        memcpy(local.address, &(<sockaddr_in *>&own).sin_addr, 4)
    else:
        memcpy(local.address, &own.sin6_addr, 16)
        local.ifindex = own.sin6_scope_id


cdef void tcp_waits(worker_t *worker, uint16_t connection, uint32_t connection_use) noexcept nogil:
    cdef connection_t *waiting = _find(worker, connection, connection_use)
    if waiting == NULL:
        return
    waiting.waiting += 1
    if waiting.waiting >= WAITING_MAX:
        waiting.full = True


cdef void tcp_reply(worker_t *worker, uint16_t connection, uint32_t connection_use,
                    uint8_t *prefixed, uint32_t message_len) noexcept nogil:
    cdef connection_t *asking = _find(worker, connection, connection_use)
    if asking == NULL:
        return
    if asking.waiting:
        asking.waiting -= 1
    prefixed[0] = <uint8_t>(message_len >> 8)
    prefixed[1] = <uint8_t>message_len
    if stream_send(worker, asking, prefixed, message_len + 2):
        bump(worker.counters, FD_C_replies_tcp, 1)
        stream_settle(worker, asking, False)


# --------------------------------------------------------------------- time and the end ----

cdef uint32_t tcp_tick(worker_t *worker) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef uint32_t wait = TICK_MS
    fd_store32(&worker.region.tcp_blocks, tcp.pool.count - tcp.pool.free_count)
    if not tcp.accepting and not tcp.draining:
        _listen(worker)
    wait = min(wait, _expire(worker, PHASE_FIRST, worker.config.tcp_first_ms, FD_C_tcp_closed_idle))
    wait = min(wait, _expire(worker, PHASE_IDLE, worker.config.tcp_idle_ms, FD_C_tcp_closed_idle))
    return min(wait, _expire(worker, PHASE_SLOW, worker.config.tcp_slow_ms, FD_C_tcp_closed_slow))


cdef uint32_t _expire(worker_t *worker, uint8_t phase, uint32_t least, int counter) noexcept nogil:
    # Close what has been in a phase for as long as its listener allows, which is `least` ms or more.
    # Returns ms until the next is due.
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef connection_t *connection = phase_head(tcp, phase)
    cdef connection_t *following
    cdef uint32_t wait = TICK_MS
    cdef uint32_t limit
    cdef uint64_t age
    while connection != NULL:
        age = worker.now_ms - connection.since
        if age < least:
            return min(wait, <uint32_t>(least - age))
        following = phase_next(tcp, connection)
        limit = _allowed(worker, connection, phase, least)
        if age >= limit:
            connection_close(worker, connection, counter)
        else:
            wait = min(wait, <uint32_t>(limit - age))
        connection = following
    return wait


cdef inline uint32_t _allowed(const worker_t *worker, const connection_t *connection, uint8_t phase,
                              uint32_t least) noexcept nogil:
    cdef const fd_listener_t *listener = &worker.config.listeners[connection.listener]
    if phase == PHASE_FIRST:
        return max(listener.tcp_first_ms, least)
    return max(listener.tcp_idle_ms, least) if phase == PHASE_IDLE else least


cdef uint32_t tcp_drain(worker_t *worker) noexcept nogil:
    # The backlog stays with the listener, for the successor. A query that is already here is
    # read and answered first; a connection with nothing to do is closed.
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef connection_t *connection
    cdef uint32_t i
    cdef uint32_t busy = 0
    if not tcp.draining:
        _stop_listening(worker)
        tcp.draining = True
    for i in range(tcp.capacity):
        connection = &tcp.connections[i]
        if (connection.phase != PHASE_FREE and not _owes(connection)
                and not stream_advance(worker, connection)
                and connection.phase != PHASE_FREE and not _owes(connection)):
            connection_close(worker, connection, NO_COUNTER)
        if connection.phase != PHASE_FREE:
            busy += 1
    return busy


cdef inline bint _owes(const connection_t *connection) noexcept nogil:
    return connection.waiting != 0 or connection.output.len != 0
