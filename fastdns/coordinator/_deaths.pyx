# SPDX-License-Identifier: Apache-2.0
"""Suspects and quarantine: a question that kills the coordinator costs two of them."""

from libc.stdint cimport uint32_t, uint64_t

from fastdns._shm cimport fd_load64, fd_post_t, fd_question_in_hand_t
from fastdns._stats cimport FD_C_poisoned, bump
from fastdns._suspects cimport (
    DEATHS_MAX,
    suspect_acquit,
    suspect_add,
    suspect_deaths,
    suspect_refused,
    suspects_count,
)
from fastdns.coordinator._hand cimport hand_clear
from fastdns.coordinator._state cimport coordinator_t


cdef void blame(fd_post_t *post, fd_question_in_hand_t *hand, uint64_t now_ms, death_t *out) noexcept nogil:
    out.key_hash = fd_load64(&hand.hash)
    out.note = hand
    # Remembered before the note is cleared: a death in between repeats this, and forgets nothing.
    out.deaths = suspect_add(post.suspects, out.key_hash, now_ms)
    if out.deaths >= <uint32_t>DEATHS_MAX:
        bump(&post.counters[0], FD_C_poisoned, 1)


cdef void deaths_recover(fd_post_t *post, uint64_t now_ms, death_t[2] out) noexcept nogil:
    # Which of the two threads it was that died nobody says. Both questions are suspects then, but a
    # known suspect explains the death alone.
    cdef uint64_t loops = fd_load64(&post.in_hand.hash)
    cdef uint64_t threads = fd_load64(&post.thread_in_hand.hash)
    cdef bint loops_known = loops != 0 and suspect_deaths(post.suspects, loops, now_ms) != 0
    cdef bint threads_known = threads != 0 and suspect_deaths(post.suspects, threads, now_ms) != 0
    out[0].note = out[1].note = NULL
    if loops and (loops_known or not threads_known):
        blame(post, &post.in_hand, now_ms, &out[0])
    if threads and threads != loops and (threads_known or not loops_known):
        blame(post, &post.thread_in_hand, now_ms, &out[1])
    hand_clear(&post.in_hand)
    hand_clear(&post.thread_in_hand)


cdef void quarantine_count(coordinator_t *c) noexcept nogil:
    c.suspected = suspects_count(c.post.suspects, 1, c.now_ms)
    c.quarantined = suspects_count(c.post.suspects, DEATHS_MAX, c.now_ms)


cdef void suspect_cleared(coordinator_t *c, uint64_t key_hash) noexcept nogil:
    if c.suspected == c.quarantined or suspect_deaths(c.post.suspects, key_hash, c.now_ms) != 1:
        return
    suspect_acquit(c.post.suspects, key_hash)
    c.suspected -= 1


cdef bint quarantine_refuses(const coordinator_t *c, uint64_t key_hash) noexcept nogil:
    return c.quarantined != 0 and suspect_refused(c.post.suspects, key_hash, c.now_ms)
