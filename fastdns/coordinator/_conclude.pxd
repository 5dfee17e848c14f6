# SPDX-License-Identifier: Apache-2.0
# _conclude.pxd: how a question ends: judged, stored, handed on; or failed. nogil.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns.coordinator._state cimport coordinator_t

# End a flight with the response that c.response describes; msg is of the question that was asked.
# It goes on where the records can't be taken over.
cdef void conclude(coordinator_t *c, uint32_t flight, const uint8_t *msg) noexcept nogil

# End it with the answer that a step made: c.made, c.made_len.
cdef void conclude_made(coordinator_t *c, uint32_t flight) noexcept nogil

# End it with a message that follows from an answer of `since_ms`: it lives no longer than that one.
# False: the message is of no use, and the flight goes on.
cdef bint conclude_since(coordinator_t *c, uint32_t flight, const uint8_t *msg, uint32_t octets,
                         uint64_t since_ms) noexcept nogil

# End it with REFUSED: `max_concurrent`.
cdef void refuse(coordinator_t *c, uint32_t flight) noexcept nogil

# End it with a stale answer where one can be given, else with SERVFAIL and this info code. `kind`: FD_ERROR_*
# for a line of `errors`, 0: none.
cdef void fail(coordinator_t *c, uint32_t flight, uint16_t ede, uint8_t kind) noexcept nogil
