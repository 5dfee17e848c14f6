# SPDX-License-Identifier: Apache-2.0
# _channels.pxd: what a channel's number says. nogil, inline.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport (
    NONE,
    TCP_CONNECTIONS,
    TCP_FIRST,
    UPSTREAM_CHANNELS,
    channel_t,
    connection_t,
    coordinator_t,
)


# The upstream whose channel it is.
cdef inline uint32_t channel_upstream(uint32_t channel) noexcept nogil:
    return channel // UPSTREAM_CHANNELS


cdef inline bint channel_is_tcp(uint32_t channel) noexcept nogil:
    return channel % UPSTREAM_CHANNELS >= TCP_FIRST


# The channel of an upstream's TCP connection of that place, 0 to TCP_CONNECTIONS - 1.
cdef inline uint32_t tcp_channel(uint32_t upstream, uint32_t place) noexcept nogil:
    return upstream * UPSTREAM_CHANNELS + TCP_FIRST + place


cdef inline uint32_t tcp_place(uint32_t channel) noexcept nogil:
    return channel % UPSTREAM_CHANNELS - TCP_FIRST


cdef inline connection_t *connection_of(coordinator_t *c, uint32_t channel) noexcept nogil:
    return &c.connections[channel_upstream(channel) * TCP_CONNECTIONS + tcp_place(channel)]


# A channel that is closed and has nothing.
cdef inline void channel_clear(channel_t *channel) noexcept nogil:
    channel.fd = -1
    channel.attempts = channel.oldest = channel.unsent = NONE
    channel.outstanding = channel.sent = 0
    channel.failed = channel.draining = 0
    channel.opened_ms = 0
