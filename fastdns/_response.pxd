# SPDX-License-Identifier: Apache-2.0
# _response.pxd: a response from upstream: validated, measured, classified. nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    RECORDS_MAX = 5957           # RRs that fit a 64 KiB message: (65535 - 12) / 11, rounded up

ctypedef enum response_rc:
    RESPONSE_OK = 0
    RESPONSE_SHORT = -1          # no whole header, or QR=0
    RESPONSE_MALFORMED = -2      # lengths, labels or pointers that don't fit (RFC 9267), two OPTs

# RFC 2308 s2. NODATA: NOERROR, SOA in authority, and the answer section is empty or an alias chain
# that ends in nothing (CNAME, DNAME, their RRSIGs; s2.2). Of a chain, min_ttl bounds the life as
# well as the SOA.
ctypedef enum response_kind:
    RESPONSE_ANSWER = 1          # NOERROR with a record in the answer section that is not NODATA's
    RESPONSE_NODATA = 2
    RESPONSE_NXDOMAIN = 3
    RESPONSE_REFERRAL = 4        # NOERROR, no answer, NS but no SOA in authority
    RESPONSE_EMPTY = 5           # NOERROR with nothing that says for how long
    RESPONSE_FAILURE = 6         # any other rcode

ctypedef struct response_t:
    uint16_t id                  # as on the wire, not swapped; it and flags are good unless SHORT
    uint16_t flags               # header's second 16 bits, host order
    uint16_t ancount             # records, OPT not counted
    uint16_t nscount
    uint16_t arcount
    uint16_t rcode               # 12 bits, OPT's included
    uint32_t records_off         # first octet after the question
    uint32_t records_end         # first octet after the last record (trailing octets are ignored)
    uint32_t opt_off             # 0: no OPT
    uint32_t opt_len
    uint16_t opt_size
    uint8_t kind                 # response_kind
    uint8_t has_soa              # in the authority section
    uint8_t compressed           # a pointer was met
    uint8_t opt_do
    uint32_t min_ttl             # s, over all records but OPT, 0 if none; over 2^31-1 is 0 (RFC 2181 s8)
    uint32_t soa_ttl             # s, of that SOA
    uint32_t soa_minimum         # s, its MINIMUM field; RFC 2308 s4
    uint32_t plain_len           # octets of the message without compression and OPT; may exceed 65535
    uint32_t ttl_count
    uint16_t ttl_off[RECORDS_MAX]   # offset of each record's TTL in the message, OPT left out

# Check every length, label and pointer (a pointer must go backwards and the walk is bounded),
# fill `out`. Names inside rdata are checked for the types whose rdata may be compressed
# (RFC 3597 s4); other rdata passes byte for byte. A name may not be made of a TTL's octets, nor
# point into the middle of a label of the question, as replies change TTLs and the question's
# case. Question count must be 1. An OPT may stand anywhere in the additional section; its options
# are not looked at. TSIG and SIG(0) pass as ordinary records.
cdef response_rc parse_response(const uint8_t *msg, size_t msg_len, response_t *out) noexcept nogil

# How the rdata of a type is made up, where names in it may be compressed: octets (and for NAPTR
# three strings), names, octets. names 0: rdata of this type is taken as it is.
ctypedef struct rdata_shape_t:
    uint8_t before               # octets before the first name
    uint8_t names
    uint8_t after                # octets after the last name
    uint8_t open_end             # more of them may follow
    uint8_t strings              # character strings between `before` and the first name
    uint8_t compressible         # may be written with pointers: RFC 1035's types, RFC 3597 s4

cdef rdata_shape_t rdata_shape(uint32_t rr_type, uint32_t rr_class) noexcept nogil

# Octets of the rdata before its first name, or 0xffffffff where the strings don't fit.
cdef uint32_t rdata_prefix(const rdata_shape_t *shape, const uint8_t *rdata,
                           uint32_t rdata_len) noexcept nogil

# Whether the response's question is (qname, qtype, qclass); qname in lower case; RFC 5452 s4.2.
# `out` of parse_response need not be there: the check stands alone and is bounded.
cdef bint response_matches(const uint8_t *msg, size_t msg_len, const uint8_t *qname,
                           uint32_t qname_len, uint16_t qtype, uint16_t qclass) noexcept nogil
