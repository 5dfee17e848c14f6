# SPDX-License-Identifier: Apache-2.0
# _tcp.pxd: DNS over TCP to clients (RFC 7766): many connections, pipelined, answers in any order.
# nogil; all memory is taken at open, message buffers from the pool in the worker's region.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._shm cimport fd_local_t, sockaddr_in6
from fastdns.worker._state cimport tcp_t, worker_t
from fastdns.worker._tcp_table cimport tcp_serve_t

# Take the connection table, bind the pool to region.tcp and put the listeners into the worker's
# epoll. NULL: no memory, or a region too small. Nothing is allocated after this.
cdef tcp_t *tcp_open(worker_t *worker, tcp_serve_t serve) noexcept nogil

# Close all connections and give the memory back.
cdef void tcp_close(worker_t *worker) noexcept nogil

# An epoll event of kind EVENT_TCP_LISTENER or EVENT_TCP_CONNECTION; `data` as epoll gave it (a
# connection's low 32 bits are its index and 16 bits of its use count).
cdef void tcp_event(worker_t *worker, uint64_t data, uint32_t events) noexcept nogil

# Who asks on a connection; on a wildcard listener also the address that was asked. Zeros for what
# has gone. Two system calls: for those who want a client's address over TCP.
cdef void tcp_peer(worker_t *worker, uint16_t connection, uint32_t connection_use, sockaddr_in6 *peer,
                   fd_local_t *local) noexcept nogil

# A client place was taken for a query of this connection: the connection is not idle until one
# tcp_reply has followed for each call.
cdef void tcp_waits(worker_t *worker, uint16_t connection, uint32_t connection_use) noexcept nogil

# Send a reply whose query had to wait. `prefixed` points at 2 free octets before the DNS message
# (the length prefix goes there). A connection that has gone (other use count) is no error.
cdef void tcp_reply(worker_t *worker, uint16_t connection, uint32_t connection_use,
                    uint8_t *prefixed, uint32_t message_len) noexcept nogil

# Time limits: first query, idle, slow. Returns ms until it wants to be called again (100 at most).
cdef uint32_t tcp_tick(worker_t *worker) noexcept nogil

# Stop accepting, and close what has nothing to do. Returns the connections that are left: queries
# wait, replies are unsent, or something came just now. Called again until that is 0.
cdef uint32_t tcp_drain(worker_t *worker) noexcept nogil
