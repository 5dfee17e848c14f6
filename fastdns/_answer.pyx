# SPDX-License-Identifier: Apache-2.0
"""A stored answer becomes a reply: the one way to write one. Data plane: nogil, no allocation.

Exports ``compose_reply`` and ``compose_error``; their contract stands in ``_answer.pxd``. The
reply is written around the client's own question, which stands at offset 12 already: records
first, header last, so that a process that dies in between leaves a query that can be parsed.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._cache cimport answer_view, entry_age_s, entry_stale, silence_ede
from fastdns._name cimport get_u16, get_u32, name_expand, name_same, name_skip, put_u16, put_u32
from fastdns._proto cimport (
    EDE_OPTION_LEN,
    EDE_STALE_ANSWER,
    EDE_STALE_NXDOMAIN_ANSWER,
    EDNS_PAYLOAD,
    FLAG_AA,
    FLAG_AD,
    FLAG_CD,
    FLAG_OPCODE,
    FLAG_QR,
    FLAG_RA,
    FLAG_RCODE,
    FLAG_RD,
    FLAG_TC,
    HEADER_LEN,
    NAME_MAX,
    OPT_FLAG_DO,
    OPT_RR_LEN,
    OPTION_EDE,
    SERVFAIL,
    TYPE_OPT,
    UDP_PAYLOAD_MIN,
)
from fastdns._rotate cimport part_t, rotate_parts
from fastdns._shm cimport (
    FD_EDE_NONE,
    FD_EDNS_DO,
    FD_EDNS_PRESENT,
    FD_ENTRY_KEEP_TTL,
    FD_ENTRY_NXDOMAIN,
    fd_entry_t,
    fd_query_t,
)

cdef enum:
    TTL_TO_RDATA = 6             # octets from a TTL to the rdata: TTL and rdlength
    TTL_FROM_OWNER = 5           # octets from a record's start to its TTL at least: root, type, class


# How much of an answer goes into a reply: whole records, from the front.
ctypedef struct kept_t:
    uint32_t octets
    uint32_t records
    bint truncated


cdef inline uint32_t opt_octets(const fd_query_t *query, uint32_t ede, uint32_t told_len) noexcept nogil:
    if not query.edns & FD_EDNS_PRESENT:
        return 0
    return OPT_RR_LEN + (EDE_OPTION_LEN if ede != FD_EDE_NONE else 0) + told_len


cdef inline void write_opt(uint8_t *p, const fd_query_t *query, uint32_t ext_rcode, uint32_t ede,
                           const uint8_t *told, uint32_t told_len) noexcept nogil:
    # RFC 6891 s6.1.2: root owner, our size, upper rcode bits, version 0, DO copied (RFC 3225 s3).
    p[0] = 0
    put_u16(p + 1, TYPE_OPT)
    put_u16(p + 3, EDNS_PAYLOAD)
    put_u32(p + 5, (ext_rcode << 24) | (OPT_FLAG_DO if query.edns & FD_EDNS_DO else 0))
    put_u16(p + 9, told_len + (EDE_OPTION_LEN if ede != FD_EDE_NONE else 0))
    if told_len != 0:
        memcpy(p + OPT_RR_LEN, told, told_len)
    if ede != FD_EDE_NONE:
        p += OPT_RR_LEN + told_len
        put_u16(p, OPTION_EDE)
        put_u16(p + 2, EDE_OPTION_LEN - 4)
        put_u16(p + 4, ede)


cdef bint same_owner(const uint8_t *reply, uint32_t reply_len, uint32_t a, uint32_t b) noexcept nogil:
    # Whether the names at two offsets of the reply are one but for case. Only for what does not
    # fit; the names were checked before they were stored, and are checked again here because a
    # walk over a bad one would not end.
    cdef uint8_t first[NAME_MAX]
    cdef uint8_t second[NAME_MAX]
    cdef uint32_t first_len, second_len
    if a == b:
        return True
    if name_skip(reply, reply_len, a, &first_len) == 0 or name_skip(reply, reply_len, b, &second_len) == 0:
        return False
    if first_len != second_len:
        return False
    name_expand(reply, a, first)
    name_expand(reply, b, second)
    return name_same(first, second, first_len)


cdef inline uint32_t record_end(const answer_view *view, uint32_t record) noexcept nogil:
    # The octet after a record that is known to lie within view.records.
    cdef uint32_t ttl_off = view.ttl_off[record]
    return ttl_off + TTL_TO_RDATA + get_u16(view.records + ttl_off + 4)


cdef inline uint32_t record_start(const answer_view *view, uint32_t record) noexcept nogil:
    return record_end(view, record - 1) if record != 0 else 0


cdef bint same_set(const answer_view *view, const uint8_t *reply, uint32_t base, uint32_t room,
                   uint32_t a, uint32_t b) noexcept nogil:
    # Whether two neighbouring records are of one RRset. Of each, what stands before the TTL lies
    # within `room`.
    if get_u32(view.records + view.ttl_off[a] - 4) != get_u32(view.records + view.ttl_off[b] - 4):
        return False                    # type and class
    return same_owner(reply, base + room, base + record_start(view, a), base + record_start(view, b))


cdef inline bint reaches_ttl(const answer_view *view, uint32_t room, uint32_t record) noexcept nogil:
    # Whether a record's owner, type and class lie within `room`; the one before it does.
    return (record < view.ttl_avail and view.ttl_off[record] <= room
            and view.ttl_off[record] >= record_start(view, record) + TTL_FROM_OWNER)


cdef uint32_t count_fitting(const answer_view *view, uint32_t room) noexcept nogil:
    # How many records lie whole in the first `room` octets, wherever their offsets claim to be.
    cdef uint32_t known = view.entry.ttl_count
    cdef uint32_t record = 0, start = 0, ttl_off, end
    if known > view.ttl_avail:
        known = view.ttl_avail
    while record < known:
        ttl_off = view.ttl_off[record]
        if ttl_off < start + TTL_FROM_OWNER or ttl_off + TTL_TO_RDATA > room:
            break
        end = record_end(view, record)
        if end > room:
            break
        start = end
        record += 1
    return record


cdef void keep_what_fits(const answer_view *view, const uint8_t *reply, uint32_t base,
                         uint32_t room, kept_t *kept) noexcept nogil:
    # What of an answer that does not fit goes into `room` octets; its first `room` octets stand
    # at reply + base. The answer section keeps whole records in order. Authority and additional
    # keep whole RRsets, and an additional section cut short is no truncation (RFC 2181 s9).
    cdef uint32_t answers = view.entry.ancount
    cdef uint32_t required = answers + view.entry.nscount
    cdef uint32_t total = required + view.entry.arcount
    cdef uint32_t records = count_fitting(view, room)
    cdef uint32_t first, left_out
    if records < total and records > answers:
        first = answers if records < required else required
        # The RRset that the first record left out belongs to goes with it. Where not even that
        # record's type lies within `room`, the last set that fitted might be the one.
        left_out = records
        if not reaches_ttl(view, room, left_out):
            left_out -= 1
        while records > first and same_set(view, reply, base, room, records - 1, left_out):
            records -= 1
    kept.records = records
    kept.octets = record_start(view, records)
    kept.truncated = records < required


cdef inline void age_ttls(uint8_t *records, const uint16_t *ttl_off, const kept_t *kept,
                          uint32_t age_s, bint stale, uint32_t stale_ttl_s) noexcept nogil:
    cdef uint32_t i, off, ttl_s
    for i in range(kept.records):
        off = ttl_off[i]
        if off + 4 > kept.octets:       # never, unless the entry is damaged
            return
        if stale:
            put_u32(records + off, stale_ttl_s)
            continue
        ttl_s = get_u32(records + off)
        put_u32(records + off, ttl_s - age_s if ttl_s > age_s else 0)


cdef inline uint32_t min_u32(uint32_t a, uint32_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint32_t section_count(uint32_t records, uint32_t before, uint32_t count) noexcept nogil:
    # How many of a section's `count` records are among the first `records` of the message.
    return 0 if records <= before else min_u32(records - before, count)


cdef void copy_turned(const answer_view *view, uint32_t octets, uint8_t *out) noexcept nogil:
    # The first octets of the records in another order; they are all there.
    cdef part_t parts[4]
    cdef uint32_t used, i
    used = rotate_parts(view.entry, view.spin, octets, parts)
    for i in range(used):
        memcpy(out, view.records + parts[i].off, parts[i].len)
        out += parts[i].len


cdef inline void copy_records(const answer_view *view, uint32_t octets, uint8_t *out) noexcept nogil:
    # The first octets of the records in the order that the reply is to have.
    if view.spin == 0 or view.records_avail < view.entry.records_len:
        memcpy(out, view.records, octets)
    else:
        copy_turned(view, octets, out)


cdef uint32_t compose_reply(const answer_view *view, const fd_query_t *query, uint8_t *out,
                            uint32_t limit, uint64_t now_ms) noexcept nogil:
    cdef const fd_entry_t *entry = view.entry
    cdef uint32_t age_s = entry_age_s(entry, now_ms)
    cdef bint stale = entry_stale(entry, age_s)
    cdef uint32_t ede = silence_ede(entry)
    cdef uint32_t base = HEADER_LEN + query.qname_len + 4
    cdef uint32_t flags, opt_len, room, end
    cdef kept_t kept
    if limit < UDP_PAYLOAD_MIN:
        limit = UDP_PAYLOAD_MIN
    if entry.marks & FD_ENTRY_KEEP_TTL:
        age_s = 0
    if stale:
        ede = EDE_STALE_NXDOMAIN_ANSWER if entry.kind == FD_ENTRY_NXDOMAIN else EDE_STALE_ANSWER
    opt_len = opt_octets(query, ede, view.told_len)
    room = limit - base - opt_len
    if (entry.records_len <= room and entry.records_len <= view.records_avail
            and entry.ttl_count <= view.ttl_avail):
        copy_records(view, entry.records_len, out + base)
        kept.octets = entry.records_len
        kept.records = entry.ttl_count
        kept.truncated = False
    else:
        room = min_u32(min_u32(room, entry.records_len), view.records_avail)
        copy_records(view, room, out + base)
        keep_what_fits(view, out, base, room, &kept)
    age_ttls(out + base, view.ttl_off, &kept, age_s, stale, view.stale_ttl_s)
    end = base + kept.octets
    flags = entry.msg_flags & (FLAG_AA | FLAG_TC | FLAG_RCODE)
    flags |= FLAG_QR | FLAG_RA | (query.flags & (FLAG_OPCODE | FLAG_RD | FLAG_CD))
    if kept.truncated:
        flags |= FLAG_TC
    if entry.msg_flags & FLAG_AD and (query.flags & FLAG_AD or query.edns & FD_EDNS_DO):
        flags |= FLAG_AD                # RFC 6840 s5.8
    if opt_len != 0:
        write_opt(out + end, query, entry.ext_rcode, ede, view.told, view.told_len)
        end += opt_len
    elif entry.ext_rcode != 0:          # four bits of an extended rcode mean something else
        flags = (flags & ~<uint32_t>FLAG_RCODE) | SERVFAIL
    memcpy(out, &query.id, 2)
    put_u16(out + 2, flags)
    put_u16(out + 4, 1)
    put_u16(out + 6, min_u32(kept.records, entry.ancount))
    put_u16(out + 8, section_count(kept.records, entry.ancount, entry.nscount))
    put_u16(out + 10, section_count(kept.records, <uint32_t>entry.ancount + entry.nscount,
                                    entry.arcount) + (1 if opt_len != 0 else 0))
    return end


cdef uint32_t compose_error(const fd_query_t *query, uint16_t rcode, uint16_t ede,
                            uint8_t *out) noexcept nogil:
    cdef uint32_t end = HEADER_LEN
    cdef uint32_t opt_len = opt_octets(query, ede, 0)
    cdef uint32_t flags = FLAG_QR | (query.flags & FLAG_OPCODE)
    if query.qname_len != 0:
        end += query.qname_len + 4
    if opt_len != 0:
        write_opt(out + end, query, rcode >> 4, ede, NULL, 0)
        end += opt_len
    elif rcode > FLAG_RCODE:
        rcode = SERVFAIL
    if not query.flags & FLAG_OPCODE:   # the other bits have no meaning outside of QUERY
        flags |= FLAG_RA | (query.flags & (FLAG_RD | FLAG_CD))
    memcpy(out, &query.id, 2)
    put_u16(out + 2, flags | (rcode & FLAG_RCODE))
    put_u16(out + 4, 1 if query.qname_len != 0 else 0)
    put_u32(out + 6, 0)
    put_u16(out + 10, 1 if opt_len != 0 else 0)
    return end
