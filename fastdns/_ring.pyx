# SPDX-License-Identifier: Apache-2.0
"""Single-producer single-consumer rings between a worker and the coordinator. SHM_LAYOUT

Head and tail are free-running counters of octets, multiples of 8. Records never wrap: where one
doesn't fit before the end of the data, a skip record fills it. Head is moved after a record is
whole, tail after its work is done, so a death on either side leaves a ring that a successor can
go on with: it opens the ring anew and keeps nothing of its predecessor but the shared indexes.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport (
    FD_RECORD_SKIP,
    fd_acquire32,
    fd_load32,
    fd_record_t,
    fd_release32,
    fd_ring_t,
    fd_store32,
)


cdef void ring_open(ring_t *ring, fd_ring_t *shared, uint8_t *data, uint32_t size) noexcept nogil:
    ring.shared = shared
    ring.data = data
    ring.size = size
    ring.held = 0
    # Whichever side this is: with the consumer's index as "seen" a producer finds no more room
    # than there is, and a consumer no more records (it looks again when it sees none).
    ring.seen = fd_acquire32(&shared.tail)


cdef inline uint32_t aligned_head(const ring_t *ring) noexcept nogil:
    # The producer's own index. A predecessor's wild write may have left it odd; the consumer
    # empties the ring when it meets such a head, so the next record starts on a multiple of 8.
    return (fd_load32(&ring.shared.head) + 7) & ~<uint32_t>7


cdef void *ring_reserve(ring_t *ring, uint32_t octets) noexcept nogil:
    cdef uint32_t head = aligned_head(ring)
    cdef uint32_t position = head & (ring.size - 1)
    cdef uint32_t to_end = ring.size - position
    cdef uint32_t need
    cdef fd_record_t *record
    ring.held = 0
    if octets > ring.size:       # before rounding up: that could wrap
        fd_store32(&ring.shared.marked, fd_load32(&ring.shared.marked) + 1)
        return NULL
    octets = (octets + 7) & ~<uint32_t>7
    need = octets if octets <= to_end else to_end + octets
    # A used part larger than the ring is an impossible tail: no room, until the consumer puts it right.
    if need > ring.size or head - ring.seen > ring.size - need:
        ring.seen = fd_acquire32(&ring.shared.tail)
        if need > ring.size or head - ring.seen > ring.size - need:
            fd_store32(&ring.shared.marked, fd_load32(&ring.shared.marked) + 1)
            return NULL
    if octets > to_end:
        record = <fd_record_t *>(ring.data + position)
        record.len = to_end
        record.kind = FD_RECORD_SKIP
        position = 0
    record = <fd_record_t *>(ring.data + position)
    record.len = octets
    ring.held = need
    return record


cdef void ring_commit(ring_t *ring) noexcept nogil:
    fd_release32(&ring.shared.head, aligned_head(ring) + ring.held)
    ring.held = 0


cdef fd_record_t *ring_next(ring_t *ring) noexcept nogil:
    cdef uint32_t tail = fd_load32(&ring.shared.tail)
    cdef uint32_t position, octets, used
    cdef fd_record_t *record
    while True:                  # twice at most: a skip record ends where the data ends
        if ring.seen == tail:
            ring.seen = fd_acquire32(&ring.shared.head)
            if ring.seen == tail:
                ring.held = 0
                return NULL
        used = ring.seen - tail
        if used > ring.size or (ring.seen | tail) & 7:
            break
        position = tail & (ring.size - 1)
        record = <fd_record_t *>(ring.data + position)
        octets = fd_load32(&record.len)
        if octets < sizeof(fd_record_t) or octets & 7 or octets > used or octets > ring.size - position:
            break
        if record.kind != FD_RECORD_SKIP:
            ring.held = octets
            return record
        if octets != ring.size - position or position == 0:
            break
        tail += octets
        fd_release32(&ring.shared.tail, tail)
    # Not what a producer writes. What it holds is lost; the mark that waiting for an answer has
    # anyway, the deadline, covers it.
    ring.seen = fd_acquire32(&ring.shared.head)
    fd_release32(&ring.shared.tail, ring.seen)
    ring.held = 0
    return NULL


cdef void ring_release(ring_t *ring) noexcept nogil:
    fd_release32(&ring.shared.tail, fd_load32(&ring.shared.tail) + ring.held)
    ring.held = 0


cdef bint ring_empty(const ring_t *ring) noexcept nogil:
    return fd_acquire32(&ring.shared.head) == fd_load32(&ring.shared.tail)
