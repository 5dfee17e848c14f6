# SPDX-License-Identifier: Apache-2.0
# _space.pxd: which units of a shard are free. Private memory of the coordinator; nogil, no allocation.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef enum:
    SPACE_NONE = 0               # no place: unit 0 is always index

ctypedef struct space_t:
    uint64_t *used               # one bit a unit; index and what lies past the end count as used
    uint16_t *longest            # for each word of `used`: the longest free run that starts in it
    uint32_t words               # of `used`, a multiple of 4
    uint32_t first               # unit of the first octet for entries
    uint32_t units               # in the shard, index included
    uint32_t free_units
    uint32_t bound               # no free run is longer than this

# Octets of private memory for a shard of `units`.
cdef size_t space_octets(uint32_t units) noexcept nogil

# All units from `first` on free; `memory` is the caller's, space_octets long, 8-aligned.
cdef void space_open(space_t *space, void *memory, uint32_t first, uint32_t units) noexcept nogil

# Attach: mark exactly these units used. False, and nothing changed, if one of them is used already
# or lies outside. After the last claim space_index must be called.
cdef bint space_claim(space_t *space, uint32_t off, uint32_t count) noexcept nogil
cdef void space_index(space_t *space) noexcept nogil

# Take `count` units from the lowest free run that holds them. Returns the first, or SPACE_NONE.
cdef uint32_t space_take(space_t *space, uint32_t count) noexcept nogil

# Take `count` units at `off`, which the caller knows to be free.
cdef void space_take_at(space_t *space, uint32_t off, uint32_t count) noexcept nogil

# Give `count` units at `off` back. Returns the first unit of the free run that they are now part of.
cdef uint32_t space_give(space_t *space, uint32_t off, uint32_t count) noexcept nogil

# Length of the free run that begins at `off` (0 if it is used), counted no further than `limit`.
cdef uint32_t space_run(const space_t *space, uint32_t off, uint32_t limit) noexcept nogil
