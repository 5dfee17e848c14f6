# SPDX-License-Identifier: Apache-2.0
"""In hand, suspect, quarantine: a question that kills the coordinator costs two of them."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._shm cimport (
    FD_QNAME_MAX,
    FD_QUARANTINE,
    fd_load64,
    fd_post_t,
    fd_quarantine_t,
    fd_release64,
    fd_store32,
    fd_store64,
)
from fastdns._stats cimport FD_C_poisoned, bump
from fastdns.coordinator._state cimport coordinator_t


cdef void hand_take(fd_post_t *post, uint64_t key_hash, const uint8_t *qname,
                    uint32_t qname_len) noexcept nogil:
    qname_len = min(qname_len, <uint32_t>FD_QNAME_MAX)
    memcpy(post.in_hand_qname, qname, qname_len)
    fd_store32(&post.in_hand.len, qname_len)
    # Released: the name is whole before the hash says so, whatever the compiler would prefer.
    fd_release64(&post.in_hand.hash, key_hash)


cdef void hand_clear(fd_post_t *post) noexcept nogil:
    fd_release64(&post.in_hand.hash, 0)


cdef void suspect_cleared(fd_post_t *post, uint64_t key_hash) noexcept nogil:
    if post.in_hand.suspect == key_hash:
        post.in_hand.deaths = 0
        fd_release64(&post.in_hand.suspect, 0)


cdef void quarantine_add(fd_post_t *post, uint64_t key_hash, uint64_t now_ms) noexcept nogil:
    # Into a free place, else into the one that ends first.
    cdef fd_quarantine_t *place = &post.quarantine[0]
    cdef uint32_t i
    for i in range(<uint32_t>FD_QUARANTINE):
        if post.quarantine[i].key_hash == key_hash or post.quarantine[i].until_ms <= now_ms:
            place = &post.quarantine[i]
            break
        if post.quarantine[i].until_ms < place.until_ms:
            place = &post.quarantine[i]
    place.until_ms = now_ms + QUARANTINE_MS
    fd_store64(&place.key_hash, key_hash)


cdef death_rc deaths_recover(fd_post_t *post, uint64_t now_ms, uint64_t *key_hash) noexcept nogil:
    cdef uint64_t hash = fd_load64(&post.in_hand.hash)
    key_hash[0] = hash
    if hash == 0:
        return DEATH_CLEAN
    if post.in_hand.suspect == hash:
        # Refused before the notes are cleared: a death in between repeats this, and forgets nothing.
        quarantine_add(post, hash, now_ms)
        bump(&post.counters[0], FD_C_poisoned, 1)
        post.in_hand.deaths = 0
        fd_release64(&post.in_hand.suspect, 0)
        hand_clear(post)
        return DEATH_QUARANTINED
    post.in_hand.deaths = 1
    fd_release64(&post.in_hand.suspect, hash)
    hand_clear(post)
    return DEATH_SUSPECT


cdef void quarantine_open(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    c.quarantined = 0
    for i in range(<uint32_t>FD_QUARANTINE):
        if c.post.quarantine[i].key_hash != 0 and c.post.quarantine[i].until_ms > c.now_ms:
            c.quarantined += 1


cdef bint quarantine_refuses(coordinator_t *c, uint64_t key_hash) noexcept nogil:
    cdef uint32_t i
    if c.quarantined == 0:
        return False
    for i in range(<uint32_t>FD_QUARANTINE):
        if c.post.quarantine[i].key_hash == key_hash and c.post.quarantine[i].until_ms > c.now_ms:
            return True
    return False
