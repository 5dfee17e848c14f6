# SPDX-License-Identifier: Apache-2.0
# _log.pxd: the writer's end of a log ring: lines of `log` and `errors` for control. SHM_LAYOUT
# nogil, no allocation, never waits. One process writes a ring.
from libc.stdint cimport uint32_t, uint64_t

from fastdns._ring cimport ring_t

ctypedef struct log_t:
    ring_t ring

# Take the segment at `base` (log_check). False: it is none of this version.
cdef bint log_open(log_t *log, void *base, uint64_t size) noexcept nogil

# Room for a record of `octets`, its header's `len` and `kind` filled; then log_commit. NULL: the ring
# is full, the line is dropped and counted in `counters`.
cdef void *log_reserve(log_t *log, uint32_t octets, int kind, uint64_t *counters) noexcept nogil
cdef void log_commit(log_t *log) noexcept nogil
