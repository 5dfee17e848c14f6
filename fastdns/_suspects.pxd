# SPDX-License-Identifier: Apache-2.0
# _suspects.pxd: what children of one role died on, in memory that outlives them (design "Deaths"). nogil.
# A table is FD_SUSPECTS places of fd_suspect_t; only the role's process of the moment writes it.
from libc.stdint cimport uint32_t, uint64_t

from fastdns._shm cimport fd_suspect_t

cdef enum:
    DEATHS_MAX = 2               # so many on one packet or key, and it is refused
    SUSPECT_MS = 60_000          # remembered after the last of them

# How many have died on it so far; 0: it is no suspect.
cdef uint32_t suspect_deaths(const fd_suspect_t *table, uint64_t hash, uint64_t now_ms) noexcept nogil

# Whether it is refused.
cdef bint suspect_refused(const fd_suspect_t *table, uint64_t hash, uint64_t now_ms) noexcept nogil

# One more has died on it: returns how many by now. What is remembered longest makes room.
cdef uint32_t suspect_add(fd_suspect_t *table, uint64_t hash, uint64_t now_ms) noexcept nogil

# It was done once: it is nobody special any more.
cdef void suspect_acquit(fd_suspect_t *table, uint64_t hash) noexcept nogil

# Places with at least so many deaths.
cdef uint32_t suspects_count(const fd_suspect_t *table, uint32_t deaths, uint64_t now_ms) noexcept nogil
