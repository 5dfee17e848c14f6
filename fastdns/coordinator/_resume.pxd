# SPDX-License-Identifier: Apache-2.0
# _resume.pxd: what the Python thread said of the flights it had. nogil.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t

cdef enum:
    RESUME_MAX = 64              # results taken in a round

# Take the thread's results; returns how many there were.
cdef uint32_t resume_flights(coordinator_t *c) noexcept nogil

# A thread that hangs on one question for 5 s: its key is quarantined, and this process ends.
cdef void resume_watch(coordinator_t *c) noexcept nogil
