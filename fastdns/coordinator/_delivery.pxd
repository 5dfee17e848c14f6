# SPDX-License-Identifier: Apache-2.0
# _delivery.pxd: answers and failures into the workers' rings. nogil.
# A full ring drops the record and marks the ring: the worker looks its questions up again.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from fastdns._shm cimport fd_entry_t
from fastdns.coordinator._state cimport coordinator_t

# Hand an answer to each worker that waits for the flight. The flight stays.
cdef void deliver_answer(coordinator_t *c, uint32_t flight, const fd_entry_t *entry) noexcept nogil

# An answer from the cache, to the one worker that asks for it.
cdef void deliver_stored(coordinator_t *c, uint32_t worker, uint64_t ticket,
                         const fd_entry_t *entry) noexcept nogil

# Tell each of the flight's workers that there is no answer: SERVFAIL with this EDE (RFC 8914).
cdef void deliver_failure(coordinator_t *c, uint32_t flight, uint16_t ede) noexcept nogil

# The same to one worker, for a question that never took off.
cdef void refuse_question(coordinator_t *c, uint32_t worker, uint64_t ticket, uint16_t ede) noexcept nogil

# Wake the workers that got records and sleep; once a round.
cdef void wake_workers(coordinator_t *c) noexcept nogil
