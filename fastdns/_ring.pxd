# SPDX-License-Identifier: Apache-2.0
# _ring.pxd: single-producer single-consumer rings in a worker's region. SHM_LAYOUT
# nogil, no allocation. One process produces, one consumes; either may die at any instruction.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_record_t, fd_ring_t

ctypedef struct ring_t:
    fd_ring_t *shared            # indexes
    uint8_t *data
    uint32_t size                # octets, power of two
    uint32_t reserved            # producer: octets of the record under way

cdef void ring_open(ring_t *ring, fd_ring_t *shared, uint8_t *data, uint32_t size) noexcept nogil

# Producer: room for a record of `octets` (rounded up to 8), or NULL if the ring is full (its
# `marked` was advanced then). Fill it, `len` included by this call, then ring_commit.
cdef void *ring_reserve(ring_t *ring, uint32_t octets) noexcept nogil
cdef void ring_commit(ring_t *ring) noexcept nogil

# Consumer: the next record, or NULL. It stays until ring_release: its work is done first, so a
# death repeats a record and never loses one. A record with an impossible length (its producer
# died of wild writes) empties the ring.
cdef fd_record_t *ring_next(ring_t *ring) noexcept nogil
cdef void ring_release(ring_t *ring) noexcept nogil

cdef bint ring_empty(const ring_t *ring) noexcept nogil
