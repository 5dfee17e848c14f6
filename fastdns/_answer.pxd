# SPDX-License-Identifier: Apache-2.0
# _answer.pxd: a stored answer becomes a reply; the one way to write one. nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport answer_view
from fastdns._shm cimport fd_query_t

# Write the reply to `query` into `out`, whose octets from 12 on hold the client's own question.
#   limit    octets, at least 512: the smaller of query.udp_size and the server's own; TCP: 65535
#   now_ms   CLOCK_BOOTTIME; TTLs are written less the entry's age, or as view.stale_ttl_s when the
#            age has reached ttl_s (with EDE 3, or 19 for an NXDOMAIN, if there is an OPT); a failure
#            that was an upstream's silence has the EDE of its mark
#   returns  the reply's length; TC is set in it when records had to be left out. Records are
#            left out whole: the answer section keeps what fits in order, authority and
#            additional keep whole RRsets
# ID, opcode, RD, CD are the query's; RA is 1; AA, rcode are the entry's; AD only if the query
# had AD or DO. An OPT goes out if one came in (size EDNS_PAYLOAD, DO copied, the upper bits of an
# extended rcode), with view.told in it; without OPT an extended rcode becomes SERVFAIL. TC of the
# entry is passed on.
cdef uint32_t compose_reply(const answer_view *view, const fd_query_t *query, uint8_t *out,
                            uint32_t limit, uint64_t now_ms) noexcept nogil

# Write a reply without records: an rcode of our own, 12 bits. With qname_len 0 the header alone
# (and OPT). `ede` (RFC 8914) goes out if the query had an OPT; FD_EDE_NONE: none.
cdef uint32_t compose_error(const fd_query_t *query, uint16_t rcode, uint16_t ede,
                            uint8_t *out) noexcept nogil
