# SPDX-License-Identifier: Apache-2.0
"""Protocol numbers for Python: what ``_proto.pxd`` is for the compiled modules.

RFC sections stand there; ``tests/meta/test_proto.py`` checks that both agree.
"""

from enum import IntEnum, IntFlag
from typing import Final

HEADER_LEN: Final = 12
NAME_MAX: Final = 255
LABEL_MAX: Final = 63
POINTER_BITS: Final = 0xC0
LABELS_MAX: Final = 128
POINTERS_MAX: Final = 127
MESSAGE_MAX: Final = 65535
RR_FIXED_LEN: Final = 10
RR_MIN_LEN: Final = 11
UDP_PAYLOAD_MIN: Final = 512
EDNS_PAYLOAD: Final = 1232
OPT_RR_LEN: Final = 11
EDNS_VERSION: Final = 0
EDE_OPTION_LEN: Final = 6
QUERY_ADDITIONAL_MAX: Final = 2
TTL_MAX: Final = 0x7FFFFFFF
STALE_REPLY_TTL: Final = 30
FAILURE_TTL_MIN: Final = 1
FAILURE_TTL_MAX: Final = 300


class Flag(IntFlag):
    """The header's second 16 bits; OPCODE and RCODE are masks."""

    QR = 0x8000
    OPCODE = 0x7800
    AA = 0x0400
    TC = 0x0200
    RD = 0x0100
    RA = 0x0080
    Z = 0x0040
    AD = 0x0020
    CD = 0x0010
    RCODE = 0x000F


#: In the lower half of the OPT's TTL field.
OPT_FLAG_DO: Final = 0x8000


class Rcode(IntEnum):
    """Response codes, 12 bits with EDNS."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    BADVERS = 16


class RRType(IntEnum):
    """Types with a meaning to us; all others pass byte for byte."""

    A = 1
    NS = 2
    MD = 3
    MF = 4
    CNAME = 5
    SOA = 6
    MB = 7
    MG = 8
    MR = 9
    PTR = 12
    HINFO = 13
    MINFO = 14
    MX = 15
    RP = 17
    AFSDB = 18
    RT = 21
    SIG = 24
    PX = 26
    AAAA = 28
    NXT = 30
    SRV = 33
    NAPTR = 35
    KX = 36
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254
    ANY = 255


class RRClass(IntEnum):
    """Classes."""

    IN = 1
    CH = 3
    NONE = 254
    ANY = 255


class Option(IntEnum):
    """EDNS option codes."""

    EDE = 15


class Ede(IntEnum):
    """Info codes of an extended DNS error."""

    OTHER = 0
    STALE_ANSWER = 3
    CACHED_ERROR = 13
    NOT_READY = 14
    STALE_NXDOMAIN_ANSWER = 19
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23
