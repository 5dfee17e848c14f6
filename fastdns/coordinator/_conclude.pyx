# SPDX-License-Identifier: Apache-2.0
"""How a question ends: with an answer that is judged, stored and handed on, or with a failure."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport silence_mark
from fastdns._proto cimport EDE_OTHER, FAILURE_TTL_MIN, FLAG_RCODE, REFUSED
from fastdns._response cimport RESPONSE_FAILURE, RESPONSE_OK, parse_response
from fastdns._shm cimport (
    FD_EDE_NONE,
    FD_ENTRY_CHANGED,
    FD_ENTRY_FAILURE,
    FD_ERROR_BUSY,
    FD_ERROR_NO_UPSTREAM,
    FD_ERROR_PLUGIN,
    FD_ERROR_REFUSED,
    FD_ERROR_TIMEOUT,
    FD_PLUGIN_DNS64,
    FD_PLUGIN_FORWARD,
    FD_PLUGIN_LOOP,
    FD_PLUGIN_REWRITE,
    FD_Q_ALONE,
    FD_ZONE_ROTATE,
    fd_at,
    fd_block_t,
    fd_entry_t,
    fd_network_t,
    fd_zone,
)
from fastdns._stats cimport (
    FD_C_concurrent_full,
    FD_C_not_stored,
    FD_C_slow_full,
    FD_C_upstream_answers,
    FD_C_upstream_malformed,
    bump,
)
from fastdns.coordinator._deaths cimport suspect_cleared
from fastdns.coordinator._delivery cimport deliver_answer, deliver_failure
from fastdns.coordinator._health cimport health_await, health_failed, health_just_back
from fastdns.coordinator._inflight cimport attempt_remove, child_leave, flight_qname, inflight_remove
from fastdns.coordinator._judge cimport (
    JUDGE_STORE,
    JUDGE_UNUSABLE,
    KEEP_NEGATIVE,
    KEEP_OUTSIDE,
    KEEP_POSITIVE,
    judge,
    judge_none,
    judge_rc,
    judge_silence,
    source_t,
)
from fastdns.coordinator._names cimport name_listed
from fastdns.coordinator._prefer cimport prefer_order
from fastdns.coordinator._report cimport report_concurrent, report_failure
from fastdns.coordinator._rewrite cimport rewrite_response
from fastdns.coordinator._rotation cimport rotate_find
from fastdns.coordinator._slow cimport slow_give, slow_message
from fastdns.coordinator._state cimport FLIGHT_AHEAD, FLIGHT_CHECK, NONE, change_t, coordinator_t, flight_t
from fastdns.coordinator._store cimport STORE_KEPT_BETTER, store_put
from fastdns.coordinator._stored cimport stored_hold, stored_usable


cdef void source_of(const coordinator_t *c, const flight_t *flight, source_t *source) noexcept nogil:
    cdef const fd_block_t *block = flight.block
    cdef const uint8_t *qname = flight_qname(c, flight)
    cdef uint32_t qname_len = flight.question.qname_len
    source.block = block
    source.zone = flight.zone
    source.plugin = flight.plugin
    source.marks = 0
    source.told = 0
    if flight.change != NONE:
        source.marks = c.changes[flight.change].marks
        source.told = c.changes[flight.change].told
    if flight.change != NONE and c.changes[flight.change].rewritten:
        # The outermost that had its part: dns64 stands before rewrite.
        source.plugin = FD_PLUGIN_DNS64 if flight.plugin == FD_PLUGIN_DNS64 else FD_PLUGIN_REWRITE
    if source.plugin != FD_PLUGIN_FORWARD:
        source.marks |= FD_ENTRY_CHANGED
    source.keep = KEEP_POSITIVE | KEEP_NEGATIVE
    if block.cached.count and not name_listed(c, &block.cached, qname, qname_len):
        source.keep = KEEP_OUTSIDE
    if block.disabled[0].count and name_listed(c, &block.disabled[0], qname, qname_len):
        source.keep &= ~<uint8_t>KEEP_POSITIVE
    if block.disabled[1].count and name_listed(c, &block.disabled[1], qname, qname_len):
        source.keep &= ~<uint8_t>KEEP_NEGATIVE


cdef inline bint unasked(const flight_t *flight) noexcept nogil:
    # Begun ahead of time and wanted by nobody yet: where it fails it is as if it had not been begun.
    return flight.state & FLIGHT_AHEAD and flight.waiting == 0 and flight.parents == NONE


cdef inline bint silence(uint8_t kind) noexcept nogil:
    return kind == FD_ERROR_TIMEOUT or kind == FD_ERROR_REFUSED or kind == FD_ERROR_NO_UPSTREAM


cdef inline bint others_left(const flight_t *flight) noexcept nogil:
    # `max_connect_attempts` may leave upstreams that were not asked, and whose failure it is not.
    return (flight.forward != NULL and flight.forward.max_attempts
            and flight.forward.max_attempts < flight.forward.upstream_count)


cdef void keep_failure(coordinator_t *c, flight_t *flight, const fd_entry_t *stored, judge_rc verdict,
                       uint16_t ede, uint8_t kind) noexcept nogil:
    # Where something can still be given nobody asks again for a while. Else the failure is remembered as
    # an upstream's SERVFAIL is, so that the next client costs no flight of its own; RFC 9520 s3.2. What is
    # kept of silence ends with it. Our own overload says nothing about the name.
    cdef uint32_t longest_s = 0xffffffff
    if kind == FD_ERROR_BUSY:
        return
    if silence(kind):
        health_await(c, flight)
        c.entry.stale_mark = silence_mark(&c.store.cache, ede)
        if health_just_back(c):
            longest_s = FAILURE_TTL_MIN
    if stored == NULL and verdict == JUDGE_STORE and not others_left(flight):
        c.entry.ttl_s = min(c.entry.ttl_s, longest_s)
        store_put(c.store, c.entry, c.now_ms)
    elif stored != NULL and not flight.question.flags & FD_Q_ALONE:
        stored_hold(c, min(<uint64_t>flight.block.recheck_ms, <uint64_t>longest_s * 1000))


cdef void fail(coordinator_t *c, uint32_t index, uint16_t ede, uint8_t kind) noexcept nogil:
    # Where something can still be given, those who wait get that.
    cdef flight_t *flight = &c.flights[index]
    cdef bint waits = flight.waiting != 0 or flight.parents != NONE
    cdef const fd_entry_t *stored
    cdef source_t source
    cdef judge_rc verdict
    if flight.state & FLIGHT_CHECK:
        health_failed(c, index)
        return
    if unasked(flight):
        end(c, index, NULL)
        return
    source_of(c, flight, &source)
    source.told = 0
    verdict = judge_silence(&source, &flight.question, flight_qname(c, flight), c.now_ms, c.response, c.entry)
    stored = stored_usable(c)
    if kind and waits and flight.plugin != FD_PLUGIN_LOOP:
        report_failure(c, flight, kind)
    if stored == NULL:
        deliver_failure(c, index, ede)
    else:
        deliver_answer(c, index, stored)
    keep_failure(c, flight, stored, verdict, ede, kind)
    end(c, index, stored)


cdef void refuse(coordinator_t *c, uint32_t index) noexcept nogil:
    # Nothing of it is kept: it is our own overload, not the name's failure (RFC 9520 s3.2).
    cdef flight_t *flight = &c.flights[index]
    if unasked(flight):
        end(c, index, NULL)
        return
    bump(c.counters, FD_C_concurrent_full, 1)
    report_concurrent(c, flight)
    judge_none(&flight.question, flight_qname(c, flight), REFUSED, c.now_ms, c.entry)
    c.entry.zone = flight.zone
    deliver_answer(c, index, c.entry)
    end(c, index, c.entry)


cdef void end(coordinator_t *c, uint32_t index, const fd_entry_t *entry) noexcept nogil:
    # The flight goes, and those that waited for its answer get it. Each of them ends itself where it
    # can't go on: no deeper than DEPTH_MAX, which is how far they can have led to one another.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t parent, octets
    while flight.parents != NONE:
        parent = flight.parents
        child_leave(c, parent)
        octets = slow_message(c, &flight.question, flight_qname(c, flight), entry, c.made)
        if octets == 0 or not slow_give(c, parent, c.made, octets):
            bump(c.counters, FD_C_slow_full, 1)
            fail(c, parent, EDE_OTHER, FD_ERROR_BUSY)
            entry = NULL         # c.entry is another one's now
    suspect_cleared(c, flight.question.key_hash)
    inflight_remove(c, index)


cdef void give_back(coordinator_t *c, uint32_t index, const uint8_t *msg) noexcept nogil:
    # A step of the thread wants to see the answer first. What rules of the loop did to the question
    # behind that step is undone before.
    cdef flight_t *flight = &c.flights[index]
    cdef change_t *change = &c.changes[flight.change]
    if (change.rewritten and not change.restored and change.rule_count
            and change.back[change.back_count - 1] < change.rules[0]):
        msg = restore(c, flight, msg)
        if msg == NULL:
            bump(c.counters, FD_C_upstream_malformed, 1)
            fail(c, index, EDE_OTHER, FD_ERROR_PLUGIN)
            return
        change.restored = 1
    while flight.attempts != NONE:
        attempt_remove(c, flight.attempts)
    if not slow_give(c, index, msg, c.response.records_end):
        bump(c.counters, FD_C_slow_full, 1)
        fail(c, index, EDE_OTHER, FD_ERROR_BUSY)


cdef const fd_entry_t *instead(coordinator_t *c, const flight_t *flight) noexcept nogil:
    # A failure, or a negative answer beside a preferred one, meets what can still be given: those who wait
    # get that. Failures beside a usable answer hold for 1 s at most (RFC 9520 s3.2 has that as the least).
    cdef const fd_entry_t *stored = stored_usable(c)
    cdef uint64_t hold_ms = <uint64_t>FAILURE_TTL_MIN * 1000
    if stored == NULL:
        return c.entry
    if c.entry.kind != FD_ENTRY_FAILURE:
        hold_ms = <uint64_t>c.entry.ttl_s * 1000
    stored_hold(c, min(hold_ms, <uint64_t>flight.block.recheck_ms))
    return stored


cdef const uint8_t *restore(coordinator_t *c, const flight_t *flight, const uint8_t *msg) noexcept nogil:
    # The response as one to the client's own question; c.response describes it then. NULL: too long.
    cdef uint32_t rcode = 0
    cdef uint32_t octets = rewrite_response(c, flight, msg, c.response, c.restored, &rcode)
    if octets == 0 or parse_response(c.restored, octets, c.response) != RESPONSE_OK:
        return NULL
    if rcode > FLAG_RCODE:       # its upper bits stood in the OPT
        c.response.rcode = <uint16_t>rcode
        c.response.kind = RESPONSE_FAILURE
    return c.restored


cdef void keep(coordinator_t *c, uint32_t index, judge_rc verdict) noexcept nogil:
    # c.entry is the flight's answer: stored and handed on, or what can still be given in its place.
    cdef const flight_t *flight = &c.flights[index]
    cdef const fd_entry_t *entry = c.entry
    cdef bint worse = entry.kind == FD_ENTRY_FAILURE and not flight.question.flags & FD_Q_ALONE
    if entry.kind == FD_ENTRY_FAILURE and unasked(flight):
        end(c, index, NULL)
        return
    if worse and health_await(c, flight):
        # Those that are silent might have answered it.
        c.entry.stale_mark = silence_mark(&c.store.cache, FD_EDE_NONE)
    if verdict != JUDGE_STORE:
        bump(c.counters, FD_C_not_stored, 1)
    elif store_put(c.store, c.entry, c.now_ms) == STORE_KEPT_BETTER:   # counts what it does
        worse = True
    if worse:
        entry = instead(c, flight)
    deliver_answer(c, index, entry)
    end(c, index, entry)


cdef void conclude_made(coordinator_t *c, uint32_t index) noexcept nogil:
    # An answer that a step made: from here on like an upstream's.
    if parse_response(c.made, c.made_len, c.response) != RESPONSE_OK:
        fail(c, index, EDE_OTHER, FD_ERROR_PLUGIN)
        return
    conclude(c, index, c.made)


cdef bint conclude_since(coordinator_t *c, uint32_t index, const uint8_t *msg, uint32_t octets,
                         uint64_t since_ms) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef source_t source
    cdef judge_rc verdict
    if parse_response(msg, octets, c.response) != RESPONSE_OK:
        return False
    source_of(c, flight, &source)
    verdict = judge(&source, &flight.question, flight_qname(c, flight), msg, c.response, since_ms, c.room,
                    c.entry)
    if verdict == JUDGE_UNUSABLE:
        return False
    keep(c, index, verdict)
    return True


cdef void conclude(coordinator_t *c, uint32_t index, const uint8_t *msg) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef source_t source
    cdef judge_rc verdict
    if flight.change != NONE and c.changes[flight.change].back_count:
        give_back(c, index, msg)
        return
    if flight.change != NONE and c.changes[flight.change].rewritten and not c.changes[flight.change].restored:
        msg = restore(c, flight, msg)
        if msg == NULL:
            bump(c.counters, FD_C_upstream_malformed, 1)
            fail(c, index, EDE_OTHER, FD_ERROR_PLUGIN)
            return
    source_of(c, flight, &source)
    verdict = judge(&source, &flight.question, flight_qname(c, flight), msg, c.response, c.now_ms, c.room,
                    c.entry)
    if verdict == JUDGE_UNUSABLE:
        bump(c.counters, FD_C_upstream_malformed, 1)
        return
    if source.plugin == FD_PLUGIN_FORWARD or source.plugin == FD_PLUGIN_REWRITE:
        bump(c.counters, FD_C_upstream_answers, 1)
    if fd_zone(c.config, flight.zone).flags & FD_ZONE_ROTATE:
        rotate_find(c.entry)
        prefer_order(c.entry, <const fd_network_t *>fd_at(c.config, flight.block.preferred.off),
                     flight.block.preferred.count)
    keep(c, index, verdict)
