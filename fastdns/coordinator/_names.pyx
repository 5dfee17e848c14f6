# SPDX-License-Identifier: Apache-2.0
"""Lists of names in the configuration: zones that something is limited to, or excepted from."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from fastdns._shm cimport fd_at, fd_part_t
from fastdns.coordinator._state cimport coordinator_t


cdef bint name_below(const uint8_t *name, uint32_t name_len, const uint8_t *zone,
                     uint32_t zone_len) noexcept nogil:
    cdef uint32_t off = 0
    if zone_len > name_len:
        return False
    while name_len - off > zone_len:         # label by label; each is at least two octets long
        off += name[off] + 1u
    return name_len - off == zone_len and memcmp(name + off, zone, zone_len) == 0


cdef bint name_listed(const coordinator_t *c, const fd_part_t *names, const uint8_t *name,
                      uint32_t name_len) noexcept nogil:
    cdef const uint8_t *zone = <const uint8_t *>fd_at(c.config, names.off)
    cdef uint32_t left = names.count
    cdef uint32_t zone_len
    while left != 0:
        zone_len = 0
        while zone[zone_len] != 0:
            zone_len += zone[zone_len] + 1u
        zone_len += 1
        if name_below(name, name_len, zone, zone_len):
            return True
        zone += zone_len
        left -= zone_len
    return False
