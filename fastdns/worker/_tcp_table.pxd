# SPDX-License-Identifier: Apache-2.0
# _tcp_table.pxd: a worker's TCP connections and the queues that time them. nogil.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns.worker._state cimport origin_t, worker_t
from fastdns.worker._tcp_pool cimport chain_t, pool_t

cdef enum:
    NO_CONNECTION = 0xffff
    NO_COUNTER = -1

# What a connection is at. Each phase is a queue; a connection always joins at its end, with the
# present as its `since`, so every queue is ordered by time and its head is the first to expire.
cdef enum:
    PHASE_FREE = 0
    PHASE_FIRST = 1              # accepted, nothing received yet
    PHASE_IDLE = 2               # everything answered
    PHASE_SLOW = 3               # part of a message received, or octets that the client has not read
    PHASE_WAITING = 4            # queries at the coordinator: their time is the pending table's
    PHASES = 5

# What answers one message: serve_tcp (_serve.pxd has its terms). Given at open, so that TCP
# stands below _serve and the tests can put a function of their own here.
ctypedef uint32_t (*tcp_serve_t)(worker_t *worker, const uint8_t *msg, uint32_t msg_len,
                                 const origin_t *origin, uint8_t *out) noexcept nogil

ctypedef struct connection_t:
    int fd
    uint32_t use                 # grows when the connection is closed
    uint64_t since               # ms; in this phase, or the last progress in it
    uint32_t waiting             # queries whose reply comes later
    uint32_t queries             # whole messages that have come
    uint32_t need                # octets of the first message in `input`, prefix included; 0: unknown yet
    uint32_t armed               # epoll events asked for
    chain_t input                # received, not served
    chain_t output               # written, not taken by the kernel
    uint16_t prev
    uint16_t next
    uint8_t phase
    uint8_t listener
    uint8_t registered           # with epoll
    uint8_t ended                # nothing more is read: the client has sent its FIN, or as much as it may
    uint8_t full                 # too many waiting: not read until half of them are answered

ctypedef struct queue_t:
    uint16_t head
    uint16_t tail

ctypedef struct tcp_state_t:     # what worker_t.tcp points at
    connection_t *connections
    uint32_t capacity
    uint32_t used
    queue_t queues[5]
    pool_t pool
    uint8_t *buffer              # at the start of region.tcp: messages are served out of it
    uint8_t *gather              # private: the replies of one event, sent together
    tcp_serve_t serve
    bint accepting               # the listeners are in the epoll
    bint draining

cdef inline tcp_state_t *tcp_state(worker_t *worker) noexcept nogil:
    return <tcp_state_t *>worker.tcp

cdef inline uint16_t connection_index(const tcp_state_t *tcp, const connection_t *connection) noexcept nogil:
    return <uint16_t>(connection - tcp.connections)

# Make `capacity` free connections; the use counts begin at first_use. False: no memory.
cdef bint table_open(tcp_state_t *tcp, uint32_t capacity, uint32_t first_use) noexcept nogil
cdef void table_close(tcp_state_t *tcp) noexcept nogil

# Put a connection at the end of the queue of `phase`.
cdef void connection_move(tcp_state_t *tcp, connection_t *connection, uint8_t phase,
                          uint64_t now_ms) noexcept nogil

# The longest in a phase; NULL: none.
cdef connection_t *phase_head(const tcp_state_t *tcp, uint8_t phase) noexcept nogil

# The next longest in the same phase; NULL: none.
cdef connection_t *phase_next(const tcp_state_t *tcp, const connection_t *connection) noexcept nogil

# The connection to be closed when another must have its place: the one longest without activity
# among those with nothing to do, else the slowest. NULL: queries wait on all of them.
cdef connection_t *table_idlest(const tcp_state_t *tcp) noexcept nogil

# Take a free place for an accepted socket. The table must not be full.
cdef connection_t *connection_take(worker_t *worker, int fd, uint8_t listener) noexcept nogil

# Close the socket, free its blocks and its place; `counter` (FD_C_*, or NO_COUNTER) says why.
# Replies that are still to come find another use count and are dropped.
cdef void connection_close(worker_t *worker, connection_t *connection, int counter) noexcept nogil
