# SPDX-License-Identifier: Apache-2.0
"""The question in hand: what its writer died on, if it dies before it is cleared."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._shm cimport FD_QNAME_MAX, fd_question_in_hand_t, fd_release64, fd_store32


cdef void hand_take(fd_question_in_hand_t *hand, uint64_t key_hash, const uint8_t *qname,
                    uint32_t qname_len) noexcept nogil:
    qname_len = min(qname_len, <uint32_t>FD_QNAME_MAX)
    memcpy(hand.qname, qname, qname_len)
    fd_store32(&hand.qname_len, qname_len)
    # Released: the name is whole before the hash says so, whatever the compiler would prefer.
    fd_release64(&hand.hash, key_hash)


cdef void hand_clear(fd_question_in_hand_t *hand) noexcept nogil:
    fd_release64(&hand.hash, 0)
