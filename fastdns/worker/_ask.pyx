# SPDX-License-Identifier: Apache-2.0
"""Questions into the ring to the coordinator: those that clients wait for, and refreshes."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._ring cimport ring_commit, ring_reserve
from fastdns._shm cimport (
    FD_CLIENT_TCP,
    FD_PENDING_ASKED,
    FD_Q_CLIENT,
    FD_Q_RD,
    FD_Q_REFRESH,
    FD_RECORD_QUESTION,
    fd_client_t,
    fd_pending_t,
    fd_query_t,
    fd_question_client_off,
    fd_question_client_t,
    fd_question_t,
    fd_release32,
)
from fastdns._stats cimport FD_C_refreshes, FD_C_refreshes_unsent, bump
from fastdns.worker._links cimport pending_table_t
from fastdns.worker._state cimport worker_t


# Who asks, behind the name of a question that is asked for one client alone.
cdef void write_asker(const fd_client_t *client, fd_question_client_t *out) noexcept nogil:
    out.peer = client.peer
    out.local = client.local
    out.listener = client.listener
    out.tcp = client.state == FD_CLIENT_TCP
    out.edns = client.edns
    out.udp_size = client.udp_size


cdef void fill_pending(fd_pending_t *pending, const fd_query_t *query) noexcept nogil:
    pending.key_hash = query.key_hash
    pending.group = query.group
    pending.variant = query.variant
    pending.key_flags = query.key_flags
    pending.qtype = query.qtype
    pending.qclass = query.qclass
    pending.qname_len = query.qname_len
    memcpy(pending.qname, query.qname, query.qname_len)


# A record of `octets` for what is asked, without a ticket, to be committed; NULL: the ring is full.
cdef fd_question_t *begin_record(worker_t *worker, const fd_pending_t *pending, uint32_t octets) noexcept nogil:
    cdef fd_question_t *question = <fd_question_t *>ring_reserve(&worker.questions, octets)
    if question == NULL:
        return NULL
    question.record.kind = FD_RECORD_QUESTION
    question.record.flags = 0
    question.record.ede = 0
    question.ticket = 0
    question.key_hash = pending.key_hash
    question.group = pending.group
    question.variant = pending.variant
    question.key_flags = pending.key_flags
    question.qtype = pending.qtype
    question.qclass = pending.qclass
    question.client_tag = 0
    question.qname_len = pending.qname_len
    question.flags = pending.flags
    memcpy(<uint8_t *>question + sizeof(fd_question_t), pending.qname, pending.qname_len)
    return question


cdef bint put_question(worker_t *worker, uint16_t slot) noexcept nogil:
    cdef pending_table_t *table = worker.pending
    cdef fd_pending_t *pending = &table.questions[slot]
    cdef uint32_t name_end = <uint32_t>sizeof(fd_question_t) + pending.qname_len
    cdef uint32_t octets = name_end
    cdef fd_question_t *question
    if pending.flags & FD_Q_CLIENT:
        octets = fd_question_client_off(pending.qname_len) + <uint32_t>sizeof(fd_question_client_t)
    question = begin_record(worker, pending, octets)
    if question == NULL:
        return False
    question.ticket = (<uint64_t>pending.use << 32) | slot
    if pending.flags & FD_Q_CLIENT:
        memset(<uint8_t *>question + name_end, 0, octets - name_end)
        write_asker(&table.clients[table.question_links[slot].first],
                    <fd_question_client_t *>(<uint8_t *>question + fd_question_client_off(pending.qname_len)))
    ring_commit(&worker.questions)
    fd_release32(&pending.state, FD_PENDING_ASKED)
    table.put = True
    return True


cdef void put_refresh(worker_t *worker, const fd_query_t *query) noexcept nogil:
    cdef fd_pending_t pending
    fill_pending(&pending, query)
    pending.flags = FD_Q_RD | FD_Q_REFRESH
    if begin_record(worker, &pending, <uint32_t>sizeof(fd_question_t) + query.qname_len) == NULL:
        bump(worker.counters, FD_C_refreshes_unsent, 1)
        return
    ring_commit(&worker.questions)
    worker.pending.put = True
    bump(worker.counters, FD_C_refreshes, 1)
