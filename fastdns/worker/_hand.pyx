# SPDX-License-Identifier: Apache-2.0
"""What a worker has in hand, and what its predecessors died on.

A packet is known by a keyed hash of its octets without the ID, so that a client that sends the
same poison again under another ID is recognised. One death makes it a suspect, tried first and
alone; a second one with the same in hand has it refused.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._name cimport siphash
from fastdns._shm cimport fd_at, fd_in_hand_t
from fastdns._stats cimport FD_C_poisoned, bump

cdef enum:
    ID_LEN = 2
    DEATHS_MAX = 2


cdef uint64_t packet_hash(const worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil:
    cdef uint64_t hash = 0
    if octets > ID_LEN:
        hash = siphash(packet + ID_LEN, octets - ID_LEN, worker.cache.hash_key)
    return hash if hash else 1


cdef bint hand_ask(worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil:
    if worker.region.in_hand.deaths < DEATHS_MAX:
        return True
    if packet_hash(worker, packet, octets) != worker.region.in_hand.suspect:
        return True
    bump(worker.counters, FD_C_poisoned, 1)
    return False


cdef void hand_inherit(worker_t *worker, inherited_t *out) noexcept nogil:
    cdef fd_in_hand_t *hand = &worker.region.in_hand
    cdef uint64_t hash = hand.hash
    memset(out, 0, sizeof(inherited_t))
    if hash == 0 and hand.len and <uint64_t>hand.off + hand.len <= worker.region.total_size:
        out.off = hand.off
        out.len = hand.len
        hash = packet_hash(worker, <const uint8_t *>fd_at(worker.region, hand.off), hand.len)
    if hash == 0:
        return
    out.found = True
    hand.deaths = hand.deaths + 1 if hash == hand.suspect else 1
    hand.suspect = hash
    out.give_up = hand.deaths >= DEATHS_MAX
    if out.give_up:
        bump(worker.counters, FD_C_poisoned, 1)
    hand_clear(worker)


cdef void hand_acquit(worker_t *worker) noexcept nogil:
    worker.region.in_hand.suspect = 0
    worker.region.in_hand.deaths = 0
