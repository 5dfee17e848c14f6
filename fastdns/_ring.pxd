# SPDX-License-Identifier: Apache-2.0
# _ring.pxd: single-producer single-consumer rings in a worker's region. SHM_LAYOUT
# nogil, no allocation. One process produces, one consumes; either may die at any instruction.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_record_t, fd_ring_t

# One side's view of a ring: each process opens its own and uses it as producer or as consumer,
# never as both. A record of up to half the ring always fits once the ring is empty.
ctypedef struct ring_t:
    fd_ring_t *shared            # indexes
    uint8_t *data
    uint32_t size                # octets, power of two
    uint32_t seen                # the other side's index when last read: spares its cache line
    # Producer: octets reserved, a skip record before them included. Consumer: of the record in hand.
    uint32_t held

cdef void ring_open(ring_t *ring, fd_ring_t *shared, uint8_t *data, uint32_t size) noexcept nogil

# Producer: room for a record of `octets` (rounded up to 8), or NULL if the ring is full (its
# `marked` was advanced then). Fill it, `len` included by this call, then ring_commit. A second
# call before ring_commit gives the first one's room up.
cdef void *ring_reserve(ring_t *ring, uint32_t octets) noexcept nogil
cdef void ring_commit(ring_t *ring) noexcept nogil

# Consumer: the next record, or NULL. It stays until ring_release: its work is done first, so a
# death repeats a record and never loses one. A record with an impossible length (its producer
# died of wild writes) empties the ring. The record's memory stays writable by the producer:
# a consumer that doesn't trust it copies before it checks.
cdef fd_record_t *ring_next(ring_t *ring) noexcept nogil
cdef void ring_release(ring_t *ring) noexcept nogil

# Octets of the record that ring_next gave, as they were checked; the word in the record may have
# changed since.
cdef inline uint32_t ring_record_len(const ring_t *ring) noexcept nogil:
    return ring.held

# Consumer: whether nothing waits. Reads the producer's index afresh, so it may be asked after
# fd_announce_sleep.
cdef bint ring_empty(const ring_t *ring) noexcept nogil
