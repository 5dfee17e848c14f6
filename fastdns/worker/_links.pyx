# SPDX-License-Identifier: Apache-2.0
"""What ties the facts of the pending table together: chains, queues, free lists. SHM_LAYOUT

All of it is private and is built from one scan of the region when a worker starts, so a death in
the middle of relinking breaks nothing.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, qsort

from fastdns._memory cimport fd_reserve, fd_take
from fastdns._shm cimport (
    FD_CLIENT_FREE,
    FD_CLIENT_UDP,
    FD_PENDING_ASKED,
    FD_PENDING_FREE,
    FD_PENDING_UNSENT,
    fd_at,
    fd_client_t,
    fd_load32,
    fd_load64,
    fd_pending_t,
    fd_release32,
    sockaddr_in,
)
from fastdns._stats cimport FD_C_recovered_clients, bump
from fastdns.worker._state cimport worker_t


cdef uint32_t client_head(const fd_client_t *client) noexcept nogil:
    cdef uint32_t mix = <uint32_t>client.peer.sin6_port * <uint32_t>0x9e3779b1
    mix ^= <uint32_t>client.id * <uint32_t>0x85ebca6b
    mix ^= (<const sockaddr_in *>&client.peer).sin_addr.s_addr * <uint32_t>0xc2b2ae35
    return (mix >> 13) & (HEADS - 1)


cdef void link_question(pending_table_t *table, uint16_t slot) noexcept nogil:
    cdef question_link_t *link = &table.question_links[slot]
    cdef uint32_t head = question_head(table.questions[slot].key_hash)
    link.next_hash = table.question_heads[head]
    link.first = link.last = link.next_unsent = NONE
    link.unsent = link.answered = link.stale = 0
    table.question_heads[head] = slot
    table.used += 1


cdef void unlink_question(pending_table_t *table, uint16_t slot) noexcept nogil:
    cdef uint32_t head = question_head(table.questions[slot].key_hash)
    cdef uint16_t at = table.question_heads[head]
    if at == slot:
        table.question_heads[head] = table.question_links[slot].next_hash
    else:
        while at != NONE and table.question_links[at].next_hash != slot:
            at = table.question_links[at].next_hash
        if at != NONE:
            table.question_links[at].next_hash = table.question_links[slot].next_hash
    table.used -= 1


cdef void link_client(pending_table_t *table, uint16_t place, uint16_t slot) noexcept nogil:
    cdef client_link_t *link = &table.client_links[place]
    cdef question_link_t *question = &table.question_links[slot]
    cdef uint32_t head = client_head(&table.clients[place])
    link.next = NONE
    link.previous = question.last
    if question.last == NONE:
        question.first = place
    else:
        table.client_links[question.last].next = place
    question.last = place
    link.younger = NONE
    link.older = table.youngest
    if table.youngest == NONE:
        table.oldest = place
    else:
        table.client_links[table.youngest].younger = place
    table.youngest = place
    link.next_hash = table.client_heads[head]
    link.previous_hash = NONE
    if link.next_hash != NONE:
        table.client_links[link.next_hash].previous_hash = place
    table.client_heads[head] = place
    table.clients_used += 1


cdef void unlink_client(pending_table_t *table, uint16_t place) noexcept nogil:
    cdef client_link_t *link = &table.client_links[place]
    cdef question_link_t *question = &table.question_links[table.clients[place].pending]
    if link.previous == NONE:
        question.first = link.next
    else:
        table.client_links[link.previous].next = link.next
    if link.next == NONE:
        question.last = link.previous
    else:
        table.client_links[link.next].previous = link.previous
    if link.older == NONE:
        table.oldest = link.younger
    else:
        table.client_links[link.older].younger = link.younger
    if link.younger == NONE:
        table.youngest = link.older
    else:
        table.client_links[link.younger].older = link.older
    if link.previous_hash == NONE:
        table.client_heads[client_head(&table.clients[place])] = link.next_hash
    else:
        table.client_links[link.previous_hash].next_hash = link.next_hash
    if link.next_hash != NONE:
        table.client_links[link.next_hash].previous_hash = link.previous_hash
    table.clients_used -= 1


cdef uint16_t next_client(const pending_table_t *table) noexcept nogil:
    if table.free_client != NONE:
        return table.free_client
    return <uint16_t>table.fresh_client if table.fresh_client < table.client_count else <uint16_t>NONE


cdef void take_client(pending_table_t *table, uint16_t place) noexcept nogil:
    if table.free_client != NONE:
        table.free_client = table.client_links[place].next
        return
    table.fresh_client += 1
    fd_release32(&table.region.clients_high, table.fresh_client)


cdef uint16_t take_question(pending_table_t *table) noexcept nogil:
    cdef uint16_t slot = table.free_question
    if slot != NONE:
        table.free_question = table.question_links[slot].next_hash
        return slot
    if table.fresh_question >= table.question_count:
        return NONE
    slot = <uint16_t>table.fresh_question
    table.fresh_question += 1
    fd_release32(&table.region.pending_high, table.fresh_question)
    return slot


cdef void free_client(pending_table_t *table, uint16_t place) noexcept nogil:
    unlink_client(table, place)
    fd_release32(&table.clients[place].state, FD_CLIENT_FREE)
    table.client_links[place].next = table.free_client
    table.free_client = place


# The use count moves first: clients of the old use and answers to it are void from then on.
cdef void free_question(pending_table_t *table, uint16_t slot) noexcept nogil:
    unlink_question(table, slot)
    leave_stale(table, slot)
    fd_release32(&table.questions[slot].use, table.questions[slot].use + 1)
    fd_release32(&table.questions[slot].state, FD_PENDING_FREE)
    if table.question_links[slot].unsent:
        return                             # the queue of unsent gives it back when it gets there
    table.question_links[slot].next_hash = table.free_question
    table.free_question = slot


cdef void queue_unsent(pending_table_t *table, uint16_t slot) noexcept nogil:
    if table.question_links[slot].unsent:
        return
    table.question_links[slot].unsent = 1
    table.question_links[slot].next_unsent = NONE
    if table.last_unsent == NONE:
        table.first_unsent = slot
    else:
        table.question_links[table.last_unsent].next_unsent = slot
    table.last_unsent = slot


cdef void queue_stale(pending_table_t *table, uint16_t slot) noexcept nogil:
    cdef question_link_t *link = &table.question_links[slot]
    cdef uint16_t at = table.last_stale
    link.stale_due_ms = table.questions[slot].asked_ms + table.questions[slot].stale_ms
    while at != NONE and table.question_links[at].stale_due_ms > link.stale_due_ms:
        at = table.question_links[at].sooner
    link.stale = 1
    link.sooner = at
    if at == NONE:
        link.later = table.first_stale
        table.first_stale = slot
    else:
        link.later = table.question_links[at].later
        table.question_links[at].later = slot
    if link.later == NONE:
        table.last_stale = slot
    else:
        table.question_links[link.later].sooner = slot


cdef void leave_stale(pending_table_t *table, uint16_t slot) noexcept nogil:
    cdef question_link_t *link = &table.question_links[slot]
    if not link.stale:
        return
    link.stale = 0
    if link.sooner == NONE:
        table.first_stale = link.later
    else:
        table.question_links[link.sooner].later = link.later
    if link.later == NONE:
        table.last_stale = link.sooner
    else:
        table.question_links[link.later].sooner = link.sooner


# ------------------------------------------------------------------------------ opening ----

cdef int by_arrival(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t *>a)[0]
    cdef uint64_t y = (<const uint64_t *>b)[0]
    return -1 if x < y else (1 if x > y else 0)


cdef bint sane_question(const fd_pending_t *question) noexcept nogil:
    return ((question.state == FD_PENDING_ASKED or question.state == FD_PENDING_UNSENT)
            and question.qname_len > 0 and question.qname[question.qname_len - 1] == 0)


cdef bint sane_client(const worker_t *worker, const pending_table_t *table, const fd_client_t *client) noexcept nogil:
    return (client.state == FD_CLIENT_UDP and client.pending < table.question_count
            and client.listener < worker.config.listener_count and worker.udp_fds[client.listener] >= 0
            and sane_question(&table.questions[client.pending])
            and table.questions[client.pending].use == client.use)


cdef pending_table_t *links_open(worker_t *worker) noexcept nogil:
    cdef pending_table_t *table = <pending_table_t *>fd_take(sizeof(pending_table_t), 0)
    cdef uint32_t questions = worker.region.pending.count
    cdef uint32_t clients = worker.region.clients.count
    cdef uint64_t *arrivals
    if table == NULL or questions >= NONE or clients >= NONE:
        free(table)
        return NULL
    table.questions = <fd_pending_t *>fd_at(worker.region, worker.region.pending.off)
    table.clients = <fd_client_t *>fd_at(worker.region, worker.region.clients.off)
    table.question_count = questions
    table.client_count = clients
    table.question_links = <question_link_t *>fd_reserve(questions * sizeof(question_link_t))
    table.client_links = <client_link_t *>fd_reserve(clients * sizeof(client_link_t))
    table.question_heads = <uint16_t *>fd_take(2 * HEADS * sizeof(uint16_t), 0xff)
    arrivals = <uint64_t *>fd_reserve(clients * sizeof(uint64_t))
    if (table.question_links == NULL or table.client_links == NULL or table.question_heads == NULL
            or arrivals == NULL):
        free(table.question_links)
        free(table.client_links)
        free(table.question_heads)
        free(table)
        free(arrivals)
        return NULL
    table.client_heads = table.question_heads + HEADS
    table.free_question = table.free_client = NONE
    table.region = worker.region
    table.fresh_question = min(fd_load32(&worker.region.pending_high), questions)
    table.fresh_client = min(fd_load32(&worker.region.clients_high), clients)
    table.oldest = table.youngest = table.first_unsent = table.last_unsent = NONE
    table.first_stale = table.last_stale = NONE
    take_over_clients(worker, table, arrivals)
    take_over_questions(table)
    free(arrivals)
    table.marked_seen = fd_load32(&worker.region.answer_ring.marked)
    table.generation_seen = fd_load64(&worker.region.coordinator_generation)
    return table


# Relink the clients that a predecessor left, oldest first, and their questions with them.
cdef void take_over_clients(worker_t *worker, pending_table_t *table, uint64_t *arrivals) noexcept nogil:
    cdef uint32_t i = table.fresh_client
    cdef uint32_t waiting = 0
    cdef uint16_t place, slot
    cdef fd_client_t *client
    while i:                               # backwards: the first place is given first
        i -= 1
        client = &table.clients[i]
        if sane_client(worker, table, client):
            # 48 bits of ms are 8,900 years.
            arrivals[waiting] = (client.arrived_us // 1000 << 16) | i
            waiting += 1
        else:
            client.state = FD_CLIENT_FREE
            table.client_links[i].next = table.free_client
            table.free_client = <uint16_t>i
    qsort(arrivals, waiting, sizeof(uint64_t), by_arrival)
    for i in range(waiting):
        place = <uint16_t>(arrivals[i] & 0xffff)
        slot = <uint16_t>table.clients[place].pending
        if not table.question_links[slot].unsent:
            link_question(table, slot)
            table.questions[slot].state = FD_PENDING_UNSENT
            queue_unsent(table, slot)
            if table.questions[slot].stale_ms:
                queue_stale(table, slot)
        link_client(table, place, slot)
    bump(worker.counters, FD_C_recovered_clients, waiting)


# Free the slots that nobody waits for.
cdef void take_over_questions(pending_table_t *table) noexcept nogil:
    cdef uint32_t i = table.fresh_question
    while i:
        i -= 1
        if table.question_links[i].unsent:
            continue
        if table.questions[i].state != FD_PENDING_FREE:
            table.questions[i].use += 1
            table.questions[i].state = FD_PENDING_FREE
        table.question_links[i].next_hash = table.free_question
        table.free_question = <uint16_t>i
