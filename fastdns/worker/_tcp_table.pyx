# SPDX-License-Identifier: Apache-2.0
"""A worker's TCP connections and the queues that time them."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

from fastdns._memory cimport fd_take
from fastdns._shm cimport fd_store32
from fastdns._stats cimport bump
from fastdns.worker._state cimport worker_t
from fastdns.worker._tcp_pool cimport chain_drop, chain_init

cdef extern from "<unistd.h>" nogil:
    int close(int fd)


cdef bint table_open(tcp_state_t *tcp, uint32_t capacity, uint32_t first_use) noexcept nogil:
    cdef uint32_t i
    cdef int phase
    cdef connection_t *connection
    tcp.connections = <connection_t *>fd_take((capacity + 1) * sizeof(connection_t), 0)
    if tcp.connections == NULL:
        return False
    tcp.capacity = capacity
    for phase in range(PHASES):
        tcp.queues[phase].head = tcp.queues[phase].tail = NO_CONNECTION
    for i in range(capacity):
        connection = &tcp.connections[i]
        connection.fd = -1
        connection.use = first_use
        chain_init(&connection.input)
        chain_init(&connection.output)
        _join(tcp, connection, PHASE_FREE)
    return True


cdef void table_close(tcp_state_t *tcp) noexcept nogil:
    free(tcp.connections)
    tcp.connections = NULL
    tcp.capacity = 0


cdef void _join(tcp_state_t *tcp, connection_t *connection, uint8_t phase) noexcept nogil:
    cdef queue_t *queue = &tcp.queues[phase]
    cdef uint16_t index = connection_index(tcp, connection)
    connection.phase = phase
    connection.prev = queue.tail
    connection.next = NO_CONNECTION
    if queue.tail == NO_CONNECTION:
        queue.head = index
    else:
        tcp.connections[queue.tail].next = index
    queue.tail = index


cdef void _leave(tcp_state_t *tcp, connection_t *connection) noexcept nogil:
    cdef queue_t *queue = &tcp.queues[connection.phase]
    if connection.prev == NO_CONNECTION:
        queue.head = connection.next
    else:
        tcp.connections[connection.prev].next = connection.next
    if connection.next == NO_CONNECTION:
        queue.tail = connection.prev
    else:
        tcp.connections[connection.next].prev = connection.prev


cdef void connection_move(tcp_state_t *tcp, connection_t *connection, uint8_t phase,
                          uint64_t now_ms) noexcept nogil:
    _leave(tcp, connection)
    connection.since = now_ms
    _join(tcp, connection, phase)


cdef connection_t *phase_head(const tcp_state_t *tcp, uint8_t phase) noexcept nogil:
    cdef uint16_t index = tcp.queues[phase].head
    return NULL if index == NO_CONNECTION else &tcp.connections[index]


cdef connection_t *phase_next(const tcp_state_t *tcp, const connection_t *connection) noexcept nogil:
    cdef uint16_t index = connection.next
    return NULL if index == NO_CONNECTION else &tcp.connections[index]


cdef connection_t *table_idlest(const tcp_state_t *tcp) noexcept nogil:
    cdef connection_t *first = phase_head(tcp, PHASE_FIRST)
    cdef connection_t *idle = phase_head(tcp, PHASE_IDLE)
    if first != NULL and (idle == NULL or first.since < idle.since):
        return first
    if idle != NULL:
        return idle
    return phase_head(tcp, PHASE_SLOW)


cdef connection_t *connection_take(worker_t *worker, int fd, uint8_t listener) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    cdef connection_t *connection = phase_head(tcp, PHASE_FREE)
    connection.fd = fd
    connection.listener = listener
    connection.waiting = connection.queries = connection.need = connection.armed = 0
    connection.registered = connection.ended = connection.full = False
    connection_move(tcp, connection, PHASE_FIRST, worker.now_ms)
    tcp.used += 1
    fd_store32(&worker.region.tcp_connections, tcp.used)
    return connection


cdef void connection_close(worker_t *worker, connection_t *connection, int counter) noexcept nogil:
    cdef tcp_state_t *tcp = tcp_state(worker)
    close(connection.fd)         # takes it out of the epoll too: nobody else has this descriptor
    connection.fd = -1
    connection.use += 1
    chain_drop(&tcp.pool, &connection.input)
    chain_drop(&tcp.pool, &connection.output)
    connection_move(tcp, connection, PHASE_FREE, worker.now_ms)
    tcp.used -= 1
    fd_store32(&worker.region.tcp_connections, tcp.used)
    if counter != NO_COUNTER:
        bump(worker.counters, counter, 1)
