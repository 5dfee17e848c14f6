# SPDX-License-Identifier: Apache-2.0
# _serve.pxd: one query, from parsed to answered or chained; the same for UDP and TCP. nogil.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_query_t
from fastdns.worker._state cimport origin_t, worker_t

# Parse a message that came over TCP and answer it.
#   out       at least 65535 octets, not overlapping msg
#   returns   > 0: the reply's length in out; 0: nothing to send now (it waits, or was dropped)
# When a query has to wait, whoever takes its client place calls tcp_waits; its reply comes later
# through tcp_reply.
cdef uint32_t serve_tcp(worker_t *worker, const uint8_t *msg, uint32_t msg_len,
                        const origin_t *origin, uint8_t *out) noexcept nogil

# Answer a parsed query from the cache, or chain it to a pending question.
#   out       the client's question stands at its offset 12 (UDP: the packet itself)
#   limit     octets that the reply may have
cdef uint32_t serve_query(worker_t *worker, const fd_query_t *query, const uint8_t *question,
                          const origin_t *origin, uint8_t *out, uint32_t limit) noexcept nogil

# Count an rcode of our own by its name.
cdef void count_error(worker_t *worker, int rcode) noexcept nogil
