# SPDX-License-Identifier: Apache-2.0
# _table.pxd: a block's chain as a table: what is done to a question, step by step. nogil, no allocation.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t

ctypedef enum table_rc:
    TABLE_FORWARD = 1            # flight.forward says whom to ask
    TABLE_ANSWER = 2             # c.made holds the answer, a message of c.made_len octets
    TABLE_WAIT = 3               # it went to the Python thread
    TABLE_NO_NEXT = -1           # no step took the question
    TABLE_FAIL = -2              # a step says that it fails
    TABLE_BAD = -5               # a rule made no name of it
    TABLE_BUSY = -3              # the thread's queue is full
    TABLE_FULL = -4              # no place is left for what a rule made of it

# Go through the steps of the flight's block from flight.step on, as far as one that takes the
# question. flight.step is then the one behind it.
cdef table_rc table_walk(coordinator_t *c, uint32_t flight) noexcept nogil

# Whether some block of the configuration does more than forward.
cdef bint table_changes(const coordinator_t *c) noexcept nogil
