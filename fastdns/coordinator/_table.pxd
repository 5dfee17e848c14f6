# SPDX-License-Identifier: Apache-2.0
# _table.pxd: a block's chain as a table: what is done to a question, step by step. nogil, no allocation.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_part_t
from fastdns.coordinator._state cimport coordinator_t, flight_t

ctypedef enum table_rc:
    TABLE_FORWARD = 1            # flight.forward says whom to ask
    TABLE_NO_NEXT = 2            # no step took the question

# Whether a name lies at or below a zone. Both lower case, wire, whole.
cdef bint name_below(const uint8_t *name, uint32_t name_len, const uint8_t *zone,
                     uint32_t zone_len) noexcept nogil

# Whether a name lies at or below one of a list's names.
cdef bint name_listed(const coordinator_t *c, const fd_part_t *names, const uint8_t *name,
                      uint32_t name_len) noexcept nogil

# Go through the steps of the flight's block from flight.step on, as far as one that takes the
# question. flight.step is then the one behind it.
cdef table_rc table_walk(coordinator_t *c, flight_t *flight) noexcept nogil
