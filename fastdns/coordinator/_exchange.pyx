# SPDX-License-Identifier: Apache-2.0
"""The life of a question.

    taken from a ring -- joined to one under way, or
        asked --- response --> judged, stored, handed on
          |  `-- truncated --> the same upstream over TCP
          |  `-- OPT not understood --> the same upstream without it
          |  `-- SERVFAIL and the like --> another upstream, once
          |  `-- nobody there --> another upstream; none left: once more from other ports
          |  `-- TCP connection lost --> a new one, once; then another upstream
          `-- silence --> another port, then another upstream, waiting longer each time
    4 s in all (question_deadline_ms), then failure
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._name cimport get_u16, name_length
from fastdns._proto cimport (
    BADVERS,
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    FLAG_QR,
    FLAG_RCODE,
    FLAG_TC,
    FORMERR,
    HEADER_LEN,
    NOERROR,
    NOTIMP,
    REFUSED,
    SERVFAIL,
    TYPE_HINFO,
)
from fastdns._response cimport RESPONSE_OK, parse_response, response_matches, response_t
from fastdns._shm cimport (
    FD_ERROR_BUSY,
    FD_ERROR_NO_NEXT,
    FD_ERROR_NO_UPSTREAM,
    FD_ERROR_PLUGIN,
    FD_ERROR_REFUSED,
    FD_ERROR_TIMEOUT,
    FD_NO_ZONE,
    FD_PLUGIN_FORWARD,
    FD_PLUGIN_LOOP,
    FD_Q_ALONE,
    FD_Q_CLIENT,
    FD_RECORD_QUESTION,
    FD_ZONE_REFUSED,
    fd_block,
    fd_question_client_off,
    fd_question_client_t,
    fd_question_t,
    fd_record_t,
    fd_zone,
)
from fastdns._stats cimport (
    FD_C_changed_full,
    FD_C_slow_full,
    FD_C_inflight_full,
    FD_C_found_stored,
    FD_C_joined,
    FD_C_quarantined,
    FD_C_questions,
    FD_C_questions_invalid,
    FD_C_upstream_malformed,
    FD_C_upstream_mismatched,
    FD_C_upstream_retries,
    FD_C_upstream_truncated,
    bump,
)
from fastdns._zones cimport zone_find
from fastdns.coordinator._conclude cimport answer_stored, conclude, conclude_made, fail
from fastdns.coordinator._deaths cimport quarantine_refuses
from fastdns.coordinator._delivery cimport deliver_stored, refuse_question
from fastdns.coordinator._hand cimport hand_clear, hand_take
from fastdns.coordinator._inflight cimport (
    attempt_find,
    attempt_remove,
    flight_join,
    flight_qname,
    flight_asked,
    flight_asked_name,
    flight_change,
    inflight_add,
    inflight_find,
)
from fastdns.coordinator._judge cimport judge_none
from fastdns.coordinator._probe cimport probe_next, probe_returned
from fastdns.coordinator._report cimport count_exchange
from fastdns.coordinator._state cimport (
    ASK_NOWHERE,
    ASK_OK,
    CHANNEL_BROKEN,
    FLIGHT_AGAIN,
    FLIGHT_NO_EDNS,
    FLIGHT_ORPHAN,
    FLIGHT_REFUSED,
    FLIGHT_SLOW,
    FLIGHT_TCP,
    FLIGHT_USED,
    NONE,
    TCP_SLOT,
    UPSTREAM_CHANNELS,
    ask_rc,
    change_t,
    coordinator_t,
    flight_t,
    question_t,
)
from fastdns.coordinator._table cimport (
    TABLE_ANSWER,
    TABLE_BAD,
    TABLE_BUSY,
    TABLE_FAIL,
    TABLE_FORWARD,
    TABLE_NO_NEXT,
    TABLE_WAIT,
    table_rc,
    table_walk,
)
from fastdns.coordinator._tcp cimport tcp_ask, tcp_flush
from fastdns.coordinator._timers cimport timers_clear, timers_set
from fastdns.coordinator._udp cimport udp_ask, udp_flush, udp_retire
from fastdns.coordinator._upstream cimport (
    SILENCES,
    TCP_WAIT_MS,
    WAIT_MAX_MS,
    upstream_first,
    upstream_measured,
    upstream_next,
    upstream_silent,
    upstream_wait_ms,
)

cdef extern from "_crash.h" nogil:
    void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len) noexcept
    void fd_debug_hang(const uint8_t *qname, uint32_t qname_len) noexcept

cdef enum:
    SAME_UPSTREAM = 2            # times in a row an upstream is asked before another is; a silent one once


# --- taken ---


cdef bint read_question(const fd_record_t *record, uint32_t octets, question_t *question,
                        uint8_t *qname, uint64_t *ticket, fd_question_client_t *client) noexcept nogil:
    # Copy, then check: the worker could still change its ring's memory.
    cdef fd_question_t raw
    if octets < sizeof(fd_question_t):
        return False
    memcpy(&raw, record, sizeof(fd_question_t))
    if raw.record.kind != FD_RECORD_QUESTION or octets - sizeof(fd_question_t) < raw.qname_len:
        return False
    memcpy(qname, <const uint8_t *>record + sizeof(fd_question_t), raw.qname_len)
    ticket[0] = raw.ticket
    question.key_hash = raw.key_hash
    question.group = raw.group
    question.variant = raw.variant
    question.key_flags = raw.key_flags
    question.qtype = raw.qtype
    question.qclass = raw.qclass
    question.qname_len = raw.qname_len
    question.flags = raw.flags
    if raw.flags & FD_Q_CLIENT:
        if octets < fd_question_client_off(raw.qname_len) + sizeof(fd_question_client_t):
            return False
        memcpy(client, <const uint8_t *>record + fd_question_client_off(raw.qname_len),
               sizeof(fd_question_client_t))
        question.flags |= FD_Q_ALONE
    return raw.qname_len != 0 and name_length(qname, raw.qname_len) == raw.qname_len


cdef void exchange_question(coordinator_t *c, uint32_t worker, const fd_record_t *record,
                            uint32_t octets) noexcept nogil:
    cdef question_t question
    cdef uint8_t[256] qname
    cdef fd_question_client_t client
    cdef uint64_t ticket = 0
    if not read_question(record, octets, &question, qname, &ticket, &client):
        bump(c.counters, FD_C_questions_invalid, 1)
        return
    bump(c.counters, FD_C_questions, 1)
    if quarantine_refuses(c, question.key_hash):
        bump(c.counters, FD_C_quarantined, 1)
        refuse_question(c, worker, ticket, EDE_OTHER)
        return
    hand_take(&c.post.in_hand, question.key_hash, qname, question.qname_len)
    fd_debug_crash("crash", qname, question.qname_len)
    fd_debug_hang(qname, question.qname_len)
    start(c, worker, &question, qname, ticket, &client)
    hand_clear(&c.post.in_hand)


cdef void start(coordinator_t *c, uint32_t worker, const question_t *question, const uint8_t *qname,
                uint64_t ticket, const fd_question_client_t *client) noexcept nogil:
    cdef uint32_t index = NONE
    cdef uint32_t zone
    cdef flight_t *flight
    if question.qtype == TYPE_HINFO and c.probe_count and probe_returned(c, question, qname):
        refuse_question(c, worker, ticket, EDE_OTHER)
        return
    if not question.flags & FD_Q_ALONE:
        index = inflight_find(c, question, qname)
    if index != NONE:
        if not flight_join(c, index, worker, ticket):
            bump(c.counters, FD_C_joined, 1)
        return
    zone = zone_find(c.config, question.group, qname, question.qname_len, question.qtype)
    if zone == FD_NO_ZONE or fd_zone(c.config, zone).flags & FD_ZONE_REFUSED:
        # Workers refuse these by themselves; one that is a configuration behind us may ask.
        judge_none(question, qname, REFUSED, c.now_ms, c.entry)
        deliver_stored(c, worker, ticket, c.entry)
        return
    if not question.flags & FD_Q_ALONE and answer_stored(c, worker, question, qname, ticket, zone):
        bump(c.counters, FD_C_found_stored, 1)
        return
    index = inflight_add(c, question, qname)
    if index == NONE:
        bump(c.counters, FD_C_inflight_full, 1)
        refuse_question(c, worker, ticket, EDE_OTHER)
        return
    flight_join(c, index, worker, ticket)
    flight = &c.flights[index]
    flight.deadline_ms = c.now_ms + c.config.question_deadline_ms
    flight.zone = <uint16_t>zone
    flight.block = fd_block(c.config, fd_zone(c.config, zone).block)
    flight.plugin = FD_PLUGIN_FORWARD
    if question.flags & FD_Q_CLIENT and not keep_client(c, flight, client):
        bump(c.counters, FD_C_changed_full, 1)
        fail(c, index, EDE_OTHER, FD_ERROR_BUSY)
        return
    go_on(c, index)


cdef bint keep_client(coordinator_t *c, flight_t *flight, const fd_question_client_t *client) noexcept nogil:
    cdef change_t *change = flight_change(c, flight)
    if change == NULL:
        return False
    change.client = client[0]
    change.has_client = 1
    return True


cdef void walk_failed(coordinator_t *c, uint32_t index, table_rc rc) noexcept nogil:
    if rc == TABLE_NO_NEXT:
        fail(c, index, EDE_NO_REACHABLE_AUTHORITY, FD_ERROR_NO_NEXT)
    elif rc == TABLE_FAIL:
        fail(c, index, EDE_OTHER, 0)
    elif rc == TABLE_BAD:
        fail(c, index, EDE_OTHER, FD_ERROR_PLUGIN)
    else:
        bump(c.counters, FD_C_slow_full if rc == TABLE_BUSY else FD_C_changed_full, 1)
        fail(c, index, EDE_OTHER, FD_ERROR_BUSY)


cdef inline uint32_t barred(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    # Upstreams that send this block's questions back here; bits as in flight.refused.
    return 0 if flight.plugin == FD_PLUGIN_LOOP else c.looping[flight.block.number]


cdef void go_on(coordinator_t *c, uint32_t index) noexcept nogil:
    # The steps of its block, as far as one that takes the question.
    cdef flight_t *flight = &c.flights[index]
    cdef table_rc rc = table_walk(c, index)
    cdef uint32_t upstream
    if rc == TABLE_ANSWER:
        conclude_made(c, index)
        return
    if rc == TABLE_WAIT:
        timers_set(&c.timers, index, flight.deadline_ms)
        return
    if rc != TABLE_FORWARD:
        walk_failed(c, index, rc)
        return
    flight.refused = barred(c, flight)
    upstream = upstream_first(c, flight)
    if upstream == NONE:
        fail(c, index, EDE_NO_REACHABLE_AUTHORITY, FD_ERROR_NO_UPSTREAM)
        return
    flight.upstream = <uint8_t>upstream
    flight.wait_ms = 0
    ask(c, index)


# --- asked ---


cdef inline bint over_tcp(const coordinator_t *c, const flight_t *flight) noexcept nogil:
    return c.upstreams[flight.upstream].config.force_tcp or flight.state & FLIGHT_TCP


cdef void ask(coordinator_t *c, uint32_t index) noexcept nogil:
    # Put the flight's question to its upstream, or to the next one to which there is a way, and set
    # its timer. What could not be put now (no socket, a full buffer) is tried again after the
    # shortest silence. The flight may be gone afterwards: no upstream could be reached.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t wait_ms = c.config.retry_floor_ms
    cdef uint32_t other
    cdef ask_rc rc
    while True:
        rc = tcp_ask(c, index) if over_tcp(c, flight) else udp_ask(c, index)
        if rc != ASK_NOWHERE:
            break
        upstream_silent(&c.upstreams[flight.upstream], SILENCES)
        flight.refused |= <uint32_t>1 << flight.upstream
        other = upstream_next(c, flight)
        if other == NONE:
            fail(c, index, EDE_NETWORK_ERROR, FD_ERROR_REFUSED)
            return
        turn_to(c, index, other)
    if rc == ASK_OK and over_tcp(c, flight):
        wait_ms = TCP_WAIT_MS
    elif rc == ASK_OK:
        wait_ms = upstream_wait_ms(&c.upstreams[flight.upstream], c.config.retry_floor_ms)
    flight.wait_ms = min(max(wait_ms, 2 * flight.wait_ms), <uint32_t>WAIT_MAX_MS)
    timers_set(&c.timers, index, min(c.now_ms + flight.wait_ms, flight.deadline_ms))


cdef void ask_at_once(coordinator_t *c, uint32_t index) noexcept nogil:
    # Not after silence: the waiting begins anew.
    c.flights[index].wait_ms = 0
    ask(c, index)


cdef void turn_to(coordinator_t *c, uint32_t index, uint32_t upstream) noexcept nogil:
    # Another upstream may answer over UDP, and may know EDNS.
    cdef flight_t *flight = &c.flights[index]
    flight.upstream = <uint8_t>upstream
    flight.tries = 0
    flight.state &= ~<uint8_t>(FLIGHT_TCP | FLIGHT_NO_EDNS)


cdef void hand_take_flight(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    hand_take(&c.post.in_hand, flight.question.key_hash, flight_qname(c, flight), flight.question.qname_len)


cdef void exchange_silence(coordinator_t *c, uint32_t index) noexcept nogil:
    hand_take_flight(c, index)
    fd_debug_crash("late", flight_qname(c, &c.flights[index]), c.flights[index].question.qname_len)
    ask_again(c, index)
    hand_clear(&c.post.in_hand)


cdef void ask_again(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t next_upstream
    if c.now_ms >= flight.deadline_ms:
        if flight.state & FLIGHT_SLOW:
            fail(c, index, EDE_OTHER, FD_ERROR_BUSY)
        else:
            fail(c, index, EDE_NO_REACHABLE_AUTHORITY, FD_ERROR_TIMEOUT)
        return
    flight.tries += 1
    upstream_silent(&c.upstreams[flight.upstream], 1)
    if over_tcp(c, flight):
        # The connection itself sees to what is lost; tcp_tend ends it if it is dead.
        next_upstream = upstream_next(c, flight)
        if next_upstream == flight.upstream and flight.attempts != NONE:
            timers_set(&c.timers, index, min(c.now_ms + flight.wait_ms, flight.deadline_ms))
            return
    elif flight.tries < SAME_UPSTREAM and c.upstreams[flight.upstream].silences < SILENCES:
        next_upstream = flight.upstream
    else:
        next_upstream = upstream_next(c, flight)
    if next_upstream == NONE:
        next_upstream = flight.upstream
    if next_upstream != flight.upstream:
        turn_to(c, index, next_upstream)
    bump(c.counters, FD_C_upstream_retries, 1)
    ask(c, index)


# --- answered ---


cdef inline uint32_t channel_upstream(uint32_t channel) noexcept nogil:
    return channel // UPSTREAM_CHANNELS


cdef inline bint channel_is_tcp(uint32_t channel) noexcept nogil:
    return channel % UPSTREAM_CHANNELS == TCP_SLOT


cdef bint edns_refused(const flight_t *flight, const uint8_t *msg, uint32_t octets) noexcept nogil:
    # FORMERR from a server that doesn't know OPT may come as a bare header (RFC 6891 s7): too
    # little to be held against the question, and enough to ask once more without.
    return (octets == HEADER_LEN and not flight.state & FLIGHT_NO_EDNS and get_u16(msg + 4) == 0
            and get_u16(msg + 2) & FLAG_QR
            and (get_u16(msg + 2) & FLAG_RCODE == FORMERR or get_u16(msg + 2) & FLAG_RCODE == NOTIMP))


cdef void exchange_response(coordinator_t *c, uint32_t channel, const uint8_t *msg, uint32_t octets,
                            bint cut) noexcept nogil:
    cdef uint32_t attempt = NONE
    cdef uint32_t index
    cdef uint16_t id
    cdef flight_t *flight
    if octets >= HEADER_LEN:
        memcpy(&id, msg, 2)
        attempt = attempt_find(c, channel, id)
    if attempt == NONE:
        bump(c.counters, FD_C_upstream_mismatched, 1)
        return
    index = c.attempts[attempt].flight
    flight = &c.flights[index]
    hand_take_flight(c, index)
    fd_debug_crash("response", flight_qname(c, flight), flight.question.qname_len)
    if edns_refused(flight, msg, octets):
        without_edns(c, index, attempt)
    elif not response_matches(msg, octets, flight_asked_name(c, flight), flight_asked(c, flight).qname_len,
                              flight_asked(c, flight).qtype, flight_asked(c, flight).qclass):
        bump(c.counters, FD_C_upstream_mismatched, 1)
        bump(&c.post.block_series[flight.block.number].drops, 0, 1)
    elif not cut and parse_response(msg, octets, c.response) != RESPONSE_OK:
        bump(c.counters, FD_C_upstream_malformed, 1)
    else:
        answered(c, index, attempt, msg, cut)
    hand_clear(&c.post.in_hand)


cdef void answered(coordinator_t *c, uint32_t index, uint32_t attempt, const uint8_t *msg,
                   bint cut) noexcept nogil:
    # The answer to one attempt, well-formed unless it was cut. Decide whether it is the flight's.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t channel = c.attempts[attempt].channel
    cdef uint32_t upstream = channel_upstream(channel)
    cdef bint tcp = channel_is_tcp(channel)
    cdef uint32_t time_us = <uint32_t>c.now_us - c.attempts[attempt].sent_us
    c.upstreams[upstream].silences = 0
    count_exchange(c, upstream, time_us, NOERROR if cut else c.response.rcode)
    if not tcp:
        upstream_measured(&c.upstreams[upstream], time_us)
    if not tcp and (cut or c.response.flags & FLAG_TC):
        bump(c.counters, FD_C_upstream_truncated, 1)
        forget_attempts(c, flight, upstream)
        if flight.upstream != upstream:
            turn_to(c, index, upstream)
        flight.state |= FLIGHT_TCP
        ask_at_once(c, index)
        return
    if refuses(c.response):
        if (c.response.opt_off == 0 and c.response.rcode != SERVFAIL and c.response.rcode != REFUSED
                and not flight.state & FLIGHT_NO_EDNS):
            without_edns(c, index, attempt)
            return
        if another_asked(c, index, attempt):
            return
    conclude(c, index, msg)


cdef inline bint refuses(const response_t *response) noexcept nogil:
    # Says more of the upstream than of the name: another may know better.
    return (response.rcode == SERVFAIL or response.rcode == REFUSED or response.rcode == FORMERR
            or response.rcode == NOTIMP or response.rcode == BADVERS)


cdef void forget_attempts(coordinator_t *c, flight_t *flight, uint32_t upstream) noexcept nogil:
    # What this upstream said once it will say again to the attempts that repeated the question.
    cdef uint32_t attempt = flight.attempts
    cdef uint32_t sibling
    while attempt != NONE:
        sibling = c.attempts[attempt].sibling
        if channel_upstream(c.attempts[attempt].channel) == upstream:
            attempt_remove(c, attempt)
        attempt = sibling


cdef void without_edns(coordinator_t *c, uint32_t index, uint32_t attempt) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t upstream = channel_upstream(c.attempts[attempt].channel)
    forget_attempts(c, flight, upstream)
    if flight.upstream != upstream:
        turn_to(c, index, upstream)
    flight.state |= FLIGHT_NO_EDNS
    ask_at_once(c, index)


cdef bint another_asked(coordinator_t *c, uint32_t index, uint32_t attempt) noexcept nogil:
    # Whether the question goes on at another upstream, or is under way there.
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t upstream = channel_upstream(c.attempts[attempt].channel)
    cdef uint32_t other
    if flight.state & FLIGHT_REFUSED:
        return False
    if flight.upstream != upstream:
        other = flight.upstream
    else:
        other = upstream_next(c, flight)
    if other == upstream or other == NONE:
        return False
    flight.state |= FLIGHT_REFUSED
    forget_attempts(c, flight, upstream)
    if flight.upstream != other:
        turn_to(c, index, other)
        ask_at_once(c, index)
    return True


cdef void exchange_resume(coordinator_t *c, uint32_t index) noexcept nogil:
    c.flights[index].state &= ~<uint8_t>FLIGHT_SLOW
    timers_clear(&c.timers, index)
    hand_take_flight(c, index)
    go_on(c, index)
    hand_clear(&c.post.in_hand)


cdef void exchange_made(coordinator_t *c, uint32_t index) noexcept nogil:
    c.flights[index].state &= ~<uint8_t>FLIGHT_SLOW
    hand_take_flight(c, index)
    conclude_made(c, index)
    hand_clear(&c.post.in_hand)


# --- channels that failed ---


cdef uint32_t collect_orphans(coordinator_t *c, uint32_t channel) noexcept nogil:
    # Take all attempts off the channel; returns how many flights had one there.
    cdef uint32_t count = 0
    cdef uint32_t index
    while c.channels[channel].attempts != NONE:
        index = c.attempts[c.channels[channel].attempts].flight
        attempt_remove(c, c.channels[channel].attempts)
        if not c.flights[index].state & FLIGHT_ORPHAN:
            c.flights[index].state |= FLIGHT_ORPHAN
            c.orphans[count] = <uint16_t>index
            count += 1
    return count


cdef void rehome(coordinator_t *c, uint32_t index, uint32_t upstream, bint broken) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef uint32_t other = upstream
    if not broken or flight.state & FLIGHT_AGAIN:
        flight.refused |= <uint32_t>1 << upstream
    if flight.upstream != upstream:
        return                   # it is under way elsewhere already
    if flight.refused >> upstream & 1:
        other = upstream_next(c, flight)
    if other == NONE and flight.state & FLIGHT_AGAIN:
        fail(c, index, EDE_NETWORK_ERROR, FD_ERROR_REFUSED)
        return
    if other == NONE:
        # Another port may find somebody there (udp_retire says why): all upstreams once more.
        flight.refused = barred(c, flight)
        other = upstream
    if other == upstream:
        flight.state |= FLIGHT_AGAIN
    else:
        turn_to(c, index, other)
    ask_at_once(c, index)


cdef void channel_failed(coordinator_t *c, uint32_t channel) noexcept nogil:
    cdef bint broken = c.channels[channel].failed == CHANNEL_BROKEN
    cdef uint32_t count = collect_orphans(c, channel)
    cdef uint32_t i
    c.channels[channel].failed = 0
    if not channel_is_tcp(channel):
        udp_retire(c, channel)
    if not broken:
        upstream_silent(&c.upstreams[channel_upstream(channel)], SILENCES)
    for i in range(count):
        c.flights[c.orphans[i]].state &= ~<uint8_t>FLIGHT_ORPHAN
        if c.flights[c.orphans[i]].state & FLIGHT_USED:
            hand_take_flight(c, c.orphans[i])
            rehome(c, c.orphans[i], channel_upstream(channel), broken)
            hand_clear(&c.post.in_hand)


cdef void exchange_probe(coordinator_t *c) noexcept nogil:
    cdef uint32_t index
    while True:                  # each probe is due once
        index = probe_next(c)
        if index == NONE:
            return
        hand_take_flight(c, index)
        ask(c, index)
        hand_clear(&c.post.in_hand)


cdef void exchange_settle(coordinator_t *c) noexcept nogil:
    cdef uint32_t channel, _turn
    udp_flush(c)
    tcp_flush(c)
    # Each turn moves every orphan on, through the upstreams twice at most.
    for _turn in range(2 * c.upstream_count + 2):
        if not c.channel_failed:
            return
        c.channel_failed = 0
        for channel in range(c.upstream_count * UPSTREAM_CHANNELS):
            if c.channels[channel].failed:
                channel_failed(c, channel)
        udp_flush(c)
        tcp_flush(c)
