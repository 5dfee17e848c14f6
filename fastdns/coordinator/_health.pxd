# SPDX-License-Identifier: Apache-2.0
# _health.pxd: checks of upstreams that failed, as CoreDNS has them. nogil.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t, flight_t

cdef enum:
    CHECK_WAIT_MS = 1000         # for the answer to a check, as CoreDNS
    CHECK_MIN_MS = 50            # between two checks, whatever the text says

# A question failed at this upstream: it is checked until it answers, one check at a time. Not where
# the forward says `max_fails 0`, nor for questions of our own.
cdef void health_doubt(coordinator_t *c, const flight_t *flight, uint32_t upstream) noexcept nogil

# The next check that is due: a flight to be asked. NONE: there is none now.
cdef uint32_t health_next(coordinator_t *c) noexcept nogil

# A check's flight ends: with an answer, or without.
cdef void health_passed(coordinator_t *c, uint32_t flight) noexcept nogil
cdef void health_failed(coordinator_t *c, uint32_t flight) noexcept nogil
