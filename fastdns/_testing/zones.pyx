# SPDX-License-Identifier: Apache-2.0
"""Which zone a name falls into, for tests."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._segments cimport config_check, map_segment
from fastdns._shm cimport FD_NO_ZONE, fd_config_t
from fastdns._zones cimport zone_at, zone_find, zone_series

cdef extern from "<sys/mman.h>" nogil:
    int munmap(void *address, size_t length)


cdef class Zones:
    """The configuration behind descriptor ``fd``."""

    cdef const fd_config_t *config
    cdef uint64_t size

    def __init__(self, int fd):
        cdef void *base = map_segment(fd, False, &self.size)
        self.config = config_check(base, self.size)
        if self.config == NULL:
            raise RuntimeError("not a configuration")

    def __dealloc__(self):
        if self.config != NULL:
            munmap(<void *>self.config, self.size)

    def find(self, uint16_t group, bytes qname, uint16_t qtype):
        """The zone's number, or None."""
        cdef uint32_t number = zone_find(self.config, group, <const uint8_t *>qname, <uint32_t>len(qname), qtype)
        return None if number == FD_NO_ZONE else number

    def used(self, uint32_t number):
        """Whether the number is a zone's."""
        return zone_at(self.config, number) != NULL

    def series(self, uint32_t listener, uint32_t zone):
        """The number of the series of a zone on a listener."""
        return zone_series(self.config, listener, zone)
