# SPDX-License-Identifier: Apache-2.0
# _recheck.pxd: finds out at once when upstreams that are all silent are back. nogil.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t, flight_t

# A question failed because nobody answered it. Where that goes for all upstreams of its `forward`, and stale
# answers are held for it, they are asked again and again from now on.
cdef void recheck_begin(coordinator_t *c, const flight_t *flight) noexcept nogil

# A flight that is to be asked now, or NONE; nobody waits for its answer. To be called until it says NONE.
cdef uint32_t recheck_next(coordinator_t *c) noexcept nogil
