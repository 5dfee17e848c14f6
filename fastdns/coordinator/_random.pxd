# SPDX-License-Identifier: Apache-2.0
# _random.pxd: numbers that nobody can foretell, for IDs and the choice of sockets; RFC 5452 s9.2.
from libc.stdint cimport uint16_t, uint32_t

cdef enum:
    RANDOM_POOL = 2048           # numbers of 16 bits taken from the kernel at once: some 3 ns each

ctypedef struct random_t:
    uint16_t pool[RANDOM_POOL]
    uint32_t left

# Zero a random_t before its first use.
cdef uint16_t random16(random_t *random) noexcept nogil
