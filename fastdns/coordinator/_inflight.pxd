# SPDX-License-Identifier: Apache-2.0
# _inflight.pxd: questions under way, who waits for each, and where each was asked. nogil; all
# memory is taken at open; every operation is O(1).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns.coordinator._state cimport change_t, coordinator_t, flight_t, question_t

# Take the memory for `capacity` questions (INFLIGHT_MAX at most) and their timers. False: no memory.
cdef bint inflight_open(coordinator_t *c, uint32_t capacity) noexcept nogil
cdef void inflight_close(coordinator_t *c) noexcept nogil

# The flight of this key that others may join, or NONE.
cdef uint32_t inflight_find(const coordinator_t *c, const question_t *question,
                            const uint8_t *qname) noexcept nogil

# A new flight, not asked yet and with nobody waiting, or NONE when the table is full (or, for a
# name over SHORT_NAME octets, the places for such names). FD_Q_ALONE: nobody can join it.
cdef uint32_t inflight_add(coordinator_t *c, const question_t *question,
                           const uint8_t *qname) noexcept nogil

# End a flight: its attempts are forgotten, its timer cleared.
cdef void inflight_remove(coordinator_t *c, uint32_t index) noexcept nogil

cdef const uint8_t *flight_qname(const coordinator_t *c, const flight_t *flight) noexcept nogil

# The flight's key to the post, for a successor; then hand_clear.
cdef void hand_take_flight(coordinator_t *c, uint32_t index) noexcept nogil

# What is asked for the flight: its own question, or what a table made of it.
cdef const question_t *flight_asked(const coordinator_t *c, const flight_t *flight) noexcept nogil
cdef const uint8_t *flight_asked_name(const coordinator_t *c, const flight_t *flight) noexcept nogil

# What a table made of the flight's question, or NULL.
cdef const change_t *flight_changed(const coordinator_t *c, const flight_t *flight) noexcept nogil

# The place of what a table makes of the flight's question, taken and filled with the question as it
# is where there was none. NULL: all are taken.
cdef change_t *flight_change(coordinator_t *c, flight_t *flight) noexcept nogil

# A new flight for a question that fell into a zone, at the first step of its block. NONE: the table is
# full, which is counted.
cdef uint32_t flight_begin(coordinator_t *c, const question_t *question, const uint8_t *qname,
                           uint32_t zone, uint64_t deadline_ms) noexcept nogil

# It is not one of those any more that its forward's `max_concurrent` bounds.
cdef void flight_uncount(coordinator_t *c, flight_t *flight) noexcept nogil

# A flight waits for another one's answer; child_leave: no more.
cdef void child_join(coordinator_t *c, uint32_t parent, uint32_t child) noexcept nogil
cdef void child_leave(coordinator_t *c, uint32_t parent) noexcept nogil

# Worker `worker` waits for the flight; a newer ticket takes an older one's place. Returns whether
# that worker waited already.
cdef bint flight_join(coordinator_t *c, uint32_t index, uint32_t worker, uint64_t ticket) noexcept nogil

# An ID at random that no attempt on the channel has. False: none was found, of so many on it.
cdef bint attempt_id(coordinator_t *c, uint32_t channel, uint16_t *id) noexcept nogil

# Note that a flight was asked on a channel under an ID. There is always room: where retries
# have taken it all, the flight's own oldest attempt makes way.
cdef uint32_t attempt_add(coordinator_t *c, uint32_t flight, uint32_t channel, uint16_t id) noexcept nogil

# The attempt that an answer on this channel with this ID belongs to, or NONE.
cdef uint32_t attempt_find(const coordinator_t *c, uint32_t channel, uint16_t id) noexcept nogil

cdef void attempt_remove(coordinator_t *c, uint32_t index) noexcept nogil
