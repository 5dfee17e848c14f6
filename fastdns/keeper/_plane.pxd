# SPDX-License-Identifier: Apache-2.0
# _plane.pxd: the data plane as the keeper's loop sees it. Its cdef methods are nogil.
from libc.stdint cimport uint32_t

from fastdns._shm cimport fd_post_t, fd_region_t
from fastdns.keeper._addresses cimport addresses_t
from fastdns.keeper._children cimport children_t
from fastdns.keeper._groups cimport group_t

cdef class Plane:
    cdef children_t children
    cdef addresses_t addresses
    cdef fd_post_t *post
    cdef fd_region_t *regions[16]
    cdef int wakes[17]           # the coordinator's, then the workers'
    cdef group_t *groups[64]     # UDP and TCP of each listener's slot; NULL: an empty one
    cdef uint32_t steered        # `away` and `leaving` that the programs were made for
    cdef uint32_t steered_tcp
    cdef bint started
    cdef object held             # the groups, so that they live as long as their pointers

    # Whether a child has begun its work; the coordinator: and the whole cache agrees with `config`.
    cdef bint serves(self, uint32_t slot, uint32_t config) noexcept nogil

    cdef void tell_child(self, uint32_t slot, uint32_t word) noexcept nogil

    # Whether the sockets' programs were made for another set of workers.
    cdef bint unsteered(self) noexcept nogil
    cdef void steer(self) noexcept nogil

    cdef bint any_alive(self, uint32_t first) noexcept nogil
    cdef bint any_pending(self) noexcept nogil
