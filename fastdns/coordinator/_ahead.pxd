# SPDX-License-Identifier: Apache-2.0
# _ahead.pxd: names in use are asked again before they expire. nogil.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t

# The next flight that is to be asked ahead of time, NONE: nothing is due, or enough is under way.
cdef uint32_t ahead_next(coordinator_t *c) noexcept nogil
