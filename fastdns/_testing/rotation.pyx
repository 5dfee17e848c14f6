# SPDX-License-Identifier: Apache-2.0
"""Answers whose records change places, for tests."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastdns._answer cimport compose_reply
from fastdns._cache cimport answer_view, entry_view
from fastdns._rotate cimport part_t, rotate_parts
from fastdns._shm cimport (
    FD_ENTRY_MAX,
    FD_ENTRY_POSITIVE,
    FD_ENTRY_QNAME_OFF,
    fd_entry_records_off,
    fd_entry_size,
    fd_entry_t,
    fd_entry_ttl_off,
    fd_network_t,
    fd_query_t,
)
from fastdns._wire cimport PARSE_OK, parse_query
from fastdns.coordinator._prefer cimport prefer_order
from fastdns.coordinator._rotation cimport rotate_find
from fastdns.worker._count cimport next_spin
from fastdns.worker._state cimport worker_t


cdef class Answer:
    """An answer to (qname in lower case, wire; qtype): its records as they follow the question."""

    cdef fd_entry_t *entry
    cdef uint32_t octets

    def __cinit__(self):
        self.entry = <fd_entry_t *>calloc(1, FD_ENTRY_MAX)
        if self.entry == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.entry)

    def __init__(self, bytes qname, int qtype, bytes records, ttl_offsets, counts):
        cdef fd_entry_t *entry = self.entry
        cdef int i
        entry.kind = FD_ENTRY_POSITIVE
        entry.qtype = qtype
        entry.qclass = 1
        entry.ttl_s = 3600
        entry.ancount, entry.nscount, entry.arcount = counts
        entry.ttl_count = len(ttl_offsets)
        entry.records_len = len(records)
        entry.qname_len = len(qname)
        memcpy(<uint8_t *>entry + FD_ENTRY_QNAME_OFF, <const uint8_t *>qname, len(qname))
        for i in range(len(ttl_offsets)):
            (<uint16_t *>(<uint8_t *>entry + fd_entry_ttl_off(entry.qname_len)))[i] = ttl_offsets[i]
        memcpy(<uint8_t *>entry + fd_entry_records_off(entry.qname_len, entry.ttl_count),
               <const uint8_t *>records, len(records))
        self.octets = fd_entry_size(entry.qname_len, entry.ttl_count, entry.records_len)
        rotate_find(entry)

    def prefer(self, networks):
        """Put the addresses of these networks (address, bits) first."""
        cdef fd_network_t rows[64]
        cdef bytes address
        cdef int i
        for i, (address, bits) in enumerate(networks):
            memcpy(rows[i].address, <const uint8_t *>address, len(address))
            rows[i].octets = len(address)
            rows[i].bits = bits
        prefer_order(self.entry, rows, len(networks))

    @property
    def run(self):
        """What may change places: offset, octets of each record, records."""
        return self.entry.rotate_off, self.entry.rotate_len, self.entry.rotate_count

    def claim(self, uint16_t off, uint8_t length, uint16_t count):
        """Write another run into the entry, as damage would."""
        self.entry.rotate_off, self.entry.rotate_len, self.entry.rotate_count = off, length, count

    def parts(self, uint32_t spin, uint32_t want):
        """Offset and octets of each part."""
        cdef part_t parts[4]
        cdef uint32_t used = rotate_parts(self.entry, spin, want, parts)
        return [(parts[i].off, parts[i].len) for i in range(used)]

    def reply(self, bytes packet, uint32_t spin, uint32_t limit=65535):
        """The reply to a query, beginning where `spin` says."""
        cdef fd_query_t query
        cdef answer_view view
        cdef uint64_t key[2]
        cdef bytearray out = bytearray(max(limit, 512))
        memset(key, 0, sizeof(key))
        if parse_query(<const uint8_t *>packet, len(packet), key, 0, 0, &query) != PARSE_OK:
            raise ValueError("not a good query")
        if not entry_view(<const uint8_t *>self.entry, self.octets, &view):
            raise ValueError("not a sound entry")
        view.spin = spin
        out[:len(packet)] = packet
        return bytes(out[:compose_reply(&view, &query, <uint8_t *>out, limit, 0)])


def spins(uint64_t seed, int n):
    """The numbers that a worker draws."""
    cdef worker_t *worker = <worker_t *>calloc(1, sizeof(worker_t))
    if worker == NULL:
        raise MemoryError
    worker.spun = seed
    drawn = [next_spin(worker) for _ in range(n)]
    free(worker)
    return drawn
