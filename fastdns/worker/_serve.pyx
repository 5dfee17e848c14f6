# SPDX-License-Identifier: Apache-2.0
"""One query, from parsed to answered or chained: the same for UDP and TCP."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from fastdns._answer cimport compose_error, compose_reply
from fastdns._cache cimport CACHE_HIT, CACHE_MISS, CACHE_STALE, answer_view, cache_lookup, cache_rc
from fastdns._name cimport get_u16, key_extra, name_fold_hash
from fastdns._proto cimport (
    BADVERS,
    EDE_NOT_READY,
    EDE_OTHER,
    FORMERR,
    HEADER_LEN,
    MESSAGE_MAX,
    NOTIMP,
    REFUSED,
    SERVFAIL,
)
from fastdns._shm cimport (
    FD_CLIENT_TCP,
    FD_CLIENT_UDP,
    FD_EDE_NONE,
    FD_EDNS_PRESENT,
    FD_ZONE_FAMILY,
    FD_ZONE_LOG,
    FD_ZONE_REFUSED,
    fd_block,
    fd_block_t,
    fd_entry_t,
    fd_load16,
    fd_local_t,
    fd_query_t,
    fd_store16,
    fd_zone_t,
    sockaddr_in6,
)
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
from fastdns._sys cimport AF_INET6
from fastdns._wire cimport PARSE_DROP_SHORT, PARSE_OK, PARSE_REFUSED, parse_query, parse_rc
from fastdns._zones cimport zone_at, zone_find
from fastdns.worker._count cimport (
    count_hit,
    count_late,
    count_miss,
    count_refused,
    count_stale,
    entry_rcode,
    next_spin,
    tell,
    zone_of_entry,
)
from fastdns.worker._ask cimport put_refresh
from fastdns.worker._hand cimport hand_clear, hand_take, hand_take_key
from fastdns.worker._pending cimport JOIN_WAITS, pending_join
from fastdns.worker._querylog cimport asker_t, log_query, replied_t
from fastdns.worker._send cimport received_local
from fastdns.worker._state cimport origin_t, worker_t
from fastdns.worker._tcp cimport tcp_peer

cdef extern from "_crash.h" nogil:
    void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len) noexcept

cdef enum:
    FAMILY_4 = 4                 # fd_query_t.variant of IPv4 and IPv6 clients
    FAMILY_6 = 6


# ------------------------------------------------------------------------------- errors ----

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


cdef void count_dropped(worker_t *worker, parse_rc rc) noexcept nogil:
    bump(worker.counters, FD_C_dropped_short if rc == PARSE_DROP_SHORT else FD_C_dropped_response, 1)


cdef uint32_t serve_error(worker_t *worker, const fd_query_t *query, parse_rc rc, const origin_t *origin,
                          uint8_t *out) noexcept nogil:
    count_error(worker, rc)
    if rc == PARSE_REFUSED:      # the others don't reach CoreDNS's metrics either
        count_refused(worker, query, origin, REFUSED, HEADER_LEN + query.qname_len + 4u)
    return compose_error(query, rc, FD_EDE_NONE, out)


# ---------------------------------------------------------------------------- admission ----

cdef void choose_variant(worker_t *worker, const uint8_t *question, uint32_t listener,
                         fd_query_t *query) noexcept nogil:
    # A listener serves one family alone, so its clients' family is its own.
    cdef const fd_zone_t *zone = zone_at(worker.config, zone_find(
        worker.config, query.group, query.qname, query.qname_len, query.qtype))
    if zone == NULL or not zone.flags & FD_ZONE_FAMILY:
        return
    query.variant = FAMILY_4
    if worker.config.listeners[listener].address.sin6_family == AF_INET6:
        query.variant = FAMILY_6
    query.key_hash = name_fold_hash(
        question, query.qname_len,
        key_extra(query.group, query.variant, query.key_flags, query.qtype, query.qclass),
        worker.cache.hash_key, query.qname)


# -------------------------------------------------------------------------------- lines ----

cdef void log_now(worker_t *worker, const fd_zone_t *zone, uint16_t zone_number, const fd_query_t *query,
                  const uint8_t *question, const origin_t *origin, replied_t *replied) noexcept nogil:
    # The line of a query that is answered at once.
    cdef asker_t asker
    cdef sockaddr_in6 peer
    cdef fd_local_t local
    asker.peer = <const sockaddr_in6 *>origin.peer
    asker.local = &local
    if origin.state == FD_CLIENT_TCP:
        tcp_peer(worker, origin.connection, origin.connection_use, &peer, &local)
        asker.peer = &peer
    else:
        received_local(origin.control, origin.control_len, &local)
    asker.arrived_us = worker.tally.began_us
    asker.zone = zone_number
    asker.request_size = origin.request_size
    asker.listener = origin.listener
    asker.tcp = origin.state == FD_CLIENT_TCP
    replied.edns_max = zone.edns_max
    log_query(worker, &asker, query, question, replied)


# -------------------------------------------------------------------------------- serve ----

cdef uint32_t serve_hit(worker_t *worker, answer_view *view, const fd_zone_t *zone,
                        const fd_query_t *query, const uint8_t *question, const origin_t *origin,
                        uint8_t *out, uint32_t limit) noexcept nogil:
    cdef const fd_entry_t *entry = view.entry
    cdef uint32_t reply_len
    cdef replied_t replied
    if zone.edns_max and query.edns & FD_EDNS_PRESENT and origin.state == FD_CLIENT_UDP:
        limit = min(limit, <uint32_t>zone.edns_max)
    bump(worker.counters, FD_C_hits, 1)
    count_hit(worker, zone, query, origin, entry)
    tell(worker, view)
    fd_debug_crash("reply", query.qname, query.qname_len)
    reply_len = compose_reply(view, query, out, limit, worker.now_ms)
    if out[2] & 0x02:            # TC
        bump(worker.counters, FD_C_truncated, 1)
    if zone.flags & FD_ZONE_LOG:
        replied.flags = get_u16(out + 2)
        replied.rcode = <uint16_t>entry_rcode(entry)
        replied.size = entry.plain_len
        replied.entry_kind = entry.kind
        log_now(worker, zone, entry.zone, query, question, origin, &replied)
    return reply_len


cdef uint32_t serve_miss(worker_t *worker, const fd_query_t *query, const uint8_t *question,
                         const origin_t *origin, uint8_t *out) noexcept nogil:
    cdef uint32_t number = zone_find(worker.config, query.group, query.qname, query.qname_len, query.qtype)
    cdef const fd_zone_t *zone = zone_at(worker.config, number)
    cdef replied_t replied
    if zone == NULL or zone.flags & FD_ZONE_REFUSED:
        return serve_error(worker, query, PARSE_REFUSED, origin, out)
    bump(worker.counters, FD_C_misses, 1)
    count_miss(worker, zone, number, query, origin)
    if pending_join(worker, query, question, origin, zone, <uint16_t>number, 0) == JOIN_WAITS:
        return 0
    count_error(worker, SERVFAIL)
    count_late(worker, zone, number, origin.listener, origin.state == FD_CLIENT_TCP, NULL, SERVFAIL, 0)
    if zone.flags & FD_ZONE_LOG:
        replied.flags = replied.size = 0
        replied.entry_kind = 0
        replied.rcode = SERVFAIL
        log_now(worker, zone, <uint16_t>number, query, question, origin, &replied)
    return compose_error(query, SERVFAIL, EDE_NOT_READY, out)


cdef uint32_t serve_stale(worker_t *worker, cache_rc age, answer_view *view, const fd_zone_t *zone,
                          const fd_query_t *query, const uint8_t *question, const origin_t *origin,
                          uint8_t *out, uint32_t limit) noexcept nogil:
    # An expired entry: upstream is asked first, or behind the answer, or it failed a moment ago.
    cdef const fd_block_t *block = fd_block(worker.config, zone.block)
    if age == CACHE_STALE and block.stale_wait_ms:
        if pending_join(worker, query, question, origin, zone, view.entry.zone,
                        block.stale_wait_ms) == JOIN_WAITS:
            bump(worker.counters, FD_C_misses, 1)
            count_miss(worker, zone, view.entry.zone, query, origin)
            return 0
    elif age == CACHE_STALE:
        put_refresh(worker, query)
    count_stale(worker, zone, view.entry.zone, origin.listener)
    view.stale_ttl_s = block.stale_ttl_s
    return serve_hit(worker, view, zone, query, question, origin, out, limit)


cdef uint32_t serve_query(worker_t *worker, const fd_query_t *query, const uint8_t *question,
                          const origin_t *origin, uint8_t *out, uint32_t limit) noexcept nogil:
    cdef answer_view view
    cdef const fd_zone_t *zone
    cdef uint32_t slot
    cdef cache_rc found
    if not hand_take_key(worker, query.key_hash):
        count_error(worker, SERVFAIL)
        return compose_error(query, SERVFAIL, EDE_OTHER, out)
    worker.cache.spin = next_spin(worker)
    found = cache_lookup(&worker.cache, query, worker.now_ms, limit, worker.scratch, &view, &slot, worker.counters)
    if found != CACHE_MISS:
        zone = zone_of_entry(worker, view.entry)
        if zone != NULL:
            fd_store16(&worker.hits[slot], fd_load16(&worker.hits[slot]) + 1)
            if found != CACHE_HIT:
                return serve_stale(worker, found, &view, zone, query, question, origin, out, limit)
            return serve_hit(worker, &view, zone, query, question, origin, out, limit)
    return serve_miss(worker, query, question, origin, out)


cdef uint32_t serve_tcp(worker_t *worker, const uint8_t *msg, uint32_t msg_len,
                        const origin_t *origin, uint8_t *out) noexcept nogil:
    cdef fd_query_t query
    cdef parse_rc rc
    cdef uint32_t reply_len = 0
    bump(worker.counters, FD_C_tcp_queries, 1)
    if not hand_take(worker, msg, msg_len):
        return 0
    fd_debug_crash("packet", msg + HEADER_LEN, max(msg_len, <uint32_t>HEADER_LEN) - HEADER_LEN)
    rc = parse_query(msg, msg_len, worker.cache.hash_key,
                     worker.config.listeners[origin.listener].group, 0, &query)
    if rc == PARSE_OK:
        rc = admit_query(worker, msg + HEADER_LEN, origin.listener, &query)
    if rc < 0:
        count_dropped(worker, rc)
    else:
        query.udp_size = MESSAGE_MAX
        if query.qname_len:
            memcpy(out + HEADER_LEN, msg + HEADER_LEN, query.qname_len + 4u)
        if rc == PARSE_OK:
            reply_len = serve_query(worker, &query, msg + HEADER_LEN, origin, out, MESSAGE_MAX)
        else:
            reply_len = serve_error(worker, &query, rc, origin, out)
    hand_clear(worker)
    return reply_len
