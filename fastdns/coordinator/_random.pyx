# SPDX-License-Identifier: Apache-2.0
"""Unpredictable 16-bit numbers from the kernel's generator, by the pool."""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport abort

from fastdns.coordinator._net cimport getrandom


cdef void refill(random_t *random) noexcept nogil:
    cdef size_t filled = 0
    cdef long got
    while filled < sizeof(random.pool):
        got = getrandom(<uint8_t *>random.pool + filled, sizeof(random.pool) - filled, 0)
        if got > 0:
            filled += <size_t>got
        elif got == 0 or errno != EINTR:
            # A kernel without the call (before 3.17), or one that forbids it: guessable IDs would
            # be worse than no answers.
            abort()
    random.left = RANDOM_POOL


cdef uint16_t random16(random_t *random) noexcept nogil:
    if random.left == 0:
        refill(random)
    random.left -= 1
    return random.pool[random.left]
