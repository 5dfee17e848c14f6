# SPDX-License-Identifier: Apache-2.0
# _hand.pxd: what the worker has in hand, and what its predecessors died on (design "Deaths"). nogil.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._shm cimport fd_store32, fd_store64
from fastdns.worker._state cimport worker_t

# How the successor of a dead worker starts.
ctypedef struct inherited_t:
    uint64_t hash                # what the predecessor died on: a key, or a packet; 0: nothing
    bint is_key
    bint give_up                 # two have died on it: it is refused from now on
    uint32_t off                 # the packet's bytes in the region
    uint32_t len                 # 0: there are none, it was an answer record

# Note the packet before work on it starts. False: two workers died on it, leave it alone.
cdef inline bint hand_take(worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil:
    fd_store32(&worker.region.in_hand.off, <uint32_t>(packet - <const uint8_t *>worker.region))
    fd_store32(&worker.region.in_hand.len, octets)
    return worker.refused == 0 or hand_ask(worker, packet, octets)

# Note the question's key before it is looked up or answered: whatever packet it comes in, it is the
# same poison. False: two workers died on it, answer SERVFAIL.
cdef inline bint hand_take_key(worker_t *worker, uint64_t key_hash) noexcept nogil:
    fd_store64(&worker.region.in_hand.hash, key_hash)
    return worker.refused == 0 or hand_ask_key(worker, key_hash)

cdef inline void hand_clear(worker_t *worker) noexcept nogil:
    fd_store32(&worker.region.in_hand.len, 0)
    fd_store64(&worker.region.in_hand.hash, 0)

cdef bint hand_ask(worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil
cdef bint hand_ask_key(worker_t *worker, uint64_t key_hash) noexcept nogil

# At start: one more has died on what the predecessor had in hand.
cdef void hand_inherit(worker_t *worker, inherited_t *out) noexcept nogil

# What was inherited was done once, and this process lives.
cdef void hand_acquit(worker_t *worker, uint64_t hash) noexcept nogil

# Forget what is not refused any more.
cdef void hand_tick(worker_t *worker) noexcept nogil
