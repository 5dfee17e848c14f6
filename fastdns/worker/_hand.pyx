# SPDX-License-Identifier: Apache-2.0
"""What a worker has in hand, and what its predecessors died on.

A packet is known by a keyed hash of its octets without the ID, so that a client that sends the
same poison again under another ID is recognised. Once it is parsed it is known by its question's
key, so that the same question in another packet is, too. One death makes it a suspect, tried first
and alone; a second one with the same in hand has it refused: a packet is dropped, a question
answered with SERVFAIL.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._name cimport siphash
from fastdns._shm cimport fd_at, fd_in_hand_t
from fastdns._stats cimport FD_C_poisoned, bump
from fastdns._suspects cimport (
    DEATHS_MAX,
    suspect_acquit,
    suspect_add,
    suspect_refused,
    suspects_count,
)

cdef enum:
    ID_LEN = 2


cdef uint64_t packet_hash(const worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil:
    cdef uint64_t hash = 0
    if octets > ID_LEN:
        hash = siphash(packet + ID_LEN, octets - ID_LEN, worker.cache.hash_key)
    return hash if hash else 1


cdef bint hand_ask(worker_t *worker, const uint8_t *packet, uint32_t octets) noexcept nogil:
    return hand_ask_key(worker, packet_hash(worker, packet, octets))


cdef bint hand_ask_key(worker_t *worker, uint64_t key_hash) noexcept nogil:
    if not suspect_refused(worker.region.suspects, key_hash, worker.now_ms):
        return True
    bump(worker.counters, FD_C_poisoned, 1)
    return False


cdef void hand_inherit(worker_t *worker, inherited_t *out) noexcept nogil:
    cdef fd_in_hand_t *hand = &worker.region.in_hand
    memset(out, 0, sizeof(inherited_t))
    out.hash = hand.hash
    out.is_key = hand.hash != 0
    if hand.len and <uint64_t>hand.off + hand.len <= worker.region.total_size:
        out.off = hand.off
        out.len = hand.len
        if not out.is_key:
            out.hash = packet_hash(worker, <const uint8_t *>fd_at(worker.region, hand.off), hand.len)
    if out.hash:
        out.give_up = suspect_add(worker.region.suspects, out.hash, worker.now_ms) >= <uint32_t>DEATHS_MAX
    if out.give_up:
        bump(worker.counters, FD_C_poisoned, 1)
    hand_clear(worker)
    hand_tick(worker)


cdef void hand_acquit(worker_t *worker, uint64_t hash) noexcept nogil:
    suspect_acquit(worker.region.suspects, hash)


cdef void hand_tick(worker_t *worker) noexcept nogil:
    worker.refused = suspects_count(worker.region.suspects, DEATHS_MAX, worker.now_ms)
