# SPDX-License-Identifier: Apache-2.0
"""A response from upstream: validated, measured, classified. Data plane: nogil, no allocation.

Exports ``parse_response``, ``response_matches`` and the rdata shapes that compression shares;
the contract stands in ``_response.pxd``. Everything that is later copied, aged, cut or
compressed without a look is checked here, once.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._name cimport get_u16, get_u32, name_length, name_same, name_skip
from fastdns._proto cimport (
    CLASS_IN,
    FLAG_OPCODE,
    FLAG_QR,
    FLAG_RCODE,
    HEADER_LEN,
    MESSAGE_MAX,
    NOERROR,
    NXDOMAIN,
    OPT_FLAG_DO,
    POINTER_BITS,
    RR_FIXED_LEN,
    RR_MIN_LEN,
    TTL_MAX,
    TYPE_ANY,
    TYPE_CNAME,
    TYPE_DNAME,
    TYPE_KX,
    TYPE_NAPTR,
    TYPE_NS,
    TYPE_OPT,
    TYPE_PX,
    TYPE_RRSIG,
    TYPE_SOA,
    TYPE_SRV,
)

cdef enum:
    POINTER_TO_QNAME = (POINTER_BITS << 8) | HEADER_LEN
    POINTER_TARGET = 0x3fff
    NO_PREFIX = 0xffffffff

cdef enum:                       # sections, as they come
    ANSWER = 0
    AUTHORITY = 1
    ADDITIONAL = 2

cdef extern from *:
    """
    /* Types whose rdata may hold compressed names (RFC 3597 s4; KX and DNAME by their own RFCs):
     * octets before, names, octets after, open end, strings, may be written compressed. */
    static const struct { uint8_t before, names, after, open_end, strings, compressible; } fd_shapes[40] = {
        [2]  = {0, 1, 0, 0, 0, 1},   /* NS */
        [3]  = {0, 1, 0, 0, 0, 1},   /* MD */
        [4]  = {0, 1, 0, 0, 0, 1},   /* MF */
        [5]  = {0, 1, 0, 0, 0, 1},   /* CNAME */
        [6]  = {0, 2, 20, 0, 0, 1},  /* SOA: serial, refresh, retry, expire, minimum */
        [7]  = {0, 1, 0, 0, 0, 1},   /* MB */
        [8]  = {0, 1, 0, 0, 0, 1},   /* MG */
        [9]  = {0, 1, 0, 0, 0, 1},   /* MR */
        [12] = {0, 1, 0, 0, 0, 1},   /* PTR */
        [14] = {0, 2, 0, 0, 0, 1},   /* MINFO */
        [15] = {2, 1, 0, 0, 0, 1},   /* MX */
        [17] = {0, 2, 0, 0, 0, 0},   /* RP */
        [18] = {2, 1, 0, 0, 0, 0},   /* AFSDB */
        [21] = {2, 1, 0, 0, 0, 0},   /* RT */
        [24] = {18, 1, 0, 1, 0, 0},  /* SIG: the signature follows the signer */
        [26] = {2, 2, 0, 0, 0, 0},   /* PX */
        [30] = {0, 1, 0, 1, 0, 0},   /* NXT: a bitmap follows */
        [33] = {6, 1, 0, 0, 0, 0},   /* SRV */
        [35] = {4, 1, 0, 0, 3, 0},   /* NAPTR: flags, services, regexp */
        [36] = {2, 1, 0, 0, 0, 0},   /* KX */
        [39] = {0, 1, 0, 0, 0, 0},   /* DNAME */
    };
    """
    const rdata_shape_t fd_shapes[40]

cdef enum:
    SHAPES = 40


cdef rdata_shape_t rdata_shape(uint32_t rr_type, uint32_t rr_class) noexcept nogil:
    cdef rdata_shape_t shape
    if rr_type >= <uint32_t>SHAPES or (
            rr_class != CLASS_IN and (rr_type == TYPE_SRV or rr_type == TYPE_NAPTR
                                      or rr_type == TYPE_PX or rr_type == TYPE_KX)):
        rr_type = 0                     # opaque; those four are defined for class IN alone
    memcpy(&shape, &fd_shapes[rr_type], sizeof(shape))
    return shape


cdef uint32_t rdata_prefix(const rdata_shape_t *shape, const uint8_t *rdata,
                           uint32_t rdata_len) noexcept nogil:
    cdef uint32_t prefix = shape.before
    cdef uint32_t strings = shape.strings
    while strings != 0:
        if prefix >= rdata_len:
            return NO_PREFIX
        prefix += 1 + rdata[prefix]
        strings -= 1
    return prefix if prefix <= rdata_len else <uint32_t>NO_PREFIX


# What one walk over the records gathers besides response_t.
ctypedef struct walk_t:
    const uint8_t *msg
    uint32_t msg_len
    uint32_t pos
    uint32_t qname_len
    uint64_t label_starts[4]     # bit i: a label of the question's name begins at its octet i
    uint32_t qtype
    uint32_t ext_rcode
    bint answered                # a record that is no alias, or is what was asked for
    bint has_ns                  # in the authority section


cdef inline void note_question_labels(walk_t *walk) noexcept nogil:
    cdef const uint8_t *name = walk.msg + HEADER_LEN
    cdef uint32_t off = 0
    walk.label_starts[0] = walk.label_starts[1] = walk.label_starts[2] = walk.label_starts[3] = 0
    while off < walk.qname_len:
        walk.label_starts[off >> 6] |= <uint64_t>1 << (off & 63)
        off += name[off] + 1


cdef inline bint is_question_label(const walk_t *walk, uint32_t pos) noexcept nogil:
    # Whether a label of the question begins at this octet of the message, which is below 275.
    cdef uint32_t off = pos - HEADER_LEN
    return off < walk.qname_len and (walk.label_starts[off >> 6] >> (off & 63)) & 1


cdef bint covers_ttl(const response_t *out, uint32_t start, uint32_t end) noexcept nogil:
    # Whether a TTL met so far has an octet in [start, end): the first that ends after start does,
    # if it begins before end.
    cdef uint32_t low = 0, high = out.ttl_count, middle
    while low < high:
        middle = (low + high) >> 1
        if <uint32_t>out.ttl_off[middle] + 4 <= start:
            low = middle + 1
        else:
            high = middle
    return low < out.ttl_count and out.ttl_off[low] < end


cdef bint unsteady_name(const walk_t *walk, uint32_t pos, const response_t *out) noexcept nogil:
    # Whether a good, compressed name could read otherwise in a reply. A pointer may aim anywhere
    # (at names in rdata that is opaque to us), but replies change TTLs and the letter case of the
    # question: labels made of a TTL's octets, or a pointer into the middle of one of the
    # question's labels, could become any other name, or a malformed one.
    cdef const uint8_t *msg = walk.msg
    cdef uint32_t part = 0              # where the labels that a pointer led to begin
    cdef uint32_t label
    while True:
        label = msg[pos]
        if label != 0 and label < <uint32_t>POINTER_BITS:
            pos += label + 1
            continue
        # What ends the part counts too: the root's octet, or a pointer's two.
        if part != 0 and covers_ttl(out, part, pos + (1 if label == 0 else 2)):
            return True
        if label == 0:
            return False
        pos = part = get_u16(msg + pos) & POINTER_TARGET
        if part < out.records_off:
            return not is_question_label(walk, part)


cdef inline uint32_t take_name(const walk_t *walk, uint32_t pos, uint32_t end, uint32_t *full_len,
                               response_t *out) noexcept nogil:
    # name_skip for a name that must end before `end`, and must not be unsteady. Most owners are a
    # pointer to the question.
    cdef uint32_t in_place
    if end - pos >= 2 and get_u16(walk.msg + pos) == POINTER_TO_QNAME:
        out.compressed = 1
        full_len[0] = walk.qname_len
        return 2
    in_place = name_skip(walk.msg, end, pos, full_len)
    if in_place != 0 and in_place != full_len[0]:
        out.compressed = 1
        if unsteady_name(walk, pos, out):
            return 0
    return in_place


cdef inline uint32_t usable_ttl(uint32_t ttl) noexcept nogil:
    return ttl if ttl <= <uint32_t>TTL_MAX else 0


cdef uint32_t plain_rdata(const walk_t *walk, uint32_t rr_type, uint32_t rr_class, uint32_t off,
                          uint32_t rdata_len, response_t *out) noexcept nogil:
    # Octets of the rdata without compression, or NO_PREFIX if it is malformed. `off` + rdata_len
    # lies within the message.
    cdef rdata_shape_t shape = rdata_shape(rr_type, rr_class)
    cdef uint32_t end = off + rdata_len
    cdef uint32_t plain, in_place, full, _i
    if shape.names == 0:
        return rdata_len
    plain = rdata_prefix(&shape, walk.msg + off, rdata_len)
    if plain == <uint32_t>NO_PREFIX:
        return NO_PREFIX
    off += plain
    for _i in range(shape.names):
        in_place = take_name(walk, off, end, &full, out)
        if in_place == 0:
            return NO_PREFIX
        off += in_place
        plain += full
    if end - off < shape.after or (end - off != shape.after and not shape.open_end):
        return NO_PREFIX
    return plain + (end - off)


cdef bint take_opt(walk_t *walk, uint32_t section, uint32_t start, uint32_t rdata_len,
                   response_t *out) noexcept nogil:
    # An OPT whose fixed part stands at walk.pos: RFC 6891 s6.1.1, s6.1.2.
    cdef const uint8_t *fixed = walk.msg + walk.pos
    if section != ADDITIONAL or out.opt_off != 0 or walk.pos != start + 1 or walk.msg[start] != 0:
        return False
    out.opt_off = start
    out.opt_len = 1 + RR_FIXED_LEN + rdata_len
    out.opt_size = get_u16(fixed + 2)
    out.opt_do = 1 if get_u16(fixed + 6) & OPT_FLAG_DO else 0
    walk.ext_rcode = fixed[4]
    return True


cdef inline void note_record(walk_t *walk, uint32_t section, uint32_t rr_type, uint32_t ttl,
                             uint32_t rdata_end, response_t *out) noexcept nogil:
    # What decides the response's kind. The rdata is known to be good.
    if section == ANSWER:
        if rr_type == walk.qtype or (rr_type != TYPE_CNAME and rr_type != TYPE_DNAME
                                     and rr_type != TYPE_RRSIG) or walk.qtype == TYPE_ANY:
            walk.answered = True
    elif section == AUTHORITY:
        if rr_type == TYPE_NS:
            walk.has_ns = True
        elif rr_type == TYPE_SOA and not out.has_soa:
            out.has_soa = 1
            out.soa_ttl = ttl
            out.soa_minimum = usable_ttl(get_u32(walk.msg + rdata_end - 4))


cdef bint take_record(walk_t *walk, uint32_t section, response_t *out) noexcept nogil:
    # One record at walk.pos: check it, note it, step over it.
    cdef uint32_t start = walk.pos
    cdef uint32_t full, in_place, rr_type, rr_class, rdata_len, ttl, plain
    in_place = take_name(walk, start, walk.msg_len, &full, out)
    if in_place == 0:
        return False
    walk.pos += in_place
    if walk.msg_len - walk.pos < <uint32_t>RR_FIXED_LEN:
        return False
    rr_type = get_u16(walk.msg + walk.pos)
    rr_class = get_u16(walk.msg + walk.pos + 2)
    rdata_len = get_u16(walk.msg + walk.pos + 8)
    if walk.msg_len - walk.pos - RR_FIXED_LEN < rdata_len:
        return False
    if rr_type == TYPE_OPT:
        if not take_opt(walk, section, start, rdata_len, out):
            return False
    else:
        ttl = usable_ttl(get_u32(walk.msg + walk.pos + 4))
        if out.ttl_count == 0 or ttl < out.min_ttl:
            out.min_ttl = ttl
        # Each record takes 11 octets of 65535 at least, so there is room for its offset.
        out.ttl_off[out.ttl_count] = <uint16_t>(walk.pos + 4)
        out.ttl_count += 1
        plain = plain_rdata(walk, rr_type, rr_class, walk.pos + RR_FIXED_LEN, rdata_len, out)
        if plain == <uint32_t>NO_PREFIX:
            return False
        note_record(walk, section, rr_type, ttl, walk.pos + RR_FIXED_LEN + rdata_len, out)
        out.plain_len += full + RR_FIXED_LEN + plain
    walk.pos += RR_FIXED_LEN + rdata_len
    return True


cdef uint8_t classify(const walk_t *walk, const response_t *out) noexcept nogil:
    if out.rcode == NXDOMAIN:
        return RESPONSE_NXDOMAIN
    if out.rcode != NOERROR:
        return RESPONSE_FAILURE
    if walk.answered:
        return RESPONSE_ANSWER
    if out.has_soa:
        return RESPONSE_NODATA
    if out.ancount != 0:
        return RESPONSE_ANSWER          # aliases alone: the rest is for the client to ask
    return RESPONSE_REFERRAL if walk.has_ns else RESPONSE_EMPTY


cdef void start_response(response_t *out) noexcept nogil:
    out.ancount = out.nscount = out.arcount = 0
    out.rcode = 0
    out.records_off = out.records_end = 0
    out.opt_off = out.opt_len = 0
    out.opt_size = 0
    out.kind = 0
    out.has_soa = out.compressed = out.opt_do = 0
    out.min_ttl = out.soa_ttl = out.soa_minimum = 0
    out.plain_len = 0
    out.ttl_count = 0


cdef response_rc parse_response(const uint8_t *msg, size_t msg_len, response_t *out) noexcept nogil:
    cdef walk_t walk
    cdef uint32_t counts[3]
    cdef uint32_t section, _i
    if msg_len < <size_t>HEADER_LEN:
        return RESPONSE_SHORT
    memcpy(&out.id, msg, 2)
    out.flags = get_u16(msg + 2)
    if not out.flags & FLAG_QR:
        return RESPONSE_SHORT
    start_response(out)
    if msg_len > <size_t>MESSAGE_MAX or out.flags & FLAG_OPCODE or get_u16(msg + 4) != 1:
        return RESPONSE_MALFORMED
    walk.msg = msg
    walk.msg_len = <uint32_t>msg_len
    walk.answered = walk.has_ns = False
    walk.ext_rcode = 0
    walk.qname_len = name_length(msg + HEADER_LEN, msg_len - HEADER_LEN)
    walk.pos = HEADER_LEN + walk.qname_len
    if walk.qname_len == 0 or walk.msg_len - walk.pos < 4:
        return RESPONSE_MALFORMED
    note_question_labels(&walk)
    walk.qtype = get_u16(msg + walk.pos)
    walk.pos += 4
    out.records_off = walk.pos
    out.plain_len = walk.pos
    for section in range(3):
        counts[section] = get_u16(msg + 6 + 2 * section)
    if (counts[0] + counts[1] + counts[2]) * RR_MIN_LEN > walk.msg_len - walk.pos:
        return RESPONSE_MALFORMED       # said at once, before a walk that would find it out
    for section in range(3):
        for _i in range(counts[section]):
            if not take_record(&walk, section, out):
                return RESPONSE_MALFORMED
    out.records_end = walk.pos
    out.ancount = <uint16_t>counts[0]
    out.nscount = <uint16_t>counts[1]
    out.arcount = <uint16_t>(counts[2] - (1 if out.opt_off != 0 else 0))
    out.rcode = <uint16_t>((walk.ext_rcode << 4) | (out.flags & FLAG_RCODE))
    out.kind = classify(&walk, out)
    return RESPONSE_OK


cdef bint response_matches(const uint8_t *msg, size_t msg_len, const uint8_t *qname,
                           uint32_t qname_len, uint16_t qtype, uint16_t qclass) noexcept nogil:
    # A question that is the same octet for octet, but for case, as a good name is one.
    cdef size_t end = HEADER_LEN + qname_len
    return (msg_len >= end + 4 and get_u16(msg + 4) == 1
            and name_same(msg + HEADER_LEN, qname, qname_len)
            and get_u16(msg + end) == qtype and get_u16(msg + end + 2) == qclass)
