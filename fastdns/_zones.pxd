# SPDX-License-Identifier: Apache-2.0
# _zones.pxd: which zone of the configuration a name falls into. nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._shm cimport fd_config_t, fd_zone_t

# The number of the longest zone of a group that a name lies in, or FD_NO_ZONE. A question of type
# DS goes to the shortest one below the root, as CoreDNS has it: the parent of a delegation answers.
#   qname    lower case, wire, well-formed
cdef uint32_t zone_find(const fd_config_t *config, uint16_t group, const uint8_t *qname,
                        uint32_t qname_len, uint16_t qtype) noexcept nogil

# The same zone by number, or NULL for a number that the configuration does not have (an entry of
# another one).
cdef const fd_zone_t *zone_at(const fd_config_t *config, uint32_t number) noexcept nogil

# The series that counts what is asked under a zone on a listener; FD_NO_ZONE: what no zone took.
# FD_NO_SERIES: it is not counted.
cdef uint32_t zone_series(const fd_config_t *config, uint32_t listener, uint32_t zone) noexcept nogil

# Where a zone stands in the hash table.
cdef uint32_t zone_hash(uint16_t group, const uint8_t *name, uint32_t name_len) noexcept nogil
