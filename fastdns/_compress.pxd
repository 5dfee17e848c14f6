# SPDX-License-Identifier: Apache-2.0
# _compress.pxd: write a response's records anew, compressed and without OPT. nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._response cimport response_t

cdef enum:
    COMPRESS_SLOTS = 4096        # power of two
    COMPRESS_NAMES_MAX = 2048    # suffixes remembered, so that half of the slots stay free

# Room that one rewriting needs; too large for a stack, so the caller keeps one. All zeros before
# the first use; each use leaves it so.
ctypedef struct compress_room_t:
    uint16_t offset[4096]        # open hash of name suffixes already written: offset in the reply
    uint16_t check[4096]         # more of the suffix's hash
    uint16_t used[2048]          # slots to clear afterwards
    uint32_t used_count

# Write the records of `msg` (parsed as `response`) as they would follow this question in a
# reply, names compressed against the question and each other (RFC 1035 s4.1.4), OPT left out. In
# rdata, names are compressed for RFC 1035's types and written whole for the others of RFC 3597 s4.
# Letter case stays as it came (RFC 4343), but what points into the question takes the client's.
#   out        at least 65536 octets: the records only; pointers count from the reply's start
#   ttl_off    filled: offset of each TTL from `out`, `response.ttl_count` of them
#   returns    octets written, or 0 if they would not fit a message of 65535 octets
cdef uint32_t compress_records(const uint8_t *msg, const response_t *response,
                               compress_room_t *room, uint8_t *out,
                               uint16_t *ttl_off) noexcept nogil
