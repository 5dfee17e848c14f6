# SPDX-License-Identifier: Apache-2.0
# _stored.pxd: what the cache holds for a question under way: fresh answers, and stale ones. nogil.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._shm cimport fd_entry_t
from fastdns.coordinator._state cimport coordinator_t, flight_t, question_t

cdef enum:
    LAST_MS = 1000               # of an answer's life: it is not handed on from the cache any more

# What is stored for the question, fresh for more than left_ms and what the zone's block would say today, or NULL.
cdef const fd_entry_t *find_stored(coordinator_t *c, const question_t *question, const uint8_t *qname,
                                   uint32_t zone, uint32_t left_ms) noexcept nogil

# Hand a fresh answer on that was stored since the worker looked. False: there is none.
cdef bint answer_stored(coordinator_t *c, uint32_t worker, const question_t *question,
                        const uint8_t *qname, uint64_t ticket, uint32_t zone) noexcept nogil

# What can still be given, fresh or stale, to those who asked for the key of c.entry: no failure, and what
# its block would say today. NULL: nothing. Valid until the next store_put.
cdef const fd_entry_t *stored_usable(coordinator_t *c) noexcept nogil

# Have workers answer the entry with the key of c.entry at once, though it is stale, for so long.
cdef void stored_hold(coordinator_t *c, uint64_t ms) noexcept nogil

# A worker that has given a stale answer wants it refreshed, which the flight does: until its end workers answer
# the entry and ask no more.
cdef void stored_refreshed(coordinator_t *c, const flight_t *flight) noexcept nogil

# Give the stale answer to one who asks what has been under way for longer than a client waits for it; the
# client response timer of RFC 8767 s5 is the question's, and begins with the first client of one of our own.
# False: not so long, or there is none.
cdef bint stored_overdue(coordinator_t *c, const flight_t *flight, uint32_t worker,
                         uint64_t ticket) noexcept nogil
