# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from fastdns._cache cimport cache_t
from fastdns._shm cimport fd_post_t
from fastdns.coordinator._store cimport store_t

cdef class Cache:
    cdef cache_t cache
    cdef void *base
    cdef uint64_t size
    cdef uint64_t counters[128]
    cdef readonly str opened

cdef class Store:
    cdef store_t *store
    cdef readonly Cache cache
    cdef fd_post_t *post
    cdef uint16_t *hits[16]
    cdef uint32_t workers
