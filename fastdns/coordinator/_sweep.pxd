# SPDX-License-Identifier: Apache-2.0
# _sweep.pxd: the cache after a new configuration. nogil, no allocation.
from fastdns._shm cimport fd_entry_t
from fastdns.coordinator._state cimport coordinator_t

# Whether an entry of a block whose text is the same says what the block would say today.
cdef bint entry_survives(const coordinator_t *c, const fd_entry_t *entry) noexcept nogil

# A piece of the sweep, nothing where the whole cache agrees with the configuration; post.swept has its
# number then. True: there is more to do.
cdef bint sweep_step(coordinator_t *c) noexcept nogil
