# SPDX-License-Identifier: Apache-2.0
# _ask.pxd: questions into the ring to the coordinator. nogil.
from libc.stdint cimport uint16_t

from fastdns._shm cimport fd_pending_t, fd_query_t
from fastdns.worker._state cimport worker_t

# Copy what is asked; state, use, times and flags are the caller's.
cdef void fill_pending(fd_pending_t *pending, const fd_query_t *query) noexcept nogil

# Put the question of a pending slot. False: the ring is full.
cdef bint put_question(worker_t *worker, uint16_t slot) noexcept nogil

# Have an expired entry refreshed; nobody waits for it. Where the ring is full that is left to the next
# client, and counted.
cdef void put_refresh(worker_t *worker, const fd_query_t *query) noexcept nogil
