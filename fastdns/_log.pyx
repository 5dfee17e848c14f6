# SPDX-License-Identifier: Apache-2.0
"""The writer's end of a log ring: a line that finds it full is dropped, never a query."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._ring cimport ring_commit, ring_open, ring_reserve
from fastdns._segments cimport log_check
from fastdns._shm cimport fd_log_t, fd_record_t
from fastdns._stats cimport FD_C_log_dropped, bump


cdef bint log_open(log_t *log, void *base, uint64_t size) noexcept nogil:
    cdef fd_log_t *segment = log_check(base, size)
    if segment == NULL:
        return False
    ring_open(&log.ring, &segment.ring, <uint8_t *>base + sizeof(fd_log_t), segment.octets)
    return True


cdef void *log_reserve(log_t *log, uint32_t octets, int kind, uint64_t *counters) noexcept nogil:
    cdef fd_record_t *record = <fd_record_t *>ring_reserve(&log.ring, octets)
    if record == NULL:
        bump(counters, FD_C_log_dropped, 1)
        return NULL
    record.kind = <uint8_t>kind
    record.flags = 0
    record.ede = 0
    return record


cdef void log_commit(log_t *log) noexcept nogil:
    ring_commit(&log.ring)
