# SPDX-License-Identifier: Apache-2.0
# _ask.pxd: a flight's question is put to an upstream, and put again after silence. nogil.
# After each of these the flight may be gone: nobody could be asked.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t, flight_t

cdef enum:
    FAILURES_MAX = 6             # channels that may fail under a flight before it gives up

# Go through the steps of its block as far as one that takes the question; a `forward` asks its first upstream.
cdef void go_on(coordinator_t *c, uint32_t flight) noexcept nogil

# Put the question to flight.upstream, or to the next one to which there is a way, and set its timer.
cdef void ask(coordinator_t *c, uint32_t flight) noexcept nogil

# The same, not after silence: the waiting begins anew.
cdef void ask_at_once(coordinator_t *c, uint32_t flight) noexcept nogil

# The timer went off: ask again, from another port or of another upstream; or the flight's time is over.
cdef void ask_again(coordinator_t *c, uint32_t flight) noexcept nogil

# From now on another upstream is meant. It may answer over UDP, and may know EDNS.
cdef void turn_to(coordinator_t *c, uint32_t flight, uint32_t upstream) noexcept nogil

# Nobody is at flight.upstream, or it can't be used: turn to the next one, or when all of them were tried
# to all of them again. False: that is over, the flight has failed.
cdef bint turn_away(coordinator_t *c, uint32_t flight) noexcept nogil

# An upstream failed the question: it is to be checked. Whether it was the last one that may
# (`max_connect_attempts`).
cdef bint gave_up(coordinator_t *c, flight_t *flight, uint32_t upstream) noexcept nogil

# Upstreams that send this block's questions back here; bits as in flight.refused.
cdef uint32_t barred(const coordinator_t *c, const flight_t *flight) noexcept nogil
