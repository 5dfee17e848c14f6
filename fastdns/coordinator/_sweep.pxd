# SPDX-License-Identifier: Apache-2.0
# _sweep.pxd: the cache after a new configuration. nogil, no allocation.
from fastdns.coordinator._state cimport coordinator_t

# A piece of the sweep, nothing where the whole cache agrees with the configuration; post.swept has its
# number then. True: there is more to do.
cdef bint sweep_step(coordinator_t *c) noexcept nogil
