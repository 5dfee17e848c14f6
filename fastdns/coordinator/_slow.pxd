# SPDX-License-Identifier: Apache-2.0
# _slow.pxd: the loop's dealings with the Python thread: questions and answers that a step of it is to
# see, and the questions that such a step asks the server itself. nogil.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._shm cimport fd_entry_t, fd_step_t
from fastdns.coordinator._state cimport coordinator_t, question_t

# Hand a flight's question to the thread for a step of its block. False: too many of the block wait
# already, or there is no thread.
cdef bint slow_ask(coordinator_t *c, uint32_t flight, const fd_step_t *step) noexcept nogil

# Hand an answer to the innermost step that wants it (change_t.back); that step is taken off.
#   msg   an answer to the question that the step had put
cdef bint slow_give(coordinator_t *c, uint32_t flight, const uint8_t *msg, uint32_t octets) noexcept nogil

# Write an answer as a message to its own question, or (entry NULL) SERVFAIL. Returns its length, 0 for
# an entry that is not sound.
#   out   MESSAGE_MAX octets
cdef uint32_t slow_message(const coordinator_t *c, const question_t *question, const uint8_t *qname,
                           const fd_entry_t *entry, uint8_t *out) noexcept nogil
