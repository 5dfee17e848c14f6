# SPDX-License-Identifier: Apache-2.0
# _timers.pxd: one timer for each question under way: set, clear and expire in O(1), 1 ms steps.
# nogil; all memory is taken at open. The clock is the caller's.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    WHEEL_SLOTS = 4096           # ms in one lap; a later timer stays in its slot for more laps
    TIMER_NONE = 0xffff

ctypedef struct timers_t:
    uint32_t *due                # ms, low 32 bits of the clock
    uint16_t *next               # lists by index, one a slot
    uint16_t *prev               # TIMER_NONE: first of its slot
    uint8_t *armed               # whether it is set
    uint16_t *slots              # first index of each slot
    uint64_t occupied[64]
    uint32_t cursor              # the ms up to which all was expired
    uint32_t count

# Timers 0 to capacity - 1 (below TIMER_NONE), none set. False: no memory.
cdef bint timers_open(timers_t *timers, uint32_t capacity, uint64_t now_ms) noexcept nogil
cdef void timers_close(timers_t *timers) noexcept nogil

# Set (again) or clear timer `index`. `due_ms` may be past; it may be 24 days ahead at most.
cdef void timers_set(timers_t *timers, uint32_t index, uint64_t due_ms) noexcept nogil
cdef void timers_clear(timers_t *timers, uint32_t index) noexcept nogil

# Clear and return one timer that is due, or TIMER_NONE. Call until TIMER_NONE.
cdef uint32_t timers_pop(timers_t *timers, uint64_t now_ms) noexcept nogil

# ms until a timer may be due, `most` at most; never later than the first one is.
cdef uint32_t timers_wait(const timers_t *timers, uint64_t now_ms, uint32_t most) noexcept nogil
