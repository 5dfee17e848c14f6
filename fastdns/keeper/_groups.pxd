# SPDX-License-Identifier: Apache-2.0
# _groups.pxd: a reuseport group's order and program, for the keeper's loop. nogil.
from libc.stdint cimport uint8_t, uint32_t

cdef struct group_t:
    uint32_t count
    int sockets[16]              # FD_MAX_WORKERS; in the kernel's order
    uint8_t workers[16]          # whose each is
    bint stream                  # TCP
    bint programmed              # a program is attached now
    bint plain                   # leave the choice to the kernel: a foreign socket shifts the order

# Share the group's traffic among the workers whose bit is set in `live`; all, if none is.
# Returns 0, or an errno: the kernel's former choice stays.
cdef int group_steer(group_t *group, uint32_t live) noexcept nogil

cdef class Group:
    cdef group_t state
