# SPDX-License-Identifier: Apache-2.0
# _hand.pxd: what the worker has in hand, and what its predecessors died on (design "Deaths"). nogil.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._shm cimport fd_load64, fd_store32, fd_store64
from fastdns.worker._state cimport worker_t

# How the successor of a dead worker starts.
ctypedef struct inherited_t:
    bint found                   # the predecessor had something in hand
    bint give_up                 # two have died on it: it is refused from now on
    uint32_t off                 # its bytes in the region; len 0: it was an answer record
    uint32_t len

# Note the packet before work on it starts. False: two workers died on it, leave it alone.
cdef inline bint hand_take(worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil:
    fd_store32(&worker.region.in_hand.off, <uint32_t>(packet - <const uint8_t *>worker.region))
    fd_store32(&worker.region.in_hand.len, octets)
    return worker.region.in_hand.suspect == 0 or hand_ask(worker, packet, octets)

# The same for an answer record, known by its key hash.
cdef inline bint hand_take_key(worker_t *worker, uint64_t key_hash) noexcept nogil:
    fd_store64(&worker.region.in_hand.hash, key_hash)
    return worker.region.in_hand.suspect != key_hash or worker.region.in_hand.deaths < 2

cdef inline void hand_clear(worker_t *worker) noexcept nogil:
    fd_store32(&worker.region.in_hand.len, 0)
    fd_store64(&worker.region.in_hand.hash, 0)

cdef bint hand_ask(worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil

# At start: compare what the predecessor had in hand with whom it suspected.
cdef void hand_inherit(worker_t *worker, inherited_t *out) noexcept nogil

# The suspect was done once, or its time is over: it is nobody special any more.
cdef void hand_acquit(worker_t *worker) noexcept nogil
