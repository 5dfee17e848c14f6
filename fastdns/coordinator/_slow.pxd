# SPDX-License-Identifier: Apache-2.0
# _slow.pxd: the loop's end of the queues to the Python thread. nogil.
from libc.stdint cimport uint32_t

from fastdns._shm cimport fd_step_t
from fastdns.coordinator._state cimport coordinator_t

# Hand a flight's question to the thread for a step of its block. False: too many of the block wait
# already, or there is no thread.
cdef bint slow_ask(coordinator_t *c, uint32_t flight, const fd_step_t *step) noexcept nogil
