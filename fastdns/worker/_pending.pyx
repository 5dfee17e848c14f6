# SPDX-License-Identifier: Apache-2.0
"""Questions that wait for the coordinator, and the clients chained to each. SHM_LAYOUT

The region holds facts: which question stands in a slot, which client waits for which slot. What
links them is private (_links.pxd).

Clients stand in one queue in order of arrival; as all have the same patience, the queue is in
order of deadlines by itself. A client place is free for ever once its question's use count moved.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastdns._answer cimport compose_error, compose_reply
from fastdns._cache cimport (
    CACHE_HIT,
    CACHE_MISS,
    answer_view,
    cache_lookup,
    entry_age_s,
    entry_stale,
    entry_view,
)
from fastdns._name cimport get_u16, put_u16
from fastdns._proto cimport (
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    FLAG_RD,
    HEADER_LEN,
    MESSAGE_MAX,
    SERVFAIL,
    STALE_REPLY_TTL,
)
from fastdns._shm cimport (
    FD_CLIENT_TCP,
    FD_CLIENT_UDP,
    FD_EDNS_PRESENT,
    FD_PENDING_FREE,
    FD_PENDING_UNSENT,
    FD_Q_ALONE,
    FD_Q_CLIENT,
    FD_Q_RD,
    FD_RECORD_ANSWER,
    FD_RECORD_FAILURE,
    FD_ZONE_CLIENT,
    FD_ZONE_LOG,
    fd_answer_t,
    fd_block,
    fd_client_t,
    fd_entry_t,
    fd_load32,
    fd_load64,
    fd_must_wake,
    fd_pending_t,
    fd_query_t,
    fd_record_t,
    fd_release32,
    fd_store32,
    fd_zone_t,
    sockaddr_in,
    sockaddr_in6,
)
from fastdns._stats cimport (
    FD_C_answers,
    FD_C_answers_unmatched,
    FD_C_clients_full,
    FD_C_deadline_expired,
    FD_C_joined_local,
    FD_C_pending_full,
    FD_C_question_ring_full,
    FD_C_repeated,
    FD_C_servfail,
    FD_C_truncated,
    bump,
)
from fastdns._sys cimport AF_INET, ring_eventfd
from fastdns._zones cimport zone_at
from fastdns.worker._ask cimport fill_pending, put_question
from fastdns.worker._count cimport count_late, count_stale, entry_rcode, next_spin, tell, zone_of_entry
from fastdns.worker._hand cimport hand_clear, hand_take_key
from fastdns.worker._links cimport (
    ANSWERED_MAX,
    NONE,
    client_head,
    free_client,
    free_question,
    leave_stale,
    link_client,
    link_question,
    next_client,
    pending_table_t,
    queue_stale,
    queue_unsent,
    question_head,
    question_link_t,
    take_client,
    take_question,
)
from fastdns.worker._querylog cimport asker_t, log_query, replied_t
from fastdns.worker._send cimport late_flush, late_push, late_room, received_local
from fastdns.worker._state cimport origin_t, worker_t
from fastdns.worker._tcp cimport tcp_peer, tcp_reply, tcp_waits

cdef extern from "_crash.h" nogil:
    void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len) noexcept

cdef enum:
    REPEAT_WALK = 16             # steps along a chain in search of a repeated query
    TICK_MAX_MS = 100            # nobody sleeps longer
    UNSENT_WAIT_MS = 2           # the coordinator does not say that its ring has room again


# ------------------------------------------------------------------------------ joining ----

cdef bint same_question(const fd_pending_t *question, const fd_query_t *query) noexcept nogil:
    return (question.key_hash == query.key_hash and question.group == query.group
            and question.variant == query.variant and question.key_flags == query.key_flags
            and question.qtype == query.qtype and question.qclass == query.qclass
            and question.qname_len == query.qname_len
            and memcmp(question.qname, query.qname, query.qname_len) == 0)


cdef uint16_t find_question(const pending_table_t *table, const fd_query_t *query) noexcept nogil:
    cdef uint16_t slot = table.question_heads[question_head(query.key_hash)]
    while slot != NONE:
        if (same_question(&table.questions[slot], query)
                and not (table.questions[slot].flags & FD_Q_ALONE)):
            return slot
        slot = table.question_links[slot].next_hash
    return NONE


cdef uint16_t new_question(pending_table_t *table, const fd_query_t *query, const fd_zone_t *zone,
                           uint16_t stale_ms, uint64_t now_ms) noexcept nogil:
    cdef uint16_t slot = take_question(table)
    cdef fd_pending_t *question
    if slot == NONE:
        return NONE
    question = &table.questions[slot]
    fill_pending(question, query)
    question.asked_ms = now_ms
    question.stale_ms = stale_ms
    question.flags = FD_Q_RD if query.flags & FLAG_RD else FD_Q_ALONE
    if zone.flags & FD_ZONE_CLIENT:
        question.flags |= FD_Q_ALONE | FD_Q_CLIENT
    fd_release32(&question.state, FD_PENDING_UNSENT)
    link_question(table, slot)
    if stale_ms:
        queue_stale(table, slot)
    return slot


# Which octets of the name came in upper case, so that the question can be given back as it came.
cdef void write_case(fd_client_t *client, const uint8_t *question, uint32_t qname_len) noexcept nogil:
    cdef uint32_t i
    memset(client.case_bits, 0, sizeof(client.case_bits))
    for i in range(qname_len):
        if 0x41 <= question[i] <= 0x5a:    # length octets are 63 at most
            client.case_bits[i >> 3] |= <uint8_t>(1 << (i & 7))


cdef void write_client(worker_t *worker, fd_client_t *client, const fd_query_t *query,
                       const uint8_t *question, const origin_t *origin, const fd_zone_t *zone,
                       uint16_t zone_number) noexcept nogil:
    memset(&client.peer, 0, sizeof(sockaddr_in6))
    if origin.state == FD_CLIENT_TCP:
        if zone.flags & (FD_ZONE_LOG | FD_ZONE_CLIENT):    # nobody else wants to know
            tcp_peer(worker, origin.connection, origin.connection_use, &client.peer, &client.local)
    else:
        if (<const sockaddr_in *>origin.peer).sin_family == AF_INET:
            memcpy(&client.peer, origin.peer, sizeof(sockaddr_in))
        else:
            memcpy(&client.peer, origin.peer, sizeof(sockaddr_in6))
        received_local(origin.control, origin.control_len, &client.local)
    client.connection = origin.connection
    client.connection_use = origin.connection_use
    client.arrived_us = worker.now_us
    client.zone = zone_number
    client.request_size = origin.request_size
    client.id = query.id
    client.flags = query.flags
    client.udp_size = query.udp_size
    client.listener = origin.listener
    client.edns = query.edns
    write_case(client, question, query.qname_len)


# Whether this very client waits for this very question already.
cdef bint repeats(const pending_table_t *table, const fd_client_t *client, uint16_t slot,
                  uint32_t state) noexcept nogil:
    cdef uint16_t at = table.client_heads[client_head(client)]
    cdef uint32_t steps = 0
    cdef const fd_client_t *other
    while at != NONE and steps < REPEAT_WALK:
        other = &table.clients[at]
        if (other.pending == slot and other.state == state and other.id == client.id
                and other.listener == client.listener
                and memcmp(&other.peer, &client.peer, sizeof(sockaddr_in6)) == 0):
            return True
        at = table.client_links[at].next_hash
        steps += 1
    return False


cdef join_rc pending_join(worker_t *worker, const fd_query_t *query, const uint8_t *question,
                          const origin_t *origin, const fd_zone_t *zone, uint16_t zone_number,
                          uint16_t stale_ms) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint16_t place = next_client(table)
    cdef uint16_t slot = NONE
    cdef bint asked = True
    cdef fd_client_t *client
    if place == NONE:
        bump(worker.counters, FD_C_clients_full, 1)
        return JOIN_CLIENTS_FULL
    client = &table.clients[place]
    write_client(worker, client, query, question, origin, zone, zone_number)
    if query.flags & FLAG_RD and not zone.flags & FD_ZONE_CLIENT:     # RD=0 is asked as it is, not joined
        slot = find_question(table, query)
    if slot != NONE:
        if origin.state == FD_CLIENT_UDP and repeats(table, client, slot, FD_CLIENT_UDP):
            bump(worker.counters, FD_C_repeated, 1)
            return JOIN_WAITS
        bump(worker.counters, FD_C_joined_local, 1)
    else:
        slot = new_question(table, query, zone, stale_ms, worker.now_ms)
        if slot == NONE:
            bump(worker.counters, FD_C_pending_full, 1)
            return JOIN_PENDING_FULL
        asked = False
    take_client(table, place)
    client.pending = slot
    client.use = table.questions[slot].use
    fd_release32(&client.state, origin.state)
    link_client(table, place, slot)
    if not asked and not put_question(worker, slot):
        bump(worker.counters, FD_C_question_ring_full, 1)
        queue_unsent(table, slot)
    if origin.state == FD_CLIENT_TCP:
        tcp_waits(worker, origin.connection, origin.connection_use)
    return JOIN_WAITS


# ---------------------------------------------------------------------------- answering ----

cdef void query_of(const fd_client_t *client, const fd_pending_t *question, fd_query_t *query) noexcept nogil:
    query.key_hash = question.key_hash
    query.id = client.id
    query.flags = client.flags
    query.qtype = question.qtype
    query.qclass = question.qclass
    query.udp_size = client.udp_size
    query.group = question.group
    query.variant = question.variant
    query.key_flags = question.key_flags
    query.edns = client.edns
    query.qname_len = question.qname_len


# The question section as the client sent it, at `out`.
cdef void write_question(const fd_client_t *client, const fd_pending_t *question, uint8_t *out) noexcept nogil:
    cdef uint32_t i
    for i in range(question.qname_len):
        out[i] = question.qname[i]
        if client.case_bits[i >> 3] & (1 << (i & 7)):
            out[i] = question.qname[i] & 0xdf
    put_u16(out + question.qname_len, question.qtype)
    put_u16(out + question.qname_len + 2, question.qclass)


# Count and, where the zone has `log`, write down a reply that is on its way.
cdef void note_reply(worker_t *worker, const fd_client_t *client, const fd_query_t *query,
                     const answer_view *view, const uint8_t *reply) noexcept nogil:
    cdef const fd_zone_t *zone = zone_at(worker.config, client.zone)
    cdef const fd_entry_t *entry = view.entry if view != NULL else NULL
    cdef uint32_t rcode = entry_rcode(entry) if entry != NULL else <uint32_t>SERVFAIL
    cdef bint tcp = client.state == FD_CLIENT_TCP
    cdef asker_t asker
    cdef replied_t replied
    count_late(worker, zone, client.zone, client.listener, tcp, entry, rcode, worker.now_us - client.arrived_us)
    if entry != NULL and entry_stale(entry, entry_age_s(entry, worker.now_ms)):
        count_stale(worker, zone, client.zone, client.listener)
    if zone == NULL or not zone.flags & FD_ZONE_LOG:
        return
    asker.peer = &client.peer
    asker.local = &client.local
    asker.arrived_us = client.arrived_us
    asker.zone = client.zone
    asker.request_size = client.request_size
    asker.listener = client.listener
    asker.tcp = tcp
    replied.flags = get_u16(reply + 2) if entry != NULL else 0
    replied.rcode = <uint16_t>rcode
    replied.size = entry.plain_len if entry != NULL else 0
    replied.entry_kind = entry.kind if entry != NULL else 0
    replied.edns_max = zone.edns_max
    log_query(worker, &asker, query, reply + HEADER_LEN, &replied)


# Octets that a client's reply may have.
cdef uint32_t reply_limit(const worker_t *worker, const fd_client_t *client) noexcept nogil:
    cdef uint32_t limit = client.udp_size
    cdef const fd_zone_t *zone
    if client.state == FD_CLIENT_TCP:
        return limit
    zone = zone_at(worker.config, client.zone)
    if zone != NULL and zone.edns_max and client.edns & FD_EDNS_PRESENT:
        limit = min(limit, <uint32_t>zone.edns_max)
    return min(limit, worker.config.edns_max)


# What a stale answer's records get as TTL, s.
cdef uint32_t stale_ttl(const worker_t *worker, uint32_t zone_number) noexcept nogil:
    cdef const fd_zone_t *zone = zone_at(worker.config, zone_number)
    return STALE_REPLY_TTL if zone == NULL else fd_block(worker.config, zone.block).stale_ttl_s


# Reply to one waiting client, from an answer (view) or with SERVFAIL (view NULL).
cdef void reply_to(worker_t *worker, const fd_client_t *client, const fd_pending_t *question,
                   answer_view *view, uint16_t ede) noexcept nogil:
    cdef fd_query_t query
    cdef uint8_t *out = worker.reply + 2
    cdef uint32_t reply_len
    query_of(client, question, &query)
    if client.state == FD_CLIENT_UDP:
        out = late_room(worker, client.listener)
    write_question(client, question, out + HEADER_LEN)
    if view != NULL:
        view.spin = next_spin(worker)
        view.stale_ttl_s = stale_ttl(worker, client.zone)
        fd_debug_crash("reply", question.qname, question.qname_len)
        reply_len = compose_reply(view, &query, out, reply_limit(worker, client), worker.now_ms)
    else:
        reply_len = compose_error(&query, SERVFAIL, ede, out)
        bump(worker.counters, FD_C_servfail, 1)
    if out[2] & 0x02:                      # TC
        bump(worker.counters, FD_C_truncated, 1)
    note_reply(worker, client, &query, view, out)
    if client.state == FD_CLIENT_UDP:
        late_push(worker, &client.peer, &client.local, reply_len)
    else:
        tcp_reply(worker, client.connection, client.connection_use, worker.reply, reply_len)


# The replies of many questions leave with one sendmmsg. Places are freed after that
# (pending_settle), so a death in between repeats some replies and loses none.
cdef void answer_chain(worker_t *worker, uint16_t slot, answer_view *view, uint16_t ede) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef fd_pending_t *question = &table.questions[slot]
    cdef uint16_t place = table.question_links[slot].first
    if view != NULL:
        tell(worker, view)
    while place != NONE:
        reply_to(worker, &table.clients[place], question, view, ede)
        place = table.client_links[place].next
    table.question_links[slot].answered = 1
    table.answered[table.answered_count] = slot
    table.answered_count += 1
    if table.answered_count == ANSWERED_MAX:
        pending_settle(worker)


cdef void pending_settle(worker_t *worker) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint32_t i
    cdef uint16_t slot
    late_flush(worker)
    for i in range(table.answered_count):
        slot = table.answered[i]
        while table.question_links[slot].first != NONE:
            free_client(table, table.question_links[slot].first)
        free_question(table, slot)
    table.answered_count = 0


cdef bint answers_question(const fd_pending_t *question, const answer_view *view) noexcept nogil:
    cdef const fd_entry_t *entry = view.entry
    return (entry.key_hash == question.key_hash and entry.group == question.group
            and entry.variant == question.variant and entry.key_flags == question.key_flags
            and entry.qtype == question.qtype and entry.qclass == question.qclass
            and entry.qname_len == question.qname_len
            and memcmp(view.qname, question.qname, question.qname_len) == 0)


# The question that a record answers, or NONE: it is nobody's.
cdef uint16_t answered_by(const pending_table_t *table, const fd_record_t *record) noexcept nogil:
    cdef const fd_answer_t *answer = <const fd_answer_t *>record
    cdef uint32_t slot
    if record.len < sizeof(fd_answer_t):
        return NONE
    slot = <uint32_t>answer.ticket
    if (slot >= table.question_count or table.questions[slot].state == FD_PENDING_FREE
            or table.questions[slot].use != <uint32_t>(answer.ticket >> 32)
            or table.question_links[slot].answered):
        return NONE
    return <uint16_t>slot


cdef void pending_answer(worker_t *worker, const fd_record_t *record) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint16_t slot = answered_by(table, record)
    cdef answer_view view
    bump(worker.counters, FD_C_answers, 1)
    if slot == NONE:
        bump(worker.counters, FD_C_answers_unmatched, 1)
        return
    if not hand_take_key(worker, table.questions[slot].key_hash):
        answer_chain(worker, slot, NULL, EDE_OTHER)
    elif record.kind == FD_RECORD_FAILURE:
        if table.questions[slot].stale_ms and find_stale(worker, &table.questions[slot], &view):
            answer_chain(worker, slot, &view, 0)
        else:
            answer_chain(worker, slot, NULL, record.ede)
    elif (record.kind == FD_RECORD_ANSWER
            and entry_view(<const uint8_t *>record + sizeof(fd_answer_t),
                           record.len - <uint32_t>sizeof(fd_answer_t), &view)
            and answers_question(&table.questions[slot], &view)):
        answer_chain(worker, slot, &view, 0)
    else:
        bump(worker.counters, FD_C_answers_unmatched, 1)
    hand_clear(worker)


# ------------------------------------------------------------------------------- upkeep ----

cdef void put_unsent(worker_t *worker) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint16_t slot = table.first_unsent
    cdef question_link_t *link
    while slot != NONE:
        link = &table.question_links[slot]
        if table.questions[slot].state != FD_PENDING_FREE and not put_question(worker, slot):
            break
        table.first_unsent = link.next_unsent
        if table.first_unsent == NONE:
            table.last_unsent = NONE
        link.unsent = 0
        if table.questions[slot].state == FD_PENDING_FREE:
            link.next_hash = table.free_question
            table.free_question = slot
        slot = table.first_unsent


# After a new coordinator's start or an answer lost to a full ring: what is in the cache by now is
# answered, the rest put again.
cdef void look_again(worker_t *worker) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint32_t slot
    cdef fd_query_t query
    cdef answer_view view
    cdef uint32_t cache_slot
    for slot in range(table.fresh_question):
        if table.questions[slot].state == FD_PENDING_FREE or table.question_links[slot].unsent:
            continue
        if (not table.questions[slot].flags & FD_Q_ALONE
                and hand_take_key(worker, table.questions[slot].key_hash)):
            key_of(&table.questions[slot], &query)
            worker.cache.spin = 0
            if (cache_lookup(&worker.cache, &query, worker.now_ms, MESSAGE_MAX, worker.scratch, &view,
                             &cache_slot, worker.counters) == CACHE_HIT
                    and zone_of_entry(worker, view.entry) != NULL):
                answer_chain(worker, <uint16_t>slot, &view, 0)
                continue
        table.questions[slot].state = FD_PENDING_UNSENT
        queue_unsent(table, <uint16_t>slot)
    hand_clear(worker)
    pending_settle(worker)


cdef void key_of(const fd_pending_t *question, fd_query_t *query) noexcept nogil:
    query.key_hash = question.key_hash
    query.group = question.group
    query.variant = question.variant
    query.key_flags = question.key_flags
    query.qtype = question.qtype
    query.qclass = question.qclass
    query.qname_len = question.qname_len
    memset(query.qname, 0, sizeof(query.qname))
    memcpy(query.qname, question.qname, question.qname_len)


# The stale answer of a question, if it is still there. It may be fresh again by now.
cdef bint find_stale(worker_t *worker, const fd_pending_t *question, answer_view *view) noexcept nogil:
    cdef fd_query_t query
    cdef uint32_t cache_slot
    key_of(question, &query)
    worker.cache.spin = 0
    return (cache_lookup(&worker.cache, &query, worker.now_ms, MESSAGE_MAX, worker.scratch, view, &cache_slot,
                         worker.counters) != CACHE_MISS
            and zone_of_entry(worker, view.entry) != NULL)


# Upstream had its time: the stale answer to those who wait. The coordinator goes on with the refresh;
# who asks meanwhile gets the stale answer from it. Returns ms until the next question's time is over.
cdef uint32_t give_stale(worker_t *worker) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint32_t wait_ms = TICK_MAX_MS
    cdef uint16_t slot
    cdef uint64_t due
    cdef answer_view view
    while table.first_stale != NONE:
        slot = table.first_stale
        due = table.question_links[slot].stale_due_ms
        if due > worker.now_ms:
            wait_ms = <uint32_t>min(due - worker.now_ms, <uint64_t>TICK_MAX_MS)
            break
        leave_stale(table, slot)
        # An evicted one leaves its clients waiting.
        if not table.question_links[slot].answered and find_stale(worker, &table.questions[slot], &view):
            answer_chain(worker, slot, &view, 0)
    pending_settle(worker)
    return wait_ms


# SERVFAIL to clients whose time is over. Returns ms until the next one's is.
cdef uint32_t expire(worker_t *worker) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint16_t place, slot
    cdef uint64_t due
    while table.oldest != NONE:
        place = table.oldest
        due = table.clients[place].arrived_us // 1000 + worker.config.client_deadline_ms
        if due > worker.now_ms:
            late_flush(worker)
            return <uint32_t>min(due - worker.now_ms, <uint64_t>TICK_MAX_MS)
        slot = <uint16_t>table.clients[place].pending
        reply_to(worker, &table.clients[place], &table.questions[slot], NULL, EDE_NO_REACHABLE_AUTHORITY)
        bump(worker.counters, FD_C_deadline_expired, 1)
        free_client(table, place)
        if table.question_links[slot].first == NONE:
            free_question(table, slot)
    late_flush(worker)
    return TICK_MAX_MS


cdef uint32_t pending_tick(worker_t *worker) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef uint32_t marked = fd_load32(&worker.region.answer_ring.marked)
    cdef uint64_t generation = fd_load64(&worker.region.coordinator_generation)
    cdef uint32_t wait_ms
    if marked != table.marked_seen or generation != table.generation_seen:
        table.marked_seen = marked
        table.generation_seen = generation
        look_again(worker)
    if table.first_unsent != NONE:
        put_unsent(worker)
    wait_ms = give_stale(worker)
    wait_ms = min(wait_ms, expire(worker))
    if table.first_unsent != NONE:
        wait_ms = min(wait_ms, <uint32_t>UNSENT_WAIT_MS)
    if table.put:
        table.put = False
        if fd_must_wake(&worker.region.question_ring.sleeping):
            ring_eventfd(worker.wake_coordinator)
    fd_store32(&worker.region.pending_used, table.used)
    fd_store32(&worker.region.clients_used, table.clients_used)
    return wait_ms


cdef uint32_t pending_used(const worker_t *worker) noexcept nogil:
    return worker.pending.used
