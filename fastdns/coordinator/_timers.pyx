# SPDX-License-Identifier: Apache-2.0
"""A hashed timer wheel: slots of 1 ms, each a list of timers, and a bit for each slot in use."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastdns._memory cimport fd_take

cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long word)

cdef enum:
    SLOT_MASK = WHEEL_SLOTS - 1
    WORDS = 64                   # of `occupied`


cdef bint timers_open(timers_t *timers, uint32_t capacity, uint64_t now_ms) noexcept nogil:
    memset(timers, 0, sizeof(timers_t))
    timers.due = <uint32_t *>fd_take(capacity * sizeof(uint32_t), 0)
    timers.next = <uint16_t *>fd_take(capacity * sizeof(uint16_t), 0xff)
    timers.prev = <uint16_t *>fd_take(capacity * sizeof(uint16_t), 0xff)
    timers.armed = <uint8_t *>fd_take(capacity, 0)
    timers.slots = <uint16_t *>fd_take(WHEEL_SLOTS * sizeof(uint16_t), 0xff)
    timers.cursor = <uint32_t>now_ms
    if (timers.due == NULL or timers.next == NULL or timers.prev == NULL or timers.armed == NULL
            or timers.slots == NULL):
        timers_close(timers)
        return False
    return True


cdef void timers_close(timers_t *timers) noexcept nogil:
    free(timers.due)
    free(timers.next)
    free(timers.prev)
    free(timers.armed)
    free(timers.slots)
    memset(timers, 0, sizeof(timers_t))


cdef void timers_set(timers_t *timers, uint32_t index, uint64_t due_ms) noexcept nogil:
    cdef uint32_t due = <uint32_t>due_ms
    cdef uint32_t slot
    cdef uint16_t first
    timers_clear(timers, index)
    # What is past goes where the wheel looks next: a slot behind the cursor comes a lap later.
    if <int32_t>(due - timers.cursor) <= 0:
        due = timers.cursor + 1
    slot = due & SLOT_MASK
    first = timers.slots[slot]
    timers.due[index] = due
    timers.next[index] = first
    timers.prev[index] = TIMER_NONE
    timers.armed[index] = 1
    if first != TIMER_NONE:
        timers.prev[first] = <uint16_t>index
    timers.slots[slot] = <uint16_t>index
    timers.occupied[slot >> 6] |= <uint64_t>1 << (slot & 63)
    timers.count += 1


cdef void timers_clear(timers_t *timers, uint32_t index) noexcept nogil:
    cdef uint32_t slot = timers.due[index] & SLOT_MASK
    cdef uint16_t before, after
    if not timers.armed[index]:
        return
    before = timers.prev[index]
    after = timers.next[index]
    timers.armed[index] = 0
    timers.count -= 1
    if after != TIMER_NONE:
        timers.prev[after] = before
    if before != TIMER_NONE:
        timers.next[before] = after
        return
    timers.slots[slot] = after
    if after == TIMER_NONE:
        timers.occupied[slot >> 6] &= ~(<uint64_t>1 << (slot & 63))


cdef uint32_t next_occupied(const timers_t *timers, uint32_t from_slot) noexcept nogil:
    # Slots from `from_slot` on to the first one in use, itself included; WHEEL_SLOTS if there is none.
    cdef uint32_t word = from_slot >> 6
    cdef uint64_t bits = timers.occupied[word] & (<uint64_t>0xffffffffffffffff << (from_slot & 63))
    cdef uint32_t _i
    for _i in range(WORDS + 1):
        if bits:
            return ((word * 64 + <uint32_t>__builtin_ctzll(bits)) - from_slot) & SLOT_MASK
        word = (word + 1) & (WORDS - 1)
        bits = timers.occupied[word]
    return WHEEL_SLOTS


cdef uint32_t timers_pop(timers_t *timers, uint64_t now_ms) noexcept nogil:
    cdef uint32_t now = <uint32_t>now_ms
    cdef uint32_t distance, index
    # After a pause of more than a lap one lap goes through every slot.
    if <int32_t>(now - timers.cursor) > WHEEL_SLOTS:
        timers.cursor = now - WHEEL_SLOTS
    while <int32_t>(now - timers.cursor) > 0:
        distance = next_occupied(timers, (timers.cursor + 1) & SLOT_MASK)
        if distance >= now - timers.cursor:
            break
        index = timers.slots[(timers.cursor + 1 + distance) & SLOT_MASK]
        while index != TIMER_NONE:
            if <int32_t>(timers.due[index] - now) <= 0:
                timers_clear(timers, index)
                return index
            index = timers.next[index]
        timers.cursor += 1 + distance
    if <int32_t>(now - timers.cursor) > 0:
        timers.cursor = now
    return TIMER_NONE


cdef uint32_t timers_wait(const timers_t *timers, uint64_t now_ms, uint32_t most) noexcept nogil:
    cdef uint32_t ahead, due_in
    if timers.count == 0:
        return most
    due_in = 1 + next_occupied(timers, (timers.cursor + 1) & SLOT_MASK)
    ahead = <uint32_t>now_ms - timers.cursor
    if due_in <= ahead:
        return 0
    return min(due_in - ahead, most)
