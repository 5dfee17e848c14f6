# SPDX-License-Identifier: Apache-2.0
# _hand.pxd: the question that a thread of the coordinator has in hand, noted where a successor finds it
# (design "Deaths"). nogil.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._shm cimport fd_question_in_hand_t

# Take a question in hand, before anything is done with what came from outside.
cdef void hand_take(fd_question_in_hand_t *hand, uint64_t key_hash, const uint8_t *qname,
                    uint32_t qname_len) noexcept nogil
cdef void hand_clear(fd_question_in_hand_t *hand) noexcept nogil
