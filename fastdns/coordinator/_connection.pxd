# SPDX-License-Identifier: Apache-2.0
# _connection.pxd: one TCP connection to an upstream, called by its channel's number: opened, written,
# read message by message, closed. Which question goes where is _tcp's. nogil.
from libc.stdint cimport uint8_t, uint32_t

from fastdns.coordinator._state cimport ask_rc, coordinator_t

# Take the memory for all connections. None is opened yet.
cdef bint connections_open(coordinator_t *c) noexcept nogil
cdef void connections_close(coordinator_t *c) noexcept nogil

# Begin to connect, on a channel that is closed and not failed.
cdef ask_rc connection_open(coordinator_t *c, uint32_t channel) noexcept nogil

cdef void connection_close(coordinator_t *c, uint32_t channel) noexcept nogil

# Close it, and if questions are on it, set its channel's `failed`.
cdef void connection_lost(coordinator_t *c, uint32_t channel) noexcept nogil

# Write the channel's unsent questions, as far as the kernel takes them, once it stands.
cdef void connection_send(coordinator_t *c, uint32_t channel) noexcept nogil

# Whether the peer's kernel has not yet acknowledged everything that was put on it.
cdef bint connection_unacknowledged(coordinator_t *c, uint32_t channel) noexcept nogil

# An epoll event: finish the connect, write, and receive once. What came is to be taken by
# connection_message, before the event of another connection.
cdef void connection_event(coordinator_t *c, uint32_t channel, uint32_t events) noexcept nogil

# The next whole message of what connection_event received, or NULL: there is no more, and the part
# of one that may be left is kept. It stays until the next call.
cdef const uint8_t *connection_message(coordinator_t *c, uint32_t channel, uint32_t *octets) noexcept nogil
