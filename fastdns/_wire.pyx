# SPDX-License-Identifier: Apache-2.0
"""A query from the wire, in one pass. Data plane: nogil, no allocation.

``parse_query`` is the only export; its contract stands in ``_wire.pxd``. Stricter than
node-cache where a lie in the packet costs nothing to notice: counts must match the content and
nothing may follow the last record (docs/differences.md).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._name cimport get_u16, get_u32, key_extra, name_fold_hash, name_length, name_skip
from fastdns._proto cimport (
    CLASS_ANY,
    CLASS_NONE,
    EDNS_VERSION,
    FLAG_CD,
    FLAG_OPCODE,
    FLAG_QR,
    HEADER_LEN,
    OPT_FLAG_DO,
    QUERY_ADDITIONAL_MAX,
    RR_FIXED_LEN,
    TYPE_MAILA,
    TYPE_OPT,
    TYPE_TKEY,
    UDP_PAYLOAD_MIN,
)
from fastdns._shm cimport FD_EDNS_DO, FD_EDNS_PRESENT, FD_KEY_CD, FD_KEY_DO, fd_query_t

cdef enum:
    COUNTS_QUERY = 0x00010000    # QDCOUNT 1, ANCOUNT 0, as one word
    OPTION_HEADER_LEN = 4        # code and length; RFC 6891 s6.1.2


cdef inline bint options_add_up(const uint8_t *p, uint32_t remaining) noexcept nogil:
    # Whether the options fill the rdata exactly. At least four octets a turn.
    cdef uint32_t option_len
    while remaining != 0:
        if remaining < <uint32_t>OPTION_HEADER_LEN:
            return False
        option_len = get_u16(p + 2)
        p += OPTION_HEADER_LEN
        remaining -= OPTION_HEADER_LEN
        if remaining < option_len:
            return False
        p += option_len
        remaining -= option_len
    return True


cdef parse_rc parse_additional(const uint8_t *pkt, uint32_t pkt_len, uint32_t pos,
                               uint32_t count, fd_query_t *out) noexcept nogil:
    # The additional section: one OPT at most, others (TSIG, SIG(0)) skipped by length. The
    # packet must end with it.
    cdef parse_rc rc = PARSE_OK
    cdef uint32_t rr_type, rdata_len, size, owner_len, full_len
    if count > <uint32_t>QUERY_ADDITIONAL_MAX:
        return PARSE_FORMERR
    while count != 0:
        count -= 1
        if pos < pkt_len and pkt[pos] == 0:
            owner_len = 1
        else:
            owner_len = name_skip(pkt, pkt_len, pos, &full_len)
            if owner_len == 0:
                return PARSE_FORMERR
        pos += owner_len
        if pkt_len - pos < <uint32_t>RR_FIXED_LEN:
            return PARSE_FORMERR
        rr_type = get_u16(pkt + pos)
        rdata_len = get_u16(pkt + pos + 8)
        if pkt_len - pos - RR_FIXED_LEN < rdata_len:
            return PARSE_FORMERR
        if rr_type == TYPE_OPT:
            # The owner must be the root, written as such (RFC 6891 s6.1.2); one OPT (s6.1.1).
            if pkt[pos - 1] != 0 or owner_len != 1 or out.edns != 0:
                return PARSE_FORMERR
            out.edns = FD_EDNS_PRESENT
            if pkt[pos + 5] != EDNS_VERSION:
                rc = PARSE_BADVERS      # what else it holds has a meaning unknown to us
            else:
                if get_u16(pkt + pos + 6) & OPT_FLAG_DO:
                    out.edns = FD_EDNS_PRESENT | FD_EDNS_DO
                    out.key_flags |= FD_KEY_DO
                size = get_u16(pkt + pos + 2)
                if size > <uint32_t>UDP_PAYLOAD_MIN:
                    out.udp_size = <uint16_t>size
                if not options_add_up(pkt + pos + RR_FIXED_LEN, rdata_len):
                    return PARSE_FORMERR
        pos += RR_FIXED_LEN + rdata_len
    return rc if pos == pkt_len else PARSE_FORMERR


cdef inline parse_rc judge_question(uint32_t qtype, uint32_t qclass) noexcept nogil:
    # ANY passes (RFC 8482 leaves the answer to upstream). Transfers and the other meta types
    # are not for a cache; OPT can't be asked for at all (RFC 6891 s6.1.1).
    if qtype == TYPE_OPT:
        return PARSE_FORMERR
    if qtype - TYPE_TKEY <= <uint32_t>(TYPE_MAILA - TYPE_TKEY):
        return PARSE_REFUSED            # TKEY, TSIG, IXFR, AXFR, MAILB, MAILA
    if qclass == CLASS_ANY or qclass == CLASS_NONE:
        return PARSE_REFUSED
    return PARSE_OK


cdef parse_rc parse_query(const uint8_t *pkt, size_t pkt_len, const uint64_t *hash_key,
                          uint16_t group, uint8_t variant, fd_query_t *out) noexcept nogil:
    cdef uint32_t pos, name_len, additional
    cdef parse_rc rc
    if pkt_len < <size_t>HEADER_LEN:
        return PARSE_DROP_SHORT
    memcpy(&out.id, pkt, 2)
    out.flags = get_u16(pkt + 2)
    out.key_hash = 0
    out.qtype = 0
    out.qclass = 0
    out.udp_size = UDP_PAYLOAD_MIN
    out.group = group
    out.variant = variant
    out.key_flags = FD_KEY_CD if out.flags & FLAG_CD else 0
    out.edns = 0
    out.qname_len = 0
    if out.flags & (FLAG_QR | FLAG_OPCODE):
        return PARSE_DROP_RESPONSE if out.flags & FLAG_QR else PARSE_NOTIMP
    if get_u32(pkt + 4) != COUNTS_QUERY or get_u16(pkt + 8) != 0:
        return PARSE_FORMERR
    name_len = name_length(pkt + HEADER_LEN, pkt_len - HEADER_LEN)
    pos = HEADER_LEN + name_len
    if name_len == 0 or pkt_len - pos < 4:
        return PARSE_FORMERR
    out.qtype = get_u16(pkt + pos)
    out.qclass = get_u16(pkt + pos + 2)
    out.qname_len = <uint8_t>name_len
    pos += 4
    additional = get_u16(pkt + 10)
    if additional != 0:
        # A message is at most 65535 octets over either transport.
        rc = parse_additional(pkt, <uint32_t>pkt_len, pos, additional, out)
        if rc != PARSE_OK:
            return rc
    elif pos != pkt_len:
        return PARSE_FORMERR
    rc = judge_question(out.qtype, out.qclass)
    if rc != PARSE_OK:
        return rc
    out.key_hash = name_fold_hash(
        pkt + HEADER_LEN, name_len,
        key_extra(group, variant, out.key_flags, out.qtype, out.qclass), hash_key, out.qname)
    return PARSE_OK
