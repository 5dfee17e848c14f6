# SPDX-License-Identifier: Apache-2.0
"""The sweep after a new configuration, on a store that a test filled."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from fastdns._segments cimport config_check, map_segment
from fastdns._testing.cache cimport Store
from fastdns.coordinator._state cimport coordinator_t
from fastdns.coordinator._sweep cimport sweep_step


cdef class Sweep:
    """A coordinator that has begun with the configuration behind descriptor ``config``."""

    cdef coordinator_t *c
    cdef readonly Store store

    def __cinit__(self, Store store, int config):
        cdef uint64_t size = 0
        cdef void *base = map_segment(config, False, &size)
        self.store = store
        self.c = <coordinator_t *>calloc(1, sizeof(coordinator_t))
        if self.c == NULL:
            raise MemoryError
        self.c.config = config_check(base, size)
        assert self.c.config != NULL
        self.c.post = store.post
        self.c.store = store.store

    def __dealloc__(self):
        free(self.c)

    def step(self) -> bool:
        """One piece. False: there is nothing more to do."""
        return sweep_step(self.c)

    @property
    def swept(self) -> int:
        """Number of the configuration that the whole cache agrees with."""
        return self.store.post.swept

    @property
    def place(self) -> int:
        """Buckets looked at so far."""
        return self.store.store.agree_bucket

    @property
    def buckets(self) -> int:
        return self.store.store.cache.shard_count * self.store.store.cache.bucket_count
