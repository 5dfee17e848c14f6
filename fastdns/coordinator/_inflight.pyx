# SPDX-License-Identifier: Apache-2.0
"""The table of questions under way: joined by key, found by channel and ID."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from fastdns._memory cimport fd_reserve, fd_take
from fastdns._shm cimport FD_PLUGIN_FORWARD, FD_Q_ALONE, fd_block, fd_zone
from fastdns._stats cimport FD_C_inflight_full, bump
from fastdns.coordinator._hand cimport hand_take
from fastdns.coordinator._random cimport random16
from fastdns.coordinator._state cimport (
    CHANGE_SHARE,
    FLIGHT_AHEAD,
    FLIGHT_COUNTED,
    FLIGHT_LISTED,
    FLIGHT_LOOK,
    FLIGHT_USED,
    INFLIGHT_MAX,
    LONG_NAME_SHARE,
    NONE,
    SHORT_NAME,
    attempt_t,
    change_t,
    channel_t,
    coordinator_t,
    flight_t,
    question_t,
)
from fastdns.coordinator._timers cimport timers_clear, timers_close, timers_open

cdef enum:
    LONG_NAME = 256
    ID_TRIES = 8                 # a channel with 10,000 IDs taken refuses one in 2^21 questions


# A free list in zeroed memory: 0 leads to the place behind. So a list of all places is there without a write.
cdef inline uint16_t next_free(uint32_t index, uint16_t link, uint32_t count) noexcept nogil:
    cdef uint32_t following = link ^ (index + 1)
    return <uint16_t>following if following < count else <uint16_t>NONE


cdef inline uint16_t free_link(uint32_t index, uint16_t following) noexcept nogil:
    return <uint16_t>(following ^ (index + 1))


cdef bint inflight_open(coordinator_t *c, uint32_t capacity) noexcept nogil:
    cdef uint32_t buckets = 64
    cdef uint32_t long_names, changes, i
    capacity = min(max(capacity, 64), <uint32_t>INFLIGHT_MAX)
    while buckets < capacity:
        buckets *= 2
    long_names = capacity // LONG_NAME_SHARE
    changes = capacity // CHANGE_SHARE
    c.capacity = capacity
    c.flight_mask = buckets - 1
    c.attempt_mask = 2 * buckets - 1
    c.flights = <flight_t *>fd_reserve(capacity * sizeof(flight_t))
    c.tickets = <uint64_t *>fd_reserve(capacity * max(c.worker_count, 1) * sizeof(uint64_t))
    c.attempts = <attempt_t *>fd_reserve(2 * capacity * sizeof(attempt_t))
    c.flight_buckets = <uint16_t *>fd_take(buckets * sizeof(uint16_t), 0xff)
    c.attempt_buckets = <uint16_t *>fd_take(2 * buckets * sizeof(uint16_t), 0xff)
    c.long_names = <uint8_t *>fd_reserve(long_names * LONG_NAME)
    c.changes = <change_t *>fd_reserve(changes * sizeof(change_t))
    c.orphans = <uint16_t *>fd_reserve(capacity * sizeof(uint16_t))
    if (not timers_open(&c.timers, capacity, c.now_ms) or c.flights == NULL or c.tickets == NULL
            or c.attempts == NULL or c.flight_buckets == NULL or c.attempt_buckets == NULL
            or c.long_names == NULL or c.changes == NULL or c.orphans == NULL):
        inflight_close(c)
        return False
    c.free_flights = c.free_attempts = c.free_long_names = c.free_changes = 0
    c.inflight_used = c.extra_attempts = 0
    # Names choose a flight's hash only through the cache's secret key; IDs are ours. The attempts'
    # hash gets a secret so that an upstream can't aim at one chain either.
    c.attempt_secret = 0
    for i in range(4):
        c.attempt_secret |= <uint64_t>random16(&c.random) << 16 * i
    return True


cdef void inflight_close(coordinator_t *c) noexcept nogil:
    timers_close(&c.timers)
    free(c.flights)
    free(c.tickets)
    free(c.attempts)
    free(c.flight_buckets)
    free(c.attempt_buckets)
    free(c.long_names)
    free(c.changes)
    free(c.orphans)
    c.flights = NULL
    c.tickets = NULL
    c.attempts = NULL
    c.flight_buckets = c.attempt_buckets = c.orphans = NULL
    c.long_names = NULL
    c.changes = NULL


# --- flights ---


cdef inline uint32_t flight_bucket(const coordinator_t *c, uint64_t key_hash) noexcept nogil:
    return <uint32_t>(key_hash >> 20) & c.flight_mask


cdef inline uint8_t *flight_name(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    if flight.question.qname_len <= SHORT_NAME:
        return <uint8_t *>flight.qname
    return c.long_names + flight.long_name * LONG_NAME


cdef const uint8_t *flight_qname(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    return flight_name(c, flight)


cdef void hand_take_flight(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    hand_take(&c.post.in_hand, flight.question.key_hash, flight_qname(c, flight), flight.question.qname_len)


cdef const question_t *flight_asked(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    if flight.change == NONE:
        return &flight.question
    return &c.changes[flight.change].question


cdef const uint8_t *flight_asked_name(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    if flight.change == NONE:
        return flight_name(c, flight)
    return c.changes[flight.change].qname


cdef const change_t *flight_changed(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    return NULL if flight.change == NONE else &c.changes[flight.change]


cdef change_t *flight_change(coordinator_t *c, flight_t *flight) noexcept nogil:
    cdef change_t *change
    if flight.change != NONE:
        return &c.changes[flight.change]
    if c.free_changes == NONE:
        return NULL
    change = &c.changes[c.free_changes]
    flight.change = c.free_changes
    c.free_changes = next_free(flight.change, change.next, c.capacity // CHANGE_SHARE)
    change.question = flight.question
    change.rule_count = 0
    change.has_client = 0
    change.rewritten = 0
    change.restored = 0
    change.serial = 0
    change.child = change.sibling = NONE
    change.depth = 0
    change.back_count = 0
    change.options_len = 0
    change.marks = 0
    change.told = 0
    memcpy(change.qname, flight_name(c, flight), flight.question.qname_len)
    return change


cdef bint same_question(const question_t *a, const question_t *b) noexcept nogil:
    return (a.key_hash == b.key_hash and a.qtype == b.qtype and a.qclass == b.qclass
            and a.group == b.group and a.variant == b.variant and a.key_flags == b.key_flags
            and a.qname_len == b.qname_len)


cdef uint32_t inflight_find(const coordinator_t *c, const question_t *question,
                            const uint8_t *qname) noexcept nogil:
    cdef uint32_t index = c.flight_buckets[flight_bucket(c, question.key_hash)]
    cdef const flight_t *flight
    while index != NONE:
        flight = &c.flights[index]
        if (same_question(&flight.question, question)
                and memcmp(flight_name(c, flight), qname, question.qname_len) == 0):
            return index
        index = flight.next
    return NONE


cdef uint32_t inflight_add(coordinator_t *c, const question_t *question,
                           const uint8_t *qname) noexcept nogil:
    cdef uint32_t index = c.free_flights
    cdef flight_t *flight
    cdef uint32_t bucket
    if index == NONE or (question.qname_len > SHORT_NAME and c.free_long_names == NONE):
        return NONE
    flight = &c.flights[index]
    c.free_flights = next_free(index, flight.next, c.capacity)
    memset(flight, 0, sizeof(flight_t))
    flight.question = question[0]
    flight.next = flight.attempts = flight.long_name = flight.change = flight.parents = NONE
    flight.state = FLIGHT_USED
    if question.qname_len > SHORT_NAME:
        flight.long_name = c.free_long_names
        c.free_long_names = next_free(flight.long_name, (<uint16_t *>&c.long_names[flight.long_name * LONG_NAME])[0],
                                      c.capacity // LONG_NAME_SHARE)
    memcpy(flight_name(c, flight), qname, question.qname_len)
    if not question.flags & FD_Q_ALONE:
        bucket = flight_bucket(c, question.key_hash)
        flight.next = c.flight_buckets[bucket]
        c.flight_buckets[bucket] = <uint16_t>index
        flight.state |= FLIGHT_LISTED
    c.inflight_used += 1
    return index


cdef uint32_t flight_begin(coordinator_t *c, const question_t *question, const uint8_t *qname,
                           uint32_t zone, uint64_t deadline_ms) noexcept nogil:
    cdef uint32_t index = inflight_add(c, question, qname)
    cdef flight_t *flight
    if index == NONE:
        bump(c.counters, FD_C_inflight_full, 1)
        return NONE
    flight = &c.flights[index]
    flight.deadline_ms = deadline_ms
    flight.zone = <uint16_t>zone
    flight.block = fd_block(c.config, fd_zone(c.config, zone).block)
    flight.plugin = FD_PLUGIN_FORWARD
    return index


cdef void flight_uncount(coordinator_t *c, flight_t *flight) noexcept nogil:
    if flight.state & FLIGHT_COUNTED:
        c.choices[flight.forward.number].under_way -= 1
        flight.state &= ~<uint16_t>FLIGHT_COUNTED


cdef void child_join(coordinator_t *c, uint32_t parent, uint32_t child) noexcept nogil:
    cdef change_t *change = &c.changes[c.flights[parent].change]
    change.child = <uint16_t>child
    change.sibling = c.flights[child].parents
    c.flights[child].parents = <uint16_t>parent


cdef void child_leave(coordinator_t *c, uint32_t parent) noexcept nogil:
    cdef change_t *change = &c.changes[c.flights[parent].change]
    cdef uint16_t *link
    if change.child == NONE:
        return
    link = &c.flights[change.child].parents
    while link[0] != parent:
        link = &c.changes[c.flights[link[0]].change].sibling
    link[0] = change.sibling
    change.child = change.sibling = NONE


cdef void inflight_remove(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint16_t *link
    timers_clear(&c.timers, index)
    while flight.attempts != NONE:
        attempt_remove(c, flight.attempts)
    if flight.state & FLIGHT_LISTED:
        link = &c.flight_buckets[flight_bucket(c, flight.question.key_hash)]
        while link[0] != index:
            link = &c.flights[link[0]].next
        link[0] = flight.next
    if flight.long_name != NONE:
        (<uint16_t *>&c.long_names[flight.long_name * LONG_NAME])[0] = free_link(flight.long_name, c.free_long_names)
        c.free_long_names = flight.long_name
    if flight.change != NONE:
        child_leave(c, index)
        c.changes[flight.change].next = free_link(flight.change, c.free_changes)
        c.free_changes = flight.change
    if flight.state & FLIGHT_LOOK:
        c.looks_due = True
    if flight.state & FLIGHT_AHEAD:
        c.ahead_count -= 1
    flight_uncount(c, flight)
    flight.state = 0
    flight.waiting = 0
    flight.next = free_link(index, c.free_flights)
    c.free_flights = <uint16_t>index
    c.inflight_used -= 1


cdef bint flight_join(coordinator_t *c, uint32_t index, uint32_t worker, uint64_t ticket) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint16_t bit = <uint16_t>(1 << worker)
    cdef bint waited = flight.waiting & bit != 0
    flight.waiting |= bit
    c.tickets[index * c.worker_count + worker] = ticket
    return waited


# --- attempts ---


cdef inline uint32_t attempt_bucket(const coordinator_t *c, uint32_t channel, uint16_t id) noexcept nogil:
    cdef uint64_t mixed = (((<uint64_t>channel << 16) | id) ^ c.attempt_secret) * <uint64_t>0x9e3779b97f4a7c15
    return <uint32_t>(mixed >> 40) & c.attempt_mask


cdef uint32_t attempt_find(const coordinator_t *c, uint32_t channel, uint16_t id) noexcept nogil:
    cdef uint32_t index = c.attempt_buckets[attempt_bucket(c, channel, id)]
    while index != NONE:
        if c.attempts[index].id == id and c.attempts[index].channel == channel:
            return index
        index = c.attempts[index].next
    return NONE


cdef bint attempt_id(coordinator_t *c, uint32_t channel, uint16_t *id) noexcept nogil:
    cdef uint32_t _i
    for _i in range(<uint32_t>ID_TRIES):
        id[0] = random16(&c.random)
        if attempt_find(c, channel, id[0]) == NONE:
            return True
    return False


cdef uint32_t attempt_add(coordinator_t *c, uint32_t flight_index, uint32_t channel_index,
                          uint16_t id) noexcept nogil:
    cdef flight_t *flight = &c.flights[flight_index]
    cdef channel_t *channel = &c.channels[channel_index]
    cdef uint32_t bucket = attempt_bucket(c, channel_index, id)
    cdef uint32_t index
    cdef attempt_t *attempt
    # Twice the flights, half of it for first attempts: a flight without one always finds room.
    if flight.attempt_count and c.extra_attempts >= c.capacity:
        index = flight.attempts
        while c.attempts[index].sibling != NONE:
            index = c.attempts[index].sibling
        attempt_remove(c, index)
    index = c.free_attempts
    attempt = &c.attempts[index]
    c.free_attempts = next_free(index, attempt.next, 2 * c.capacity)
    attempt.sent_us = <uint32_t>c.now_us
    attempt.flight = <uint16_t>flight_index
    attempt.channel = <uint16_t>channel_index
    attempt.id = id
    attempt.next = c.attempt_buckets[bucket]
    c.attempt_buckets[bucket] = <uint16_t>index
    attempt.sibling = flight.attempts
    flight.attempts = <uint16_t>index
    attempt.channel_prev = NONE
    attempt.channel_next = channel.attempts
    if channel.attempts != NONE:
        c.attempts[channel.attempts].channel_prev = <uint16_t>index
    else:
        channel.oldest = <uint16_t>index
    channel.attempts = <uint16_t>index
    channel.outstanding += 1
    if flight.attempt_count:
        c.extra_attempts += 1
    flight.attempt_count += 1
    return index


cdef void attempt_remove(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef attempt_t *attempt = &c.attempts[index]
    cdef flight_t *flight = &c.flights[attempt.flight]
    cdef channel_t *channel = &c.channels[attempt.channel]
    cdef uint16_t *link = &c.attempt_buckets[attempt_bucket(c, attempt.channel, attempt.id)]
    while link[0] != index:
        link = &c.attempts[link[0]].next
    link[0] = attempt.next
    link = &flight.attempts
    while link[0] != index:
        link = &c.attempts[link[0]].sibling
    link[0] = attempt.sibling
    if attempt.channel_next != NONE:
        c.attempts[attempt.channel_next].channel_prev = attempt.channel_prev
    if attempt.channel_prev != NONE:
        c.attempts[attempt.channel_prev].channel_next = attempt.channel_next
    else:
        channel.attempts = attempt.channel_next
    if channel.oldest == index:
        channel.oldest = attempt.channel_prev
    if channel.unsent == index:
        channel.unsent = attempt.channel_prev
    channel.outstanding -= 1
    flight.attempt_count -= 1
    if flight.attempt_count:
        c.extra_attempts -= 1
    attempt.next = free_link(index, c.free_attempts)
    c.free_attempts = <uint16_t>index
