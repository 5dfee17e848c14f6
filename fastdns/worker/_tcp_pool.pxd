# SPDX-License-Identifier: Apache-2.0
# _tcp_pool.pxd: message octets of TCP connections, in chains of small blocks from one pool.
# nogil. The blocks lie in the worker's region and hold nothing but payload; the links are private,
# so a block never has to be trusted, and a successor starts with all of them free.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._shm cimport iovec

cdef enum:
    # octets; small, so that each of 1,024 connections can hold part of a query (a typical one is
    # 40 octets) in a pool of 446 KiB
    TCP_BLOCK = 256
    NO_BLOCK = 0xffff

ctypedef struct pool_t:
    uint8_t *blocks              # the region's
    uint16_t *next               # private, one a block
    uint32_t count
    uint32_t free_count
    uint16_t free_head

# Octets in order. Empty: len 0, no block held. All zero is not an empty chain: chain_init.
ctypedef struct chain_t:
    uint32_t len
    uint16_t head
    uint16_t tail
    uint16_t skip                # octets of the first block that are gone already, < TCP_BLOCK

# Cut `octets` at `memory` into blocks, all free. False: no memory for the links.
cdef bint pool_open(pool_t *pool, uint8_t *memory, uint32_t octets) noexcept nogil
cdef void pool_close(pool_t *pool) noexcept nogil

# Put n octets at the end. False: the pool has not enough blocks, and nothing was changed.
cdef bint chain_append(pool_t *pool, chain_t *chain, const uint8_t *data, uint32_t n) noexcept nogil

# Copy all chain.len octets to `out`.
cdef void chain_copy(const pool_t *pool, const chain_t *chain, uint8_t *out) noexcept nogil

# Point vectors at the first octets; returns how many of `most` were used.
cdef uint32_t chain_vectors(const pool_t *pool, const chain_t *chain, iovec *vectors,
                            uint32_t most) noexcept nogil

# Take n <= chain.len octets off the start and free the blocks that this empties.
cdef void chain_take(pool_t *pool, chain_t *chain, uint32_t n) noexcept nogil

cdef inline void chain_init(chain_t *chain) noexcept nogil:
    chain.len = 0
    chain.head = NO_BLOCK
    chain.tail = NO_BLOCK
    chain.skip = 0

cdef inline void chain_drop(pool_t *pool, chain_t *chain) noexcept nogil:
    chain_take(pool, chain, chain.len)
