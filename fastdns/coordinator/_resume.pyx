# SPDX-License-Identifier: Apache-2.0
"""What the Python thread said of the flights it had.

    SLOW_GO    the walk goes on behind the step, perhaps with another question
    SLOW_SELF  the step asks the server itself: a flight of its own, joined and stored like any other
    SLOW_DONE  an answer, which steps before this one may want to see
    SLOW_FAIL  SERVFAIL
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._name cimport key_extra, name_fold_hash
from fastdns._proto cimport EDE_OTHER, MESSAGE_MAX
from fastdns._shm cimport (
    FD_ENTRY_TRANSLATED,
    FD_ERROR_BUSY,
    FD_ERROR_PLUGIN,
    FD_NO_ZONE,
    FD_PLUGIN_TEMPLATE,
    FD_Q_ALONE,
    FD_Q_RD,
    FD_ZONE_CLIENT,
    FD_ZONE_FAMILY,
    FD_ZONE_REFUSED,
    fd_entry_t,
    fd_zone,
)
from fastdns._stats cimport FD_C_quarantined, bump
from fastdns._suspects cimport suspect_add
from fastdns._zones cimport zone_find
from fastdns.coordinator._conclude cimport fail
from fastdns.coordinator._deaths cimport quarantine_refuses
from fastdns.coordinator._exchange cimport exchange_made, exchange_resume
from fastdns.coordinator._hand cimport hand_clear, hand_take
from fastdns.coordinator._inflight cimport (
    child_join,
    flight_begin,
    flight_change,
    flight_qname,
    inflight_find,
)
from fastdns.coordinator._queue cimport (
    SLOW_BACK,
    SLOW_DONE,
    SLOW_GO,
    SLOW_PASSING,
    SLOW_SELF,
    SLOW_TOLD,
    SLOW_TRANSLATED,
    slow_next,
    slow_release,
    slow_result_message,
    slow_result_options,
    slow_result_qname,
    slow_result_t,
    slow_stuck,
)
from fastdns.coordinator._slow cimport slow_give, slow_message
from fastdns.coordinator._state cimport (
    CHANGE_BACK,
    CHANGE_OPTIONS,
    DEPTH_MAX,
    FLIGHT_SLOW,
    NONE,
    change_t,
    coordinator_t,
    flight_t,
    question_t,
)
from fastdns.coordinator._stored cimport LAST_MS, find_stored

cdef extern from "<unistd.h>" nogil:
    void _exit(int status)

cdef enum:
    STUCK_STATUS = 3             # exit status


cdef void give_up(coordinator_t *c, uint32_t index, uint8_t kind) noexcept nogil:
    c.flights[index].state &= ~<uint16_t>FLIGHT_SLOW
    fail(c, index, EDE_OTHER, kind)


cdef bint push(change_t *change, uint16_t step) noexcept nogil:
    if change.back_count >= CHANGE_BACK:
        return False
    change.back[change.back_count] = step
    change.back_count += 1
    return True


cdef void go(coordinator_t *c, uint32_t index, const slow_result_t *result) noexcept nogil:
    cdef change_t *change = &c.changes[c.flights[index].change]
    if result.flags & SLOW_BACK and not push(change, result.step):
        give_up(c, index, FD_ERROR_BUSY)
        return
    change.question.qtype = result.qtype
    change.question.qclass = result.qclass
    change.question.qname_len = result.qname_len
    memcpy(change.qname, slow_result_qname(result), result.qname_len)
    if result.options_len and change.options_len + result.options_len <= CHANGE_OPTIONS:
        memcpy(change.options + change.options_len, slow_result_options(result), result.options_len)
        change.options_len += result.options_len
    exchange_resume(c, index)


# A flight for a question of our own. It ends when the one does that leads to it, at the latest.
cdef uint32_t new_child(coordinator_t *c, uint32_t parent, const question_t *question, const uint8_t *qname,
                        uint32_t zone) noexcept nogil:
    cdef uint32_t index = flight_begin(c, question, qname, zone, c.flights[parent].deadline_ms)
    cdef change_t *change
    if index == NONE:
        return NONE
    change = flight_change(c, &c.flights[index])
    if change != NULL:
        change.depth = c.changes[c.flights[parent].change].depth + 1
    return index


cdef void ask_self(coordinator_t *c, uint32_t index, const slow_result_t *result) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef change_t *change = &c.changes[flight.change]
    cdef question_t question = flight.question
    cdef const fd_entry_t *stored
    cdef uint8_t[256] qname
    cdef uint32_t zone, child, octets
    question.qtype = result.qtype
    question.qclass = result.qclass
    question.qname_len = result.qname_len
    question.flags = FD_Q_RD
    zone = zone_find(c.config, question.group, slow_result_qname(result), result.qname_len, result.qtype)
    if (zone == FD_NO_ZONE or fd_zone(c.config, zone).flags & (FD_ZONE_REFUSED | FD_ZONE_CLIENT)
            or change.depth >= DEPTH_MAX or not push(change, result.step)):
        give_up(c, index, FD_ERROR_PLUGIN)
        return
    if not fd_zone(c.config, zone).flags & FD_ZONE_FAMILY:
        question.variant = 0
    memset(qname, 0, sizeof(qname))
    question.key_hash = name_fold_hash(
        slow_result_qname(result), result.qname_len,
        key_extra(question.group, question.variant, question.key_flags, question.qtype, question.qclass),
        c.cache.hash_key, qname)
    if quarantine_refuses(c, question.key_hash):
        bump(c.counters, FD_C_quarantined, 1)
        give_up(c, index, FD_ERROR_PLUGIN)
        return
    flight.state &= ~<uint16_t>FLIGHT_SLOW
    child = inflight_find(c, &question, qname)
    if child == index:           # it waits for itself
        give_up(c, index, FD_ERROR_PLUGIN)
        return
    if child != NONE:
        child_join(c, index, child)
        return
    stored = find_stored(c, &question, qname, zone, LAST_MS)
    if stored != NULL:
        octets = slow_message(c, &question, qname, stored, c.made)
        if octets == 0 or not slow_give(c, index, c.made, octets):
            give_up(c, index, FD_ERROR_BUSY)
        return
    child = new_child(c, index, &question, qname, zone)
    if child == NONE:
        give_up(c, index, FD_ERROR_BUSY)
        return
    child_join(c, index, child)
    exchange_resume(c, child)


cdef void done(coordinator_t *c, uint32_t index, const slow_result_t *result) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef change_t *change = &c.changes[flight.change]
    if result.message_len > MESSAGE_MAX:
        give_up(c, index, FD_ERROR_PLUGIN)
        return
    memcpy(c.made, slow_result_message(result), result.message_len)
    c.made_len = result.message_len
    flight.plugin = result.plugin
    if result.plugin == FD_PLUGIN_TEMPLATE:
        bump(&c.post.block_series[flight.block.number].template_matches, 0, 1)
    if result.flags & SLOW_TOLD:
        change.told = result.step + 1
    if result.flags & SLOW_TRANSLATED:
        change.marks |= FD_ENTRY_TRANSLATED
    if result.flags & SLOW_PASSING:
        flight.question.flags |= FD_Q_ALONE
    exchange_made(c, index)


cdef void resume_one(coordinator_t *c, const slow_result_t *result) noexcept nogil:
    cdef uint32_t index = result.flight
    cdef flight_t *flight
    if index >= c.capacity:
        return
    flight = &c.flights[index]
    if (not flight.state & FLIGHT_SLOW or flight.change == NONE
            or c.changes[flight.change].serial != result.serial):
        return                   # it has ended meanwhile: its time was over
    hand_take(&c.post.in_hand, flight.question.key_hash, flight_qname(c, flight), flight.question.qname_len)
    if result.record.kind == SLOW_GO:
        go(c, index, result)
    elif result.record.kind == SLOW_SELF:
        ask_self(c, index, result)
    elif result.record.kind == SLOW_DONE:
        done(c, index, result)
    else:
        give_up(c, index, FD_ERROR_PLUGIN)
    hand_clear(&c.post.in_hand)


cdef uint32_t resume_flights(coordinator_t *c) noexcept nogil:
    cdef const slow_result_t *result
    cdef uint32_t count = 0
    if c.slow == NULL:
        return 0
    while count < RESUME_MAX:
        result = slow_next(c.slow)
        if result == NULL:
            break
        resume_one(c, result)
        slow_release(c.slow)
        count += 1
    return count


cdef void resume_watch(coordinator_t *c) noexcept nogil:
    cdef uint64_t key_hash
    if c.slow == NULL:
        return
    key_hash = slow_stuck(c.slow, c.now_ms)
    if key_hash:
        # It still has the question in hand, so the successor adds the second death: no more time is
        # spent on a second try.
        suspect_add(c.post.suspects, key_hash, c.now_ms)
        _exit(STUCK_STATUS)
