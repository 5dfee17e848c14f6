# SPDX-License-Identifier: Apache-2.0
# _wire.pxd: a query from the wire. Data plane: nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint64_t

from fastdns._shm cimport fd_query_t

ctypedef enum parse_rc:          # > 0 is the rcode to answer with, negative means send nothing
    PARSE_DROP_SHORT = -1        # under 12 octets
    PARSE_DROP_RESPONSE = -2     # QR=1
    PARSE_OK = 0
    PARSE_FORMERR = 1
    PARSE_NOTIMP = 4
    PARSE_REFUSED = 5            # AXFR, IXFR, a meta class or type that a cache can't answer
    PARSE_BADVERS = 16           # RFC 6891 s6.1.3

# One pass over a query: header, a single question, OPT (size, DO, options skipped by length).
#   pkt_len  at most 65535
#   hash_key, group, variant   go into key_hash
#   out     whole for PARSE_OK. For an rcode: id, flags, edns and, if the question could be
#           read, qname_len, qtype, qclass (qname_len 0: reply with a bare header)
#   caller  worker; never blocks, never allocates
cdef parse_rc parse_query(const uint8_t *pkt, size_t pkt_len, const uint64_t *hash_key,
                          uint16_t group, uint8_t variant, fd_query_t *out) noexcept nogil
