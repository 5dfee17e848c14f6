# SPDX-License-Identifier: Apache-2.0
"""One query, from parsed to answered or chained: the same for UDP and TCP."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from fastdns._answer cimport compose_error, compose_reply
from fastdns._cache cimport CACHE_HIT, answer_view, cache_lookup
from fastdns._proto cimport BADVERS, EDE_NOT_READY, FORMERR, HEADER_LEN, MESSAGE_MAX, NOTIMP, REFUSED, SERVFAIL
from fastdns._shm cimport FD_EDE_NONE, fd_load16, fd_query_t, fd_store16
from fastdns._stats cimport (
    FD_C_badvers,
    FD_C_dropped_response,
    FD_C_dropped_short,
    FD_C_formerr,
    FD_C_hits,
    FD_C_misses,
    FD_C_notimp,
    FD_C_refused,
    FD_C_servfail,
    FD_C_tcp_queries,
    FD_C_truncated,
    bump,
)
from fastdns._wire cimport PARSE_DROP_SHORT, PARSE_OK, parse_query, parse_rc
from fastdns.worker._hand cimport hand_clear, hand_take
from fastdns.worker._pending cimport JOIN_WAITS, pending_join
from fastdns.worker._state cimport origin_t, worker_t


cdef void count_error(worker_t *worker, int rcode) noexcept nogil:
    cdef int which = FD_C_servfail
    if rcode == FORMERR:
        which = FD_C_formerr
    elif rcode == NOTIMP:
        which = FD_C_notimp
    elif rcode == REFUSED:
        which = FD_C_refused
    elif rcode == BADVERS:
        which = FD_C_badvers
    bump(worker.counters, which, 1)


cdef uint32_t serve_query(worker_t *worker, const fd_query_t *query, const uint8_t *question,
                          const origin_t *origin, uint8_t *out, uint32_t limit) noexcept nogil:
    cdef answer_view view
    cdef uint32_t slot, reply_len
    if cache_lookup(&worker.cache, query, worker.now_ms, limit, worker.scratch, &view, &slot,
                    worker.counters) == CACHE_HIT:
        fd_store16(&worker.hits[slot], fd_load16(&worker.hits[slot]) + 1)
        bump(worker.counters, FD_C_hits, 1)
        reply_len = compose_reply(&view, query, out, limit, worker.now_ms)
        if out[2] & 0x02:                  # TC
            bump(worker.counters, FD_C_truncated, 1)
        return reply_len
    bump(worker.counters, FD_C_misses, 1)
    if pending_join(worker, query, question, origin) == JOIN_WAITS:
        return 0
    count_error(worker, SERVFAIL)
    return compose_error(query, SERVFAIL, EDE_NOT_READY, out)


cdef uint32_t serve_tcp(worker_t *worker, const uint8_t *msg, uint32_t msg_len,
                        const origin_t *origin, uint8_t *out) noexcept nogil:
    cdef fd_query_t query
    cdef parse_rc rc
    cdef uint32_t reply_len
    bump(worker.counters, FD_C_tcp_queries, 1)
    if not hand_take(worker, msg, msg_len):
        return 0
    rc = parse_query(msg, msg_len, worker.cache.hash_key,
                     worker.config.listeners[origin.listener].group, 0, &query)
    if rc < 0:
        bump(worker.counters,
             FD_C_dropped_short if rc == PARSE_DROP_SHORT else FD_C_dropped_response, 1)
        reply_len = 0
    else:
        query.udp_size = MESSAGE_MAX
        if query.qname_len:
            memcpy(out + HEADER_LEN, msg + HEADER_LEN, query.qname_len + 4u)
        if rc == PARSE_OK:
            reply_len = serve_query(worker, &query, msg + HEADER_LEN, origin, out, MESSAGE_MAX)
        else:
            count_error(worker, rc)
            reply_len = compose_error(&query, rc, FD_EDE_NONE, out)
    hand_clear(worker)
    return reply_len
