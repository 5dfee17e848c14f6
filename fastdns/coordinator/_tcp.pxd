# SPDX-License-Identifier: Apache-2.0
# _tcp.pxd: an upstream's TCP connections, TCP_CONNECTIONS at most: which of them a question goes to,
# when another is opened, and when one is closed. nogil. docs/upstream.md has the reasons.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport ask_rc, coordinator_t, flight_t, upstream_t

cdef enum:
    TCP_SILENCE_MS = 100         # at least, before a question is put on another connection as well
    TCP_SLOW_MS = 1000           # after this another upstream is asked, whatever the connection does
    TCP_DEAD_MS = 3000           # questions in flight and not an octet for so long: lost

ctypedef enum other_rc:          # where a question that waits on one connection could go
    OTHER_NONE = 0               # all places are taken, and on none anything moves
    OTHER_NEW = 1                # to a connection that would be opened
    OTHER_STANDS = 2             # to one that works

# Put the flight's question on a connection to its upstream, not the one it was put on last where
# there is another. One is opened if need be.
cdef ask_rc tcp_ask(coordinator_t *c, uint32_t flight) noexcept nogil

# Send what tcp_ask has put.
cdef void tcp_flush(coordinator_t *c) noexcept nogil

# Whether the flight's newest attempt waits in vain where it is: nothing moves on its connection for
# as long as the upstream's answers take, and it is not the one that the upstream works on.
cdef bint tcp_stuck(coordinator_t *c, const flight_t *flight) noexcept nogil

# No new questions on the connection of the flight's newest attempt, until something moves there.
cdef void tcp_avoid(coordinator_t *c, const flight_t *flight) noexcept nogil

# Where else the flight's question could go at its upstream.
cdef other_rc tcp_other(coordinator_t *c, const flight_t *flight) noexcept nogil

# Whether a connection to it stands and works.
cdef bint tcp_stands(coordinator_t *c, uint32_t upstream) noexcept nogil

# ms of silence after which a TCP question is looked after.
cdef uint32_t tcp_wait_ms(const upstream_t *upstream) noexcept nogil

# Upkeep, some ten times a second: connections that are idle, old or dead.
cdef void tcp_tend(coordinator_t *c) noexcept nogil
