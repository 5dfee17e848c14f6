# SPDX-License-Identifier: Apache-2.0
# _cut.pxd: nothing exists below a name that does not exist (RFC 8020). nogil.
from libc.stdint cimport uint32_t

from fastdns.coordinator._state cimport coordinator_t

# Take the memory, where some block wants it. False: there is none.
cdef bint cut_open(coordinator_t *c) noexcept nogil

# End a flight that is about to be asked with NXDOMAIN, if an ancestor of its name is known not to
# exist. The flight is gone where this is so.
cdef bint cut_answer(coordinator_t *c, uint32_t flight) noexcept nogil

# The answer to a flight's question, which a client waits for, is NXDOMAIN: it is to be found out which of the
# name's ancestors does not exist, the highest first. cut_next leads to the questions.
cdef void cut_learn(coordinator_t *c, uint32_t flight) noexcept nogil

# The next flight that is to be asked for this, NONE: there is none.
cdef uint32_t cut_next(coordinator_t *c) noexcept nogil
