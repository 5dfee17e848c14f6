# SPDX-License-Identifier: Apache-2.0
# _tcp.pxd: DNS over TCP to clients (RFC 7766): many connections, pipelined, answers in any order.
# nogil; all memory is taken at open, message buffers from the pool in the worker's region.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns.worker._state cimport tcp_t, worker_t

# Take the connection table and put the listeners into the worker's epoll. NULL: no memory.
cdef tcp_t *tcp_open(worker_t *worker) noexcept nogil

# An epoll event of kind EVENT_TCP_LISTENER or EVENT_TCP_CONNECTION.
cdef void tcp_event(worker_t *worker, uint64_t data, uint32_t events) noexcept nogil

# Send a reply whose query had to wait. `message` points at 2 free octets before the DNS message
# (the length prefix goes there). A connection that has gone (other use count) is no error.
cdef void tcp_reply(worker_t *worker, uint16_t connection, uint32_t connection_use,
                    uint8_t *prefixed, uint32_t message_len) noexcept nogil

# Time limits: first query, idle, slow. Returns ms until it wants to be called again (100 at most).
cdef uint32_t tcp_tick(worker_t *worker) noexcept nogil

# Stop accepting; returns the number of connections that still have queries waiting or unsent replies.
cdef uint32_t tcp_drain(worker_t *worker) noexcept nogil
