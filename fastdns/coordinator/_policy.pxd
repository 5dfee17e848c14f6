# SPDX-License-Identifier: Apache-2.0
# _policy.pxd: whom to ask: the order of a forward's upstreams, and who is passed over. nogil.
#
# The policy gives each question an order. Whoever fares badly comes behind those who fare well,
# whatever the policy says.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t, flight_t

# Take the memory for what is kept of each forward.
cdef bint policy_open(coordinator_t *c) noexcept nogil

# The upstream for a new question of flight.forward, whose order is made here; not one of
# flight.refused. NONE: there is none, or all are down and the forward says that nobody is asked then.
cdef uint32_t policy_first(coordinator_t *c, flight_t *flight) noexcept nogil

# Whether the upstream that was asked last fares well.
cdef bint policy_well(const coordinator_t *c, const flight_t *flight) noexcept nogil

# The next one in its order, where somebody may be, behind the one that was asked last; if there is
# none, the same one; NONE if nobody is at any of them.
cdef uint32_t policy_next(const coordinator_t *c, const flight_t *flight) noexcept nogil
