# SPDX-License-Identifier: Apache-2.0
# _rewrite.pxd: rules of `rewrite`: on questions, and on what comes back for them. nogil, no allocation.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._response cimport response_t
from fastdns._shm cimport fd_step_t
from fastdns.coordinator._state cimport coordinator_t, flight_t

ctypedef enum rewrite_rc:
    REWRITE_NOT = 0              # the rule is about other questions
    REWRITE_DONE = 1
    REWRITE_BAD = -1             # what came out is no name
    REWRITE_FULL = -2            # there is no place for what it made of the question

# Apply the rule of a step to the flight's question.
cdef rewrite_rc rewrite_question(coordinator_t *c, flight_t *flight, const fd_step_t *step) noexcept nogil

# Write the response to a changed question as one to the client's own: question restored, names mapped
# back, TTLs within bounds, rcode replaced, OPT left out, nothing compressed.
#   msg, response   parsed, of the question that was asked
#   out             MESSAGE_MAX octets; not `msg`
#   rcode           filled: 12 bits
#   returns         its length, or 0 if it does not fit
cdef uint32_t rewrite_response(const coordinator_t *c, const flight_t *flight, const uint8_t *msg,
                               const response_t *response, uint8_t *out, uint32_t *rcode) noexcept nogil
