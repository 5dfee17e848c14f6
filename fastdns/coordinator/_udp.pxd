# SPDX-License-Identifier: Apache-2.0
# _udp.pxd: questions to upstreams over UDP: pools of connected sockets, one batch a socket. nogil.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport ask_rc, coordinator_t

cdef enum:
    SOCKET_AGE_MS = 10_000       # a socket is replaced after this,
    SOCKET_QUESTIONS = 10_000    # or after so many questions: a port is not there to be learned

# Take the memory for batches of `c.upstream_count` upstreams; no socket is opened yet.
cdef bint udp_open(coordinator_t *c) noexcept nogil
cdef void udp_close(coordinator_t *c) noexcept nogil

# Put the flight's question into the batch to its upstream, on a socket chosen at random that is not
# the one it was asked on last. A batch that is full goes out.
cdef ask_rc udp_ask(coordinator_t *c, uint32_t flight) noexcept nogil

# Send all batches. Channels whose upstream is not there get `failed`.
cdef void udp_flush(coordinator_t *c) noexcept nogil

# Receive a batch from a channel into c.udp_rx. Returns the number of messages; a channel whose
# upstream is not there gets `failed`.
cdef uint32_t udp_receive(coordinator_t *c, uint32_t channel) noexcept nogil

# A socket whose upstream was not there: its port is used no more. Behind a translating address
# (a cluster's service) another port may lead to another server, which is there.
cdef void udp_retire(coordinator_t *c, uint32_t channel) noexcept nogil

# Upkeep, some ten times a second: close replaced sockets on which nothing waits any more.
cdef void udp_tend(coordinator_t *c) noexcept nogil
