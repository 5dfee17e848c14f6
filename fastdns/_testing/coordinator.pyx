# SPDX-License-Identifier: Apache-2.0
"""Wrappers for the tests of the rings and the coordinator."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from fastdns._ring cimport (
    ring_commit,
    ring_empty,
    ring_next,
    ring_open,
    ring_record_len,
    ring_release,
    ring_reserve,
    ring_t,
)
from fastdns._shm cimport fd_load32, fd_record_t, fd_ring_t, fd_store32

RING_HEADER = sizeof(fd_ring_t)
RECORD_HEADER = sizeof(fd_record_t)


cdef class Ring:
    """One side of a ring in ``memory``: its indexes first, then ``size`` octets of data."""

    cdef ring_t ring
    cdef uint8_t[::1] memory

    def __cinit__(self, memory, uint32_t size):
        self.memory = memory
        assert <size_t>self.memory.shape[0] >= sizeof(fd_ring_t) + size
        ring_open(&self.ring, <fd_ring_t *>&self.memory[0], &self.memory[0] + sizeof(fd_ring_t), size)

    def reserve(self, uint32_t octets) -> bool:
        return ring_reserve(&self.ring, octets) != NULL

    def commit(self) -> None:
        ring_commit(&self.ring)

    def put(self, const uint8_t[::1] payload, int kind = 2) -> bool:
        """Put a record; ``payload`` stands behind the record's header."""
        cdef uint32_t octets = <uint32_t>(sizeof(fd_record_t) + payload.shape[0])
        cdef fd_record_t *record = <fd_record_t *>ring_reserve(&self.ring, octets)
        if record == NULL:
            return False
        record.kind = <uint8_t>kind
        record.flags = 0
        record.ede = <uint16_t>payload.shape[0]
        if payload.shape[0]:
            memcpy(<uint8_t *>record + sizeof(fd_record_t), &payload[0], payload.shape[0])
        ring_commit(&self.ring)
        return True

    def next(self):
        """(kind, payload) of the next record, which stays until release; None if there is none."""
        cdef fd_record_t *record = ring_next(&self.ring)
        if record == NULL:
            return None
        assert sizeof(fd_record_t) + record.ede <= ring_record_len(&self.ring)
        return record.kind, (<uint8_t *>record)[sizeof(fd_record_t):sizeof(fd_record_t) + record.ede]

    def release(self) -> None:
        ring_release(&self.ring)

    def empty(self) -> bool:
        return ring_empty(&self.ring)

    @property
    def head(self) -> int:
        return fd_load32(&self.ring.shared.head)

    @head.setter
    def head(self, uint32_t value) -> None:
        fd_store32(&self.ring.shared.head, value)

    @property
    def tail(self) -> int:
        return fd_load32(&self.ring.shared.tail)

    @tail.setter
    def tail(self, uint32_t value) -> None:
        fd_store32(&self.ring.shared.tail, value)

    @property
    def marked(self) -> int:
        return fd_load32(&self.ring.shared.marked)
