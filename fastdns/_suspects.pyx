# SPDX-License-Identifier: Apache-2.0
"""What children of one role died on.

More than one at a time: two poisons in turn must not make each other forgotten. The table is small
and looked at only by a child's start and while something is refused.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastdns._shm cimport FD_SUSPECTS, fd_release64, fd_suspect_t


cdef uint32_t suspect_deaths(const fd_suspect_t *table, uint64_t hash, uint64_t now_ms) noexcept nogil:
    cdef uint32_t i
    for i in range(<uint32_t>FD_SUSPECTS):
        if table[i].hash == hash and table[i].until_ms > now_ms:
            return table[i].deaths
    return 0


cdef bint suspect_refused(const fd_suspect_t *table, uint64_t hash, uint64_t now_ms) noexcept nogil:
    return suspect_deaths(table, hash, now_ms) >= DEATHS_MAX


cdef uint32_t suspect_add(fd_suspect_t *table, uint64_t hash, uint64_t now_ms) noexcept nogil:
    cdef uint32_t deaths = suspect_deaths(table, hash, now_ms) + 1
    cdef fd_suspect_t *place = &table[0]
    cdef uint32_t i
    for i in range(<uint32_t>FD_SUSPECTS):
        if table[i].hash == hash:
            place = &table[i]
            break
        # A free place has ended longest ago.
        if table[i].until_ms < place.until_ms:
            place = &table[i]
    if place.hash != hash:
        fd_release64(&place.hash, 0)   # a death in between leaves a free place, and no mixture
    place.deaths = deaths
    place.until_ms = now_ms + SUSPECT_MS
    fd_release64(&place.hash, hash)
    return deaths


cdef void suspect_acquit(fd_suspect_t *table, uint64_t hash) noexcept nogil:
    cdef uint32_t i
    for i in range(<uint32_t>FD_SUSPECTS):
        if table[i].hash == hash:
            fd_release64(&table[i].hash, 0)
            table[i].until_ms = 0
            table[i].deaths = 0


cdef uint32_t suspects_count(const fd_suspect_t *table, uint32_t deaths, uint64_t now_ms) noexcept nogil:
    cdef uint32_t i, count = 0
    for i in range(<uint32_t>FD_SUSPECTS):
        if table[i].hash != 0 and table[i].deaths >= deaths and table[i].until_ms > now_ms:
            count += 1
    return count
