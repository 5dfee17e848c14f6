# SPDX-License-Identifier: Apache-2.0
# _dial.pxd: a socket that leads to an upstream. nogil.
from fastdns.coordinator._state cimport ask_rc, coordinator_t, upstream_t

# A socket of `kind` (SOCK_DGRAM, SOCK_STREAM), connected, or (TCP) about to be: an event will tell. ASK_LATER
# where the kernel has none, or no port, to give now; ASK_NOWHERE where no way leads there, and upstream.error
# says why.
cdef ask_rc dial(coordinator_t *c, upstream_t *upstream, int kind, int *fd) noexcept nogil
