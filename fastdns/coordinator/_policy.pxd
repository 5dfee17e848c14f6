# SPDX-License-Identifier: Apache-2.0
# _policy.pxd: whom to ask: the order of a forward's upstreams, and who is passed over. nogil.
#
# The policy gives each question an order. Whoever fares badly comes behind those who fare well,
# whatever the policy says.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t, flight_t

cdef enum:
    LAG_TIMES = 4                # so many times as slow as the forward's quickest,
    LAG_MS = 100                 # and by so much: an upstream lags behind
    HEDGE_SHARE = 20             # one question of so many may be put to a second upstream as well
    HEDGE_BURST = 10             # such questions in a row
    HEDGE_MIN_MS = 2             # the timers' steps are 1 ms

# Take the memory for what is kept of each forward.
cdef bint policy_open(coordinator_t *c) noexcept nogil

# The upstream for a new question of flight.forward, whose order is made here; not one of
# flight.refused. NONE: there is none, or all are down and the forward says that nobody is asked then.
cdef uint32_t policy_first(coordinator_t *c, flight_t *flight) noexcept nogil

# Whether the upstream that was asked last fares well.
cdef bint policy_well(coordinator_t *c, const flight_t *flight) noexcept nogil

# ms until the question is put to a second upstream as well: the time in which 19 of 20 answers of the
# first come. 0: there is nobody else, or nothing is known of the first.
cdef uint32_t policy_hedge_ms(coordinator_t *c, const flight_t *flight) noexcept nogil

# That second upstream, asked over UDP, once: it is paid for here. NONE: the next one does not fare well or is
# never asked over UDP, or too many were asked.
cdef uint32_t policy_hedge(coordinator_t *c, const flight_t *flight) noexcept nogil

# The next one in its order, where somebody may be, behind the one that was asked last; if there is
# none, the same one; NONE if nobody is at any of them.
cdef uint32_t policy_next(coordinator_t *c, const flight_t *flight) noexcept nogil
