# SPDX-License-Identifier: Apache-2.0
# _serve.pxd: one query, from parsed to answered or chained; the same for UDP and TCP. nogil.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._proto cimport CLASS_IN
from fastdns._shm cimport FD_GROUP_ANY_CLASS, FD_GROUP_FAMILY, fd_query_t
from fastdns._wire cimport PARSE_OK, PARSE_REFUSED, parse_rc
from fastdns.worker._state cimport origin_t, worker_t

# Parse a message that came over TCP and answer it.
#   out       at least 65535 octets, not overlapping msg
#   returns   > 0: the reply's length in out; 0: nothing to send now (it waits, or was dropped)
# When a query has to wait, whoever takes its client place calls tcp_waits; its reply comes later
# through tcp_reply.
cdef uint32_t serve_tcp(worker_t *worker, const uint8_t *msg, uint32_t msg_len,
                        const origin_t *origin, uint8_t *out) noexcept nogil

# What the configuration says about a query that was parsed well, before the look-up: REFUSED for a
# class that no block takes, and the variant of the key where answers differ by the client's family.
cdef inline parse_rc admit_query(worker_t *worker, const uint8_t *question, uint32_t listener,
                                 fd_query_t *query) noexcept nogil:
    cdef uint8_t flags = worker.config.listeners[listener].flags
    if query.qclass != CLASS_IN and not flags & FD_GROUP_ANY_CLASS:
        return PARSE_REFUSED
    if flags & FD_GROUP_FAMILY:
        choose_variant(worker, question, listener, query)
    return PARSE_OK

cdef void choose_variant(worker_t *worker, const uint8_t *question, uint32_t listener,
                         fd_query_t *query) noexcept nogil

# Answer a parsed query from the cache, or chain it to a pending question, or refuse it.
#   out       the client's question stands at its offset 12 (UDP: the packet itself)
#   limit     octets that the reply may have
cdef uint32_t serve_query(worker_t *worker, const fd_query_t *query, const uint8_t *question,
                          const origin_t *origin, uint8_t *out, uint32_t limit) noexcept nogil

# Write a reply of our own to what parsing or admit_query did not let pass, and count it.
cdef uint32_t serve_error(worker_t *worker, const fd_query_t *query, parse_rc rc, const origin_t *origin,
                          uint8_t *out) noexcept nogil

# Count a packet that is not answered.
cdef void count_dropped(worker_t *worker, parse_rc rc) noexcept nogil
