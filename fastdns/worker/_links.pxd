# SPDX-License-Identifier: Apache-2.0
# _links.pxd: what ties the facts of the pending table together: private memory, rebuilt at start. nogil.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._shm cimport fd_client_t, fd_pending_t, fd_region_t
from fastdns.worker._state cimport pending_table_t, worker_t

cdef enum:
    NONE = 0xffff                # no slot; tables have fewer than 65,535 places
    ANSWERED_MAX = 64            # questions whose replies leave together
    HEADS = 8192                 # hash heads of questions, and of clients (for repeats)

# Private links of a question and of a client; all indexes.
cdef struct question_link_t:
    uint64_t stale_due_ms        # when its clients get the stale answer
    uint16_t next_hash           # in its hash chain; in the free list when free
    uint16_t first               # clients, in order of arrival
    uint16_t last
    uint16_t next_unsent
    uint16_t sooner              # in the queue of those that have a stale answer
    uint16_t later
    uint8_t unsent               # stands in the queue of those to put
    uint8_t answered             # its replies are on their way; freed when they have left
    uint8_t stale                # stands in the queue of those that have a stale answer

cdef struct client_link_t:
    uint16_t next                # in the question's chain; in the free list when free
    uint16_t previous
    uint16_t younger             # in the queue of deadlines
    uint16_t older
    uint16_t next_hash           # in the hash chain of (peer, ID)
    uint16_t previous_hash

cdef struct pending_table_t:
    fd_pending_t *questions      # in the region
    fd_client_t *clients         # in the region
    question_link_t *question_links
    client_link_t *client_links
    uint16_t *question_heads     # HEADS of each
    uint16_t *client_heads
    fd_region_t *region
    uint32_t question_count, client_count
    uint32_t fresh_question, fresh_client   # from here on never used
    uint32_t used, clients_used
    uint16_t free_question, free_client
    uint16_t oldest, youngest
    uint16_t first_unsent, last_unsent
    uint16_t first_stale, last_stale
    uint32_t marked_seen         # answer ring's overflow mark
    uint64_t generation_seen     # of the coordinator
    bint put                     # a question was put since the last wake
    uint16_t answered[64]        # ANSWERED_MAX; questions whose replies are on their way
    uint32_t answered_count

cdef inline uint32_t question_head(uint64_t key_hash) noexcept nogil:
    return <uint32_t>(key_hash >> 20) & (HEADS - 1)

# The chain in which a client that repeats a query is found: where it asks from, and ID. Not
# keyed: a flood of chosen sources can make one long, so a walk along it needs a bound, and
# leaving it takes none.
cdef uint32_t client_head(const fd_client_t *client) noexcept nogil

# Take the private memory and link what a predecessor left: its clients keep their places (those
# on its TCP connections went with it), their questions are queued as unsent. NULL: no memory.
cdef pending_table_t *links_open(worker_t *worker) noexcept nogil

# A free place for a client, or NONE; it is taken by take_client. A free slot, taken, or NONE.
# Used ones are given first, so that pages that were never needed stay untouched, also by a successor.
cdef uint16_t next_client(const pending_table_t *table) noexcept nogil
cdef void take_client(pending_table_t *table, uint16_t place) noexcept nogil
cdef uint16_t take_question(pending_table_t *table) noexcept nogil

cdef void link_question(pending_table_t *table, uint16_t slot) noexcept nogil
cdef void link_client(pending_table_t *table, uint16_t place, uint16_t slot) noexcept nogil
cdef void free_client(pending_table_t *table, uint16_t place) noexcept nogil
cdef void free_question(pending_table_t *table, uint16_t slot) noexcept nogil
cdef void queue_unsent(pending_table_t *table, uint16_t slot) noexcept nogil

# The queue of questions whose clients get a stale answer after the question's stale_ms. It is in order by
# itself where all blocks wait equally long; where they don't, a new one walks past those that are due later.
cdef void queue_stale(pending_table_t *table, uint16_t slot) noexcept nogil
cdef void leave_stale(pending_table_t *table, uint16_t slot) noexcept nogil
