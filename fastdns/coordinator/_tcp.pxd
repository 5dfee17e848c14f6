# SPDX-License-Identifier: Apache-2.0
# _tcp.pxd: one long-lived connection to each upstream that needs one: many questions in flight,
# answers in any order (RFC 7766 s6.2.1.1, 7). nogil. Room for several a upstream is in channel_t.
from libc.stdint cimport uint8_t, uint32_t

from fastdns.coordinator._state cimport ask_rc, coordinator_t

cdef enum:
    TCP_IDLE_MS = 10_000         # CoreDNS closes idle connections after 10 s as well
    TCP_DEAD_MS = 3000           # questions in flight and not an octet for so long: lost

# Take the buffers. No connection is opened yet.
cdef bint tcp_open(coordinator_t *c) noexcept nogil
cdef void tcp_close(coordinator_t *c) noexcept nogil

# Put the flight's question on the connection to its upstream, which is opened if need be.
cdef ask_rc tcp_ask(coordinator_t *c, uint32_t flight) noexcept nogil

# Send what tcp_ask has put.
cdef void tcp_flush(coordinator_t *c) noexcept nogil

# An epoll event on upstream `index`'s connection: finish the connect, send, and receive once. What
# came is taken by tcp_message. A lost connection is closed, its channel gets `failed`.
cdef void tcp_event(coordinator_t *c, uint32_t index, uint32_t events) noexcept nogil

# The next whole message that was received, or NULL. It stays until tcp_event or tcp_close.
cdef const uint8_t *tcp_message(coordinator_t *c, uint32_t index, uint32_t *octets) noexcept nogil

# Upkeep, some ten times a second: close idle connections, and dead ones (`failed`).
cdef void tcp_tend(coordinator_t *c) noexcept nogil
