# SPDX-License-Identifier: Apache-2.0
# _deaths.pxd: questions that coordinators died on, and their quarantine (design "Deaths"). nogil.
from libc.stdint cimport uint32_t, uint64_t

from fastdns._shm cimport fd_post_t, fd_question_in_hand_t
from fastdns.coordinator._state cimport coordinator_t

ctypedef struct death_t:
    const fd_question_in_hand_t *note   # its name still stands there; NULL: this hand was empty, or is not blamed
    uint64_t key_hash
    uint32_t deaths              # on this key, the last one included

# Read a predecessor's notes, the loop's and the thread's, and clear them.
cdef void deaths_recover(fd_post_t *post, uint64_t now_ms, death_t[2] out) noexcept nogil

# Count the suspects into c.suspected and those in quarantine into c.quarantined: after deaths_recover, and
# now and then, since a quarantine ends.
cdef void quarantine_count(coordinator_t *c) noexcept nogil

# The key was answered: it kills nobody.
cdef void suspect_cleared(coordinator_t *c, uint64_t key_hash) noexcept nogil

# Whether the key is in quarantine now.
cdef bint quarantine_refuses(const coordinator_t *c, uint64_t key_hash) noexcept nogil
