# SPDX-License-Identifier: Apache-2.0
"""A worker's UDP sockets: a batch in, replies written in place, a batch out.

The receive buffers, their mmsghdr array, the parsed queries and a status for each datagram lie
in the worker's region, so that a successor answers what a dead worker had received. Replies are
written over the packet past its question; the parsed query is whole before that starts, so a
half-written reply can always be written again.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp

from fastdns._cache cimport cache_prefetch, cache_prefetch_entry
from fastdns._memory cimport fd_take
from fastdns._proto cimport HEADER_LEN
from fastdns._shm cimport (
    FD_BATCH,
    FD_CLIENT_UDP,
    FD_CONTROL_BUFFER,
    FD_RX_BUFFER,
    FD_RX_DONE,
    FD_RX_PARSED,
    FD_RX_RECEIVED,
    FD_RX_REPLY,
    fd_batch_t,
    fd_listener_t,
    fd_local_t,
    fd_query_t,
    fd_release32,
    fd_store32,
    mmsghdr,
    msghdr,
    sockaddr_in,
    sockaddr_in6,
)
from fastdns._stats cimport (
    FD_C_dropped_source,
    FD_C_recovered_packets,
    FD_C_rx_truncated,
    FD_C_udp_queries,
    bump,
)
from fastdns._sys cimport AF_INET, EPOLL_CTL_DEL, EPOLLIN, MSG_DONTWAIT, MSG_TRUNC, epoll_ctl, recvmmsg, watch
from fastdns._wire cimport PARSE_FORMERR, PARSE_OK, parse_query, parse_rc
from fastdns.worker._count cimport count_settle
from fastdns.worker._hand cimport hand_clear, hand_take
from fastdns.worker._send cimport answer_from, received_local, send_all
from fastdns.worker._serve cimport admit_query, count_dropped, serve_error, serve_query
from fastdns.worker._state cimport EVENT_UDP, origin_t, worker_t

cdef extern from "_crash.h" nogil:
    void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len) noexcept

# Private: what a successor need not find.
cdef struct udp_t:
    mmsghdr out[FD_BATCH]        # the replies of the batch at hand, pointing into the region
    uint32_t dirty               # rx entries to reset before the next recvmmsg
    bint wildcard                # whether they are set up for ancillary data


cdef udp_t *udp_open(worker_t *worker) noexcept nogil:
    cdef udp_t *udp = <udp_t *>fd_take(sizeof(udp_t), 0)
    cdef uint32_t i
    if udp == NULL:
        return NULL
    udp.dirty = FD_BATCH
    for i in range(worker.config.listener_count):
        if worker.udp_fds[i] < 0:
            continue                       # an empty slot
        if watch(worker.epoll, worker.udp_fds[i], EPOLLIN, (<uint64_t>EVENT_UDP << 32) | i) != 0:
            free(udp)
            return NULL
    return udp


cdef void udp_drain(worker_t *worker) noexcept nogil:
    cdef uint32_t i
    for i in range(worker.config.listener_count):
        if worker.udp_fds[i] >= 0:
            epoll_ctl(worker.epoll, EPOLL_CTL_DEL, worker.udp_fds[i], NULL)


# ---------------------------------------------------------------------------- receiving ----

# Point the first `n` messages at their buffers; recvmmsg and the replies changed them.
cdef void reset_messages(fd_batch_t *batch, uint32_t n, bint wildcard) noexcept nogil:
    cdef uint32_t i
    cdef msghdr *header
    for i in range(n):
        header = &batch.messages[i].msg_hdr
        batch.messages[i].msg_len = 0
        batch.vectors[i].iov_base = batch.buffers[i]
        batch.vectors[i].iov_len = FD_RX_BUFFER
        header.msg_name = &batch.peers[i]
        header.msg_namelen = sizeof(sockaddr_in6)
        header.msg_iov = &batch.vectors[i]
        header.msg_iovlen = 1
        header.msg_control = &batch.control[i] if wildcard else NULL
        header.msg_controllen = FD_CONTROL_BUFFER if wildcard else 0
        header.msg_flags = 0
        batch.status[i] = FD_RX_RECEIVED


cdef uint32_t udp_round(worker_t *worker, uint32_t listener) noexcept nogil:
    cdef fd_batch_t *batch = worker.batch
    cdef udp_t *udp = worker.udp
    cdef bint wildcard = worker.config.listeners[listener].wildcard
    cdef int n
    reset_messages(batch, udp.dirty if udp.wildcard == wildcard else <uint32_t>FD_BATCH, wildcard)
    udp.wildcard = wildcard
    udp.dirty = 0
    # From here on a successor finds what recvmmsg wrote: every datagram with a length.
    batch.listener = listener
    fd_release32(&batch.count, FD_BATCH)
    n = recvmmsg(worker.udp_fds[listener], batch.messages, FD_BATCH, MSG_DONTWAIT, NULL)
    if n <= 0:
        fd_store32(&batch.count, 0)
        return 0
    fd_release32(&batch.count, <uint32_t>n)
    udp.dirty = <uint32_t>n
    bump(worker.counters, FD_C_udp_queries, <uint64_t>n)
    parse_batch(worker, listener, <uint32_t>n)
    serve_batch(worker, listener, <uint32_t>n)
    send_batch(worker, listener, <uint32_t>n)
    fd_release32(&batch.count, 0)
    count_settle(worker)
    return <uint32_t>n


# Whether a datagram's source is one that must not be answered: port 0, or the very address and
# port of one of our listeners (a reply would come back as a query). A host process that asks a
# local address has that address as its source, with another port: it is answered.
cdef bint bad_source(const worker_t *worker, const sockaddr_in6 *peer, const msghdr *message) noexcept nogil:
    cdef uint32_t i
    cdef const fd_listener_t *listener
    cdef fd_local_t local
    cdef const sockaddr_in *peer4 = <const sockaddr_in *>peer
    if peer.sin6_port == 0:                # same place in sockaddr_in
        return True
    for i in range(worker.config.listener_count):
        listener = &worker.config.listeners[i]
        if listener.address.sin6_port != peer.sin6_port or listener.address.sin6_family != peer.sin6_family:
            continue
        if listener.wildcard:
            received_local(message.msg_control, <uint32_t>message.msg_controllen, &local)
            if peer.sin6_family == AF_INET:
                if memcmp(&peer4.sin_addr, local.address, 4) == 0:
                    return True
            elif memcmp(&peer.sin6_addr, local.address, 16) == 0:
                return True
        elif peer.sin6_family == AF_INET:
            if (<const sockaddr_in *>&listener.address).sin_addr.s_addr == peer4.sin_addr.s_addr:
                return True
        elif memcmp(&listener.address.sin6_addr, &peer.sin6_addr, 16) == 0:
            return True
    return False


# First pass: every datagram parsed, its bucket asked for, so that memory answers while the rest
# of the batch is parsed.
cdef void parse_batch(worker_t *worker, uint32_t listener, uint32_t n) noexcept nogil:
    cdef fd_batch_t *batch = worker.batch
    cdef uint32_t i
    for i in range(n):
        if batch.status[i] == FD_RX_RECEIVED:
            parse_one(worker, listener, i)


cdef inline void origin_of(fd_batch_t *batch, uint32_t listener, uint32_t i, origin_t *origin) noexcept nogil:
    origin.state = FD_CLIENT_UDP
    origin.listener = <uint8_t>listener
    origin.request_size = <uint16_t>batch.messages[i].msg_len
    origin.peer = &batch.peers[i]
    origin.control = batch.messages[i].msg_hdr.msg_control
    origin.control_len = <uint32_t>batch.messages[i].msg_hdr.msg_controllen


cdef void parse_one(worker_t *worker, uint32_t listener, uint32_t i) noexcept nogil:
    cdef fd_batch_t *batch = worker.batch
    cdef mmsghdr *message = &batch.messages[i]
    cdef fd_query_t *query = &batch.queries[i]
    cdef parse_rc rc
    cdef origin_t origin
    if not hand_take(worker, batch.buffers[i], message.msg_len):
        batch.status[i] = FD_RX_DONE
        return
    fd_debug_crash("packet", <const uint8_t *>batch.buffers[i] + HEADER_LEN,
                   max(message.msg_len, <uint32_t>HEADER_LEN) - HEADER_LEN)
    if bad_source(worker, &batch.peers[i], &message.msg_hdr):
        bump(worker.counters, FD_C_dropped_source, 1)
        batch.status[i] = FD_RX_DONE
        return
    rc = parse_query(batch.buffers[i], message.msg_len, worker.cache.hash_key,
                     worker.config.listeners[listener].group, 0, query)
    if message.msg_hdr.msg_flags & MSG_TRUNC:
        bump(worker.counters, FD_C_rx_truncated, 1)
        if rc == PARSE_OK:
            rc = PARSE_FORMERR
    if rc == PARSE_OK:
        rc = admit_query(worker, <uint8_t *>batch.buffers[i] + HEADER_LEN, listener, query)
    if rc == PARSE_OK:
        cache_prefetch(&worker.cache, query.key_hash)
        batch.status[i] = FD_RX_PARSED
    elif rc < 0:
        count_dropped(worker, rc)
        batch.status[i] = FD_RX_DONE
    else:
        origin_of(batch, listener, i, &origin)
        batch.vectors[i].iov_len = serve_error(worker, query, rc, &origin, batch.buffers[i])
        batch.status[i] = FD_RX_REPLY


# Second pass: the buckets are there, so the entries can be asked for. Third: answer from the
# cache, or chain to a pending question.
cdef void serve_batch(worker_t *worker, uint32_t listener, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if worker.batch.status[i] == FD_RX_PARSED:
            cache_prefetch_entry(&worker.cache, worker.batch.queries[i].key_hash)
    for i in range(n):
        if worker.batch.status[i] == FD_RX_PARSED:
            serve_one(worker, listener, i)
    hand_clear(worker)


cdef void serve_one(worker_t *worker, uint32_t listener, uint32_t i) noexcept nogil:
    cdef fd_batch_t *batch = worker.batch
    cdef fd_query_t *query = &batch.queries[i]
    cdef uint32_t limit = query.udp_size
    cdef uint32_t reply_len
    cdef origin_t origin
    hand_take(worker, batch.buffers[i], batch.messages[i].msg_len)
    origin_of(batch, listener, i, &origin)
    if limit > worker.config.edns_max:
        limit = worker.config.edns_max
    reply_len = serve_query(worker, query, <uint8_t *>batch.buffers[i] + HEADER_LEN, &origin,
                            batch.buffers[i], limit)
    if reply_len:
        batch.vectors[i].iov_len = reply_len
        batch.status[i] = FD_RX_REPLY
    else:
        batch.status[i] = FD_RX_DONE


# ------------------------------------------------------------------------------ sending ----

cdef void send_batch(worker_t *worker, uint32_t listener, uint32_t n) noexcept nogil:
    cdef fd_batch_t *batch = worker.batch
    cdef mmsghdr *out = worker.udp.out
    cdef msghdr *received
    cdef bint wildcard = worker.config.listeners[listener].wildcard
    cdef uint32_t i, replies = 0
    for i in range(n):
        if batch.status[i] != FD_RX_REPLY:
            continue
        received = &batch.messages[i].msg_hdr
        out[replies].msg_hdr.msg_name = &batch.peers[i]
        out[replies].msg_hdr.msg_namelen = received.msg_namelen
        out[replies].msg_hdr.msg_iov = &batch.vectors[i]
        out[replies].msg_hdr.msg_iovlen = 1
        out[replies].msg_hdr.msg_controllen = 0
        if wildcard:
            answer_from(received)
            out[replies].msg_hdr.msg_control = received.msg_control
            out[replies].msg_hdr.msg_controllen = received.msg_controllen
        replies += 1
    send_all(worker, worker.udp_fds[listener], out, replies)


# ----------------------------------------------------------------------------- recovery ----

# Clamp what a dead process left to what may be used: lengths, listener, statuses.
cdef bint usable(const worker_t *worker, fd_batch_t *batch) noexcept nogil:
    cdef uint32_t i
    cdef fd_query_t *query
    if batch.count == 0 or batch.count > <uint32_t>FD_BATCH or batch.listener >= worker.config.listener_count:
        return False
    if worker.udp_fds[batch.listener] < 0:
        return False                       # nobody listens there any more
    for i in range(batch.count):
        query = &batch.queries[i]
        if batch.messages[i].msg_len > <uint32_t>FD_RX_BUFFER:
            batch.messages[i].msg_len = 0
        if batch.vectors[i].iov_len > <size_t>FD_RX_BUFFER:
            batch.status[i] = FD_RX_DONE
        if batch.messages[i].msg_hdr.msg_namelen > sizeof(sockaddr_in6):
            batch.status[i] = FD_RX_DONE
        if batch.messages[i].msg_hdr.msg_controllen > <size_t>FD_CONTROL_BUFFER:
            batch.messages[i].msg_hdr.msg_controllen = 0
        if batch.status[i] == FD_RX_PARSED and query.qname_len + 16u > batch.messages[i].msg_len:
            batch.status[i] = FD_RX_DONE
    return True


cdef uint32_t udp_recover(worker_t *worker, uint32_t suspect, bint drop) noexcept nogil:
    cdef fd_batch_t *batch = worker.batch
    cdef uint32_t i, taken = 0, n = 0
    if usable(worker, batch):
        n = batch.count
    for i in range(n):
        # The pointers are another process's.
        batch.vectors[i].iov_base = batch.buffers[i]
        batch.messages[i].msg_hdr.msg_control = batch.control[i]
        if batch.messages[i].msg_len == 0:
            batch.status[i] = FD_RX_DONE
    if suspect < n and batch.status[suspect] != FD_RX_DONE:
        if not drop:
            recover_one(worker, suspect)
            taken += 1
        batch.status[suspect] = FD_RX_DONE
    for i in range(n):
        if batch.status[i] != FD_RX_DONE:
            recover_one(worker, i)
            batch.status[i] = FD_RX_DONE
            taken += 1
    bump(worker.counters, FD_C_recovered_packets, taken)
    worker.udp.dirty = FD_BATCH
    fd_release32(&batch.count, 0)
    return taken


# Answer one datagram of the batch alone and send its reply; whatever was done to it before is
# done again (a reply sent twice does no harm).
cdef void recover_one(worker_t *worker, uint32_t i) noexcept nogil:
    cdef fd_batch_t *batch = worker.batch
    cdef uint32_t listener = batch.listener
    cdef mmsghdr *out = worker.udp.out
    if batch.status[i] == FD_RX_RECEIVED:
        parse_one(worker, listener, i)
    if batch.status[i] == FD_RX_PARSED:
        serve_one(worker, listener, i)
    if batch.status[i] == FD_RX_REPLY:
        if worker.config.listeners[listener].wildcard:
            answer_from(&batch.messages[i].msg_hdr)
        out[0].msg_hdr = batch.messages[i].msg_hdr
        out[0].msg_hdr.msg_name = &batch.peers[i]
        out[0].msg_hdr.msg_iov = &batch.vectors[i]
        out[0].msg_hdr.msg_iovlen = 1
        send_all(worker, worker.udp_fds[listener], out, 1)
    hand_clear(worker)
