# SPDX-License-Identifier: Apache-2.0
# _segments.pxd: the shared-memory segments: made by the keeper, checked by whoever maps them. SHM_LAYOUT
from libc.stdint cimport uint32_t, uint64_t

from fastdns._shm cimport fd_cache_header_t, fd_config_t, fd_log_t, fd_post_t, fd_region_t

# Checksums over the numbers that give a segment its shape, and over the sizes of the structs in it.
cdef uint64_t cache_geometry_sum(const fd_cache_header_t *header) noexcept nogil
cdef uint64_t region_geometry_sum(const fd_region_t *region) noexcept nogil

# CLOCK_BOOTTIME in ms, and in us.
cdef uint64_t boottime_ms() noexcept nogil
cdef uint64_t boottime_us() noexcept nogil

# Map a whole segment; NULL (errno set) on failure. `size` is filled from fstat.
cdef void *map_segment(int fd, bint writable, uint64_t *size) noexcept nogil

# The mapped segment if it is what it says it is, else NULL.
cdef fd_region_t *region_check(void *base, uint64_t size) noexcept nogil
cdef fd_post_t *post_check(void *base, uint64_t size) noexcept nogil
cdef const fd_config_t *config_check(const void *base, uint64_t size) noexcept nogil
cdef fd_log_t *log_check(void *base, uint64_t size) noexcept nogil
