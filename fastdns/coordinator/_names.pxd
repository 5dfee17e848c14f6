# SPDX-License-Identifier: Apache-2.0
# _names.pxd: lists of names in the configuration. nogil, no allocation.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_part_t
from fastdns.coordinator._state cimport coordinator_t

# Whether a name lies at or below a zone. Both lower case, wire, whole.
cdef bint name_below(const uint8_t *name, uint32_t name_len, const uint8_t *zone,
                     uint32_t zone_len) noexcept nogil

# Whether a name lies at or below one of a list's names.
cdef bint name_listed(const coordinator_t *c, const fd_part_t *names, const uint8_t *name,
                      uint32_t name_len) noexcept nogil
