# SPDX-License-Identifier: Apache-2.0
# _channels.pxd: what a channel's number says. nogil, inline.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport TCP_SLOT, UPSTREAM_CHANNELS


# The upstream whose channel it is.
cdef inline uint32_t channel_upstream(uint32_t channel) noexcept nogil:
    return channel // UPSTREAM_CHANNELS


cdef inline bint channel_is_tcp(uint32_t channel) noexcept nogil:
    return channel % UPSTREAM_CHANNELS == TCP_SLOT
