# SPDX-License-Identifier: Apache-2.0
# _tcp_stream.pxd: one TCP connection: octets to messages, messages to octets. nogil.
# Each of these may close the connection (phase PHASE_FREE afterwards).
from libc.stdint cimport uint8_t, uint32_t

from fastdns.worker._state cimport worker_t
from fastdns.worker._tcp_table cimport connection_t

cdef enum:
    READ_BUFFER = 66 * 1024      # octets; the largest message with its prefix and some more fit
    POOL_MIN = 16 * 1024         # octets without which the pool is no use
    # octets read in one event, so that one connection's queries (some 100 of 40 octets, as many
    # as a UDP batch) don't hold up everybody else; epoll reports the rest again
    READ_CHUNK = 4096
    GATHER_FLUSH = 16 * 1024     # octets of replies that are sent before more are written
    UNSENT_MAX = 2 * 65537       # octets kept for a client that doesn't read
    WAITING_MAX = 1024           # queries of one connection at the coordinator; then it is not read

# Serve the messages that were kept, or read once and serve what came. Returns whether there was
# anything.
cdef bint stream_advance(worker_t *worker, connection_t *connection) noexcept nogil

# The socket takes octets again: write what is kept.
cdef void stream_writable(worker_t *worker, connection_t *connection) noexcept nogil

# Write whole messages with their prefixes. False: the connection was closed.
cdef bint stream_send(worker_t *worker, connection_t *connection,
                      const uint8_t *data, uint32_t n) noexcept nogil

# Bring queue and epoll into line with what the connection is at now; close it if it is done.
#   progress   it did something: its time begins anew
cdef void stream_settle(worker_t *worker, connection_t *connection, bint progress) noexcept nogil

# Ask epoll for `events` of the connection, the first time too. False: the kernel refused.
cdef bint stream_arm(worker_t *worker, connection_t *connection, uint32_t events) noexcept nogil
