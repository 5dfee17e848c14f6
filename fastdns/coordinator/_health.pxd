# SPDX-License-Identifier: Apache-2.0
# _health.pxd: checks of upstreams that failed, as CoreDNS has them, and what ends with their return. nogil.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t, flight_t

cdef enum:
    CHECK_WAIT_MS = 1000         # for the answer to a check, as CoreDNS
    CHECK_MIN_MS = 50            # between two checks, whatever the text says
    CHECK_AGAIN_MS = 500         # after it a check is put once more; and the longest interval while it is awaited
    AWAY_MS = 200                # without an answer to a check: it is not the questions' names that lead nowhere

# A question failed at this upstream: it is checked until it answers, one check at a time. Not where
# the forward says `max_fails 0`, nor for questions of our own.
cdef void health_doubt(coordinator_t *c, const flight_t *flight, uint32_t upstream) noexcept nogil

# The next check that is due: a flight to be asked. NONE: there is none now.
cdef uint32_t health_next(coordinator_t *c) noexcept nogil

# ms that a check waits for its answer before it is put once more, or fails.
cdef uint32_t health_wait_ms(const coordinator_t *c, uint32_t upstream) noexcept nogil

# A check's flight ends: with an answer (health_answered was told of it), or without.
cdef void health_passed(coordinator_t *c, uint32_t flight) noexcept nogil
cdef void health_failed(coordinator_t *c, uint32_t flight) noexcept nogil

# An answer came from it, to a check or to anything, of whatever kind: somebody is there. Where it was away
# its stale marks and failures are void from now on.
cdef void health_answered(coordinator_t *c, uint32_t upstream) noexcept nogil

# A question failed: what is kept of that ends with the return of those of its upstreams that are silent.
# False: none is.
cdef bint health_await(coordinator_t *c, const flight_t *flight) noexcept nogil

# Whether an upstream came back within the time that a question has: one that fails now may have been asked
# in the outage only.
cdef bint health_just_back(const coordinator_t *c) noexcept nogil
