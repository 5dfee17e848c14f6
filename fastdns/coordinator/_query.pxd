# SPDX-License-Identifier: Apache-2.0
# _query.pxd: the query that goes to an upstream. nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns.coordinator._state cimport change_t, question_t

# Write the query for `question` to `out` (QUERY_ROOM octets); returns its length.
#   id     as on the wire, not swapped
#   edns   with an OPT: EDNS_PAYLOAD, DO from the key
#   change NULL, or what has options for that OPT
# RD is the client's, CD the key's. AD=1 asks for the upstream's word on the answer's authenticity
# without DNSSEC records (RFC 6840 s5.7): it is kept with the answer and given to those who ask.
cdef uint32_t write_query(const question_t *question, const uint8_t *qname, uint16_t id,
                          bint edns, const change_t *change, uint8_t *out) noexcept nogil
