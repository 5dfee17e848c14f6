# SPDX-License-Identifier: Apache-2.0
# _deaths.pxd: what the coordinator has in hand, and keys that killed it twice (design "Deaths"). nogil.
# The notes lie in the post, where a successor finds them.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._shm cimport fd_post_t
from fastdns.coordinator._state cimport coordinator_t

cdef enum:
    QUARANTINE_MS = 60_000

ctypedef enum death_rc:
    DEATH_CLEAN = 0              # the predecessor had nothing in hand, or there was none
    DEATH_SUSPECT = 1            # what it had in hand is the suspect now: to be tried first and alone
    DEATH_QUARANTINED = 2        # it was the suspect already: refused from now on

# Read a predecessor's note and clear it. `key_hash` is what it had in hand; the qname still stands
# in post.in_hand_qname, in_hand.len octets.
cdef death_rc deaths_recover(fd_post_t *post, uint64_t now_ms, uint64_t *key_hash) noexcept nogil

# Take a key in hand, before anything is done with what came from outside.
cdef void hand_take(fd_post_t *post, uint64_t key_hash, const uint8_t *qname,
                    uint32_t qname_len) noexcept nogil
cdef void hand_clear(fd_post_t *post) noexcept nogil

# The suspect was answered: it kills nobody.
cdef void suspect_cleared(fd_post_t *post, uint64_t key_hash) noexcept nogil

# Count the keys in quarantine into c.quarantined; call after deaths_recover.
cdef void quarantine_open(coordinator_t *c) noexcept nogil

# Refuse a key for a while, from the next start on.
cdef void quarantine_add(fd_post_t *post, uint64_t key_hash, uint64_t now_ms) noexcept nogil

# Whether the key is in quarantine now.
cdef bint quarantine_refuses(coordinator_t *c, uint64_t key_hash) noexcept nogil
