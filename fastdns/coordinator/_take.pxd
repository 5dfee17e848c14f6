# SPDX-License-Identifier: Apache-2.0
# _take.pxd: questions from the workers' rings. nogil.
from libc.stdint cimport uint32_t

from fastdns._shm cimport fd_record_t
from fastdns.coordinator._state cimport coordinator_t

# A record from worker `worker`'s ring, `octets` long. It is copied before it is looked at.
cdef void take_question(coordinator_t *c, uint32_t worker, const fd_record_t *record,
                        uint32_t octets) noexcept nogil
