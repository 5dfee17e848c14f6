# SPDX-License-Identifier: Apache-2.0
"""Free space of a shard: a bitmap of its 16-octet units with a summary by words.

Address-ordered first fit, which fragments least of the simple policies, without a list: free
runs need no nodes, freeing needs no search for neighbours, and two octets in a word of the
summary make the search for a run of n units one pass over 1 KiB, four words at a time. The
bitmap and the summary of a shard of 508 KiB take 5 KiB. A full cache mostly skips the search:
``bound`` remembers that no run is long enough.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._shm cimport FD_ENTRY_MAX, FD_UNIT

cdef extern from * nogil:
    """
    #define fd_lowest_bit(x) ((uint32_t)__builtin_ctzll(x))
    #define fd_leading_zeros(x) ((uint32_t)__builtin_clzll(x))
    """
    uint32_t fd_lowest_bit(uint64_t x) noexcept      # x is not 0
    uint32_t fd_leading_zeros(uint64_t x) noexcept   # x is not 0

cdef enum:
    RUN_MAX = FD_ENTRY_MAX // FD_UNIT   # the summary counts no further; below 0x8000


cdef uint64_t mask_of(uint32_t low, uint32_t count) noexcept nogil:
    # `count` bits from bit `low` on; 1 <= count, low + count <= 64.
    return (<uint64_t>0xffffffffffffffff >> (64 - count)) << low


cdef size_t space_octets(uint32_t units) noexcept nogil:
    cdef size_t words = (units + 255) // 256 * 4
    return words * (sizeof(uint64_t) + sizeof(uint16_t))


cdef void set_range(space_t *space, uint32_t off, uint32_t count, bint used) noexcept nogil:
    cdef uint32_t low, part
    while count:
        low = off & 63
        part = min(count, 64 - low)
        if used:
            space.used[off >> 6] |= mask_of(low, part)
        else:
            space.used[off >> 6] &= ~mask_of(low, part)
        off += part
        count -= part


cdef uint32_t space_run(const space_t *space, uint32_t off, uint32_t limit) noexcept nogil:
    cdef uint32_t total = 0
    cdef uint32_t at
    cdef uint64_t rest
    while total < limit:
        at = off + total
        if at >> 6 >= space.words:
            break
        rest = space.used[at >> 6] >> (at & 63)
        if rest:
            total += fd_lowest_bit(rest)
            break
        total += 64 - (at & 63)
    return min(total, limit)


cdef uint32_t run_start(const space_t *space, uint32_t off) noexcept nogil:
    # First unit of the free run that ends right before `off`; `off` itself if there is none.
    cdef uint64_t below
    while off:
        below = space.used[(off - 1) >> 6] << (63 - ((off - 1) & 63))
        if below:
            return off - fd_leading_zeros(below)
        off = (off - 1) & ~<uint32_t>63
    return off


cdef uint32_t first_run(const space_t *space, uint32_t word, uint32_t count,
                        uint32_t *longest) noexcept nogil:
    # The first free run that starts in this word and has `count` units: its first unit, or
    # SPACE_NONE. `longest` gets the longest met, counted no further than `count`.
    cdef uint64_t free = ~space.used[word]
    cdef uint32_t bit, length
    longest[0] = 0
    # Bits that continue a run of the word before are no start.
    if word and not space.used[word - 1] >> 63:
        if free == <uint64_t>0xffffffffffffffff:
            return SPACE_NONE
        free &= <uint64_t>0xffffffffffffffff << fd_lowest_bit(~free)
    while free:
        bit = fd_lowest_bit(free)
        length = space_run(space, (word << 6) + bit, count)
        longest[0] = max(longest[0], length)
        if length >= count:
            return (word << 6) + bit
        # Shorter than asked for; it may still have gone on into the next word.
        if bit + length >= 64:
            break
        free &= <uint64_t>0xffffffffffffffff << (bit + length)
    return SPACE_NONE


cdef void refresh(space_t *space, uint32_t word) noexcept nogil:
    cdef uint32_t longest
    first_run(space, word, RUN_MAX, &longest)
    space.longest[word] = <uint16_t>longest


cdef void space_open(space_t *space, void *memory, uint32_t first, uint32_t units) noexcept nogil:
    space.words = (units + 255) // 256 * 4
    space.used = <uint64_t *>memory
    space.longest = <uint16_t *>(<uint8_t *>memory + space.words * sizeof(uint64_t))
    space.first = first
    space.units = units
    space.free_units = units - first
    memset(space.used, 0, space.words * sizeof(uint64_t))
    set_range(space, 0, first, True)
    if space.words * 64 > units:
        set_range(space, units, space.words * 64 - units, True)
    space_index(space)


cdef bint space_claim(space_t *space, uint32_t off, uint32_t count) noexcept nogil:
    if count == 0 or off < space.first or off >= space.units or count > space.units - off:
        return False
    if space_run(space, off, count) < count:
        return False
    set_range(space, off, count, True)
    space.free_units -= count
    return True


cdef void space_index(space_t *space) noexcept nogil:
    cdef uint32_t word
    for word in range(space.words):
        refresh(space, word)
    space.bound = space.units


cdef void space_take_at(space_t *space, uint32_t off, uint32_t count) noexcept nogil:
    cdef uint32_t start = run_start(space, off)
    set_range(space, off, count, True)
    space.free_units -= count
    refresh(space, off >> 6)
    if start >> 6 != off >> 6:
        refresh(space, start >> 6)           # the run begins further down and is shorter now
    if (off + count) >> 6 != off >> 6 and (off + count) >> 6 < space.words:
        refresh(space, (off + count) >> 6)   # what is left of the run starts there now


cdef uint32_t space_take(space_t *space, uint32_t count) noexcept nogil:
    cdef const uint64_t *four = <const uint64_t *>space.longest
    cdef uint64_t least = <uint64_t>count * <uint64_t>0x0001000100010001
    cdef uint64_t enough
    cdef uint32_t i, off, longest, word
    if count > space.bound or count > <uint32_t>RUN_MAX or count == 0:
        return SPACE_NONE
    for i in range(space.words // 4):
        # Lane by lane: with bit 15 set before the subtraction it stays set where longest >= count,
        # and no lane borrows from the next (both are below 0x8000).
        enough = ((four[i] | <uint64_t>0x8000800080008000) - least) & <uint64_t>0x8000800080008000
        if enough:
            word = i * 4 + (fd_lowest_bit(enough) >> 4)
            off = first_run(space, word, count, &longest)
            space_take_at(space, off, count)
            return off
    space.bound = count - 1
    return SPACE_NONE


cdef uint32_t space_give(space_t *space, uint32_t off, uint32_t count) noexcept nogil:
    cdef uint32_t start = run_start(space, off)
    cdef uint32_t end = off + count
    set_range(space, off, count, False)
    space.free_units += count
    refresh(space, start >> 6)
    if end >> 6 != start >> 6 and end >> 6 < space.words:
        refresh(space, end >> 6)             # a run that started at `end` is part of this one now
    space.bound = max(space.bound, space_run(space, start, RUN_MAX))
    return start
