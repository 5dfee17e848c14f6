# SPDX-License-Identifier: Apache-2.0
"""Message octets of TCP connections, in chains of small blocks from one pool."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from fastdns._memory cimport fd_take
from fastdns._shm cimport iovec


cdef bint pool_open(pool_t *pool, uint8_t *memory, uint32_t octets) noexcept nogil:
    cdef uint32_t count = octets // TCP_BLOCK
    cdef uint32_t i
    if count > NO_BLOCK:
        count = NO_BLOCK
    pool.next = <uint16_t *>fd_take((count + 1) * sizeof(uint16_t), 0)
    if pool.next == NULL:
        return False
    for i in range(count):
        pool.next[i] = <uint16_t>(i + 1)
    pool.next[count - 1 if count else 0] = NO_BLOCK
    pool.blocks = memory
    pool.count = count
    pool.free_count = count
    pool.free_head = 0 if count else NO_BLOCK
    return True


cdef void pool_close(pool_t *pool) noexcept nogil:
    free(pool.next)
    pool.next = NULL
    pool.count = pool.free_count = 0
    pool.free_head = NO_BLOCK


cdef bint chain_append(pool_t *pool, chain_t *chain, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef uint32_t end = chain.skip + chain.len
    cdef uint32_t held = (end + TCP_BLOCK - 1) // TCP_BLOCK
    cdef uint32_t used = end - (held - 1) * TCP_BLOCK if held else TCP_BLOCK   # of the last block
    cdef uint32_t part
    cdef uint16_t block
    if (end + n + TCP_BLOCK - 1) // TCP_BLOCK - held > pool.free_count:
        return False
    chain.len += n
    while n:
        if used == TCP_BLOCK:
            block = pool.free_head
            pool.free_head = pool.next[block]
            pool.free_count -= 1
            pool.next[block] = NO_BLOCK
            if chain.head == NO_BLOCK:
                chain.head = block
            else:
                pool.next[chain.tail] = block
            chain.tail = block
            used = 0
        part = min(n, TCP_BLOCK - used)
        memcpy(pool.blocks + <size_t>chain.tail * TCP_BLOCK + used, data, part)
        data += part
        n -= part
        used += part
    return True


cdef void chain_copy(const pool_t *pool, const chain_t *chain, uint8_t *out) noexcept nogil:
    cdef uint32_t left = chain.len
    cdef uint32_t skip = chain.skip
    cdef uint32_t part
    cdef uint16_t block = chain.head
    while left:
        part = min(left, TCP_BLOCK - skip)
        memcpy(out, pool.blocks + <size_t>block * TCP_BLOCK + skip, part)
        out += part
        left -= part
        skip = 0
        block = pool.next[block]


cdef uint32_t chain_vectors(const pool_t *pool, const chain_t *chain, iovec *vectors,
                            uint32_t most) noexcept nogil:
    cdef uint32_t left = chain.len
    cdef uint32_t skip = chain.skip
    cdef uint32_t count = 0
    cdef uint32_t part
    cdef uint16_t block = chain.head
    while left and count < most:
        part = min(left, TCP_BLOCK - skip)
        vectors[count].iov_base = pool.blocks + <size_t>block * TCP_BLOCK + skip
        vectors[count].iov_len = part
        count += 1
        left -= part
        skip = 0
        block = pool.next[block]
    return count


cdef void chain_take(pool_t *pool, chain_t *chain, uint32_t n) noexcept nogil:
    cdef uint32_t part
    cdef uint16_t block
    while n:
        part = min(n, <uint32_t>TCP_BLOCK - chain.skip)
        n -= part
        chain.len -= part
        chain.skip += <uint16_t>part
        if chain.skip < TCP_BLOCK and chain.len:
            break
        block = chain.head
        chain.head = pool.next[block]
        pool.next[block] = pool.free_head
        pool.free_head = block
        pool.free_count += 1
        chain.skip = 0
    if chain.len == 0:
        chain_init(chain)
