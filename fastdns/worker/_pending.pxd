# SPDX-License-Identifier: Apache-2.0
# _pending.pxd: questions that wait for the coordinator, and the clients chained to each. SHM_LAYOUT
# The facts lie in the region, so that a successor finds them; what links them: _links.pxd. nogil.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._shm cimport fd_query_t, fd_record_t, fd_zone_t
from fastdns.worker._state cimport origin_t, worker_t

ctypedef enum join_rc:
    JOIN_WAITS = 0
    JOIN_PENDING_FULL = 1        # the table of questions is full: SERVFAIL
    JOIN_CLIENTS_FULL = 2        # no client place is left: SERVFAIL

# Chain a client to the question of `query`, putting the question if it is new.
#   question   the question section as the client sent it
#   zone, zone_number   that the name falls into; in one with FD_ZONE_CLIENT nobody is joined
#   stale_ms            0, or there is a stale answer, which its clients get after so long (RFC 8767 s5, the
#                       client response timer), or at once when the coordinator says that upstream failed
cdef join_rc pending_join(worker_t *worker, const fd_query_t *query, const uint8_t *question,
                          const origin_t *origin, const fd_zone_t *zone, uint16_t zone_number,
                          uint16_t stale_ms) noexcept nogil

# Answer the clients of an answer or failure record; pending_settle sends the replies off once all
# records of the round were taken. Unmatched records are counted.
cdef void pending_answer(worker_t *worker, const fd_record_t *record) noexcept nogil

# Send the replies of answered questions, then free their places.
cdef void pending_settle(worker_t *worker) noexcept nogil

# Upkeep once a round: put what was unsent, look all questions up again when the coordinator is
# new or an answer found the ring full, stale answers where upstream takes long, SERVFAIL to clients
# whose time is over, wake the coordinator if something was put. Returns ms until the next deadline,
# 100 at most.
cdef uint32_t pending_tick(worker_t *worker) noexcept nogil

# Questions that wait.
cdef uint32_t pending_used(const worker_t *worker) noexcept nogil
