# SPDX-License-Identifier: Apache-2.0
# _proto.pxd: protocol numbers and limits with their RFC section; no code.
# fastdns/proto.py mirrors what Python needs; tests/meta/test_proto.py checks that they agree.

cdef enum:
    HEADER_LEN = 12              # octets; RFC 1035 s4.1.1
    NAME_MAX = 255               # octets on the wire, root included; RFC 1035 s2.3.4
    LABEL_MAX = 63               # octets; RFC 1035 s2.3.4
    POINTER_BITS = 0xc0          # the two top bits of a compression pointer; RFC 1035 s4.1.4
    LABELS_MAX = 128             # 127 labels of one octet and the root; RFC 1035 s2.3.4
    POINTERS_MAX = 127           # jumps in one name: more than one a label has no use; RFC 9267 s2
    MESSAGE_MAX = 65535          # octets; RFC 1035 s4.2.2
    RR_FIXED_LEN = 10            # type, class, TTL, rdlength; RFC 1035 s4.1.3
    RR_MIN_LEN = 11              # root owner and the fixed part
    UDP_PAYLOAD_MIN = 512        # octets; smaller OPT sizes count as this; RFC 6891 s6.2.3
    EDNS_PAYLOAD = 1232          # octets; our advertised size, DNS flag day 2020
    OPT_RR_LEN = 11              # octets of an OPT without options; RFC 6891 s6.1.2
    EDNS_VERSION = 0             # RFC 6891 s6.1.3
    EDE_OPTION_LEN = 6           # octets of an EDE option without text; RFC 8914 s2
    QUERY_ADDITIONAL_MAX = 2     # records in a query's additional section: OPT and TSIG
    TTL_MAX = 0x7fffffff         # s; a TTL with the top bit set counts as 0; RFC 2181 s8
    STALE_REPLY_TTL = 30         # s; RFC 8767 s4
    FAILURE_TTL_MIN = 1          # s; RFC 9520 s3.2
    FAILURE_TTL_MAX = 300        # s; RFC 9520 s3.2

cdef enum:                       # header flags, second 16 bits; RFC 1035 s4.1.1, RFC 4035 s3
    FLAG_QR = 0x8000
    FLAG_OPCODE = 0x7800
    FLAG_AA = 0x0400
    FLAG_TC = 0x0200
    FLAG_RD = 0x0100
    FLAG_RA = 0x0080
    FLAG_Z = 0x0040
    FLAG_AD = 0x0020
    FLAG_CD = 0x0010
    FLAG_RCODE = 0x000f
    OPT_FLAG_DO = 0x8000         # in the OPT's TTL field, lower 16 bits; RFC 3225 s3

cdef enum:                       # rcodes; IANA registry
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    BADVERS = 16                 # RFC 6891 s9

cdef enum:                       # qtypes with a meaning to us; all others pass byte for byte (RFC 3597)
    TYPE_A = 1
    TYPE_NS = 2
    TYPE_MD = 3
    TYPE_MF = 4
    TYPE_CNAME = 5
    TYPE_SOA = 6
    TYPE_MB = 7
    TYPE_MG = 8
    TYPE_MR = 9
    TYPE_PTR = 12
    TYPE_HINFO = 13
    TYPE_MINFO = 14
    TYPE_MX = 15
    TYPE_RP = 17
    TYPE_AFSDB = 18
    TYPE_RT = 21
    TYPE_SIG = 24
    TYPE_PX = 26
    TYPE_AAAA = 28
    TYPE_NXT = 30
    TYPE_SRV = 33
    TYPE_NAPTR = 35
    TYPE_KX = 36
    TYPE_DNAME = 39
    TYPE_OPT = 41                # RFC 6891 s6.1.1
    TYPE_DS = 43
    TYPE_RRSIG = 46
    TYPE_TKEY = 249              # RFC 2930
    TYPE_TSIG = 250              # RFC 8945
    TYPE_IXFR = 251
    TYPE_AXFR = 252
    TYPE_MAILB = 253
    TYPE_MAILA = 254
    TYPE_ANY = 255

cdef enum:
    CLASS_IN = 1
    CLASS_CH = 3
    CLASS_NONE = 254             # RFC 2136 s2.4: UPDATE only
    CLASS_ANY = 255

cdef enum:                       # EDNS option codes
    OPTION_EDE = 15              # RFC 8914 s2

cdef enum:                       # RFC 8914 s4 info codes
    EDE_OTHER = 0
    EDE_STALE_ANSWER = 3
    EDE_CACHED_ERROR = 13
    EDE_NOT_READY = 14
    EDE_STALE_NXDOMAIN_ANSWER = 19
    EDE_NO_REACHABLE_AUTHORITY = 22
    EDE_NETWORK_ERROR = 23
