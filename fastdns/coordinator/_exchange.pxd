# SPDX-License-Identifier: Apache-2.0
# _exchange.pxd: the life of a question: answered, silence, channels that failed. nogil.
from libc.stdint cimport uint8_t, uint32_t

from fastdns.coordinator._state cimport coordinator_t

# A message that came on a channel; `cut`: the datagram was longer than what was received.
cdef void exchange_response(coordinator_t *c, uint32_t channel, const uint8_t *msg, uint32_t octets,
                            bint cut) noexcept nogil

# The flight's timer went off: silence, or the end of its time.
cdef void exchange_silence(coordinator_t *c, uint32_t flight) noexcept nogil

# What the Python thread said of a flight it had (FLIGHT_SLOW): the walk goes on behind its step, with
# what it made of the question (flight_change); or the answer stands in c.made.
cdef void exchange_resume(coordinator_t *c, uint32_t flight) noexcept nogil
cdef void exchange_made(coordinator_t *c, uint32_t flight) noexcept nogil

# Put the questions of our own that are due: what finds out about loops (_probe) and whether silent
# upstreams are there again (_health), for ancestors of names that don't exist (_cut), and for names in use that
# are about to expire (_ahead).
cdef void exchange_own(coordinator_t *c) noexcept nogil
