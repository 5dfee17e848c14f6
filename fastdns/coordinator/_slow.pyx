# SPDX-License-Identifier: Apache-2.0
"""The loop's end of the queues to the Python thread, which does regular expressions and templates."""

from libc.stdint cimport uint32_t

from fastdns._shm cimport fd_step_t
from fastdns.coordinator._state cimport coordinator_t


cdef bint slow_ask(coordinator_t *c, uint32_t flight, const fd_step_t *step) noexcept nogil:
    return False
