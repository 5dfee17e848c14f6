# SPDX-License-Identifier: Apache-2.0
"""From an upstream's response to the answer that is kept and handed on."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._compress cimport compress_records, compress_room_t
from fastdns._name cimport get_u16, get_u32, put_u32
from fastdns._proto cimport (
    FAILURE_TTL_MAX,
    FLAG_AA,
    FLAG_AD,
    FLAG_RA,
    FLAG_RCODE,
    FLAG_TC,
    HEADER_LEN,
    MESSAGE_MAX,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    SERVFAIL,
    TTL_MAX,
    TYPE_ANY,
    TYPE_SOA,
)
from fastdns._response cimport (
    RESPONSE_EMPTY,
    RESPONSE_FAILURE,
    RESPONSE_NODATA,
    RESPONSE_NXDOMAIN,
    RESPONSE_REFERRAL,
    response_t,
)
from fastdns._shm cimport (
    FD_BLOCK_KEEP_TTL,
    FD_BLOCK_PREFER_POSITIVE,
    FD_ENTRY_FAILURE,
    FD_ENTRY_KEEP_TTL,
    FD_ENTRY_NODATA,
    FD_ENTRY_NXDOMAIN,
    FD_ENTRY_POSITIVE,
    FD_ENTRY_PREFERRED,
    FD_ENTRY_QNAME_OFF,
    FD_NO_ZONE,
    FD_Q_ALONE,
    fd_block_t,
    fd_entry_records_off,
    fd_entry_t,
    fd_entry_ttl_off,
)
from fastdns.coordinator._state cimport question_t

cdef enum:
    META_TYPES = 128             # first of the Q and meta types, 255 the last; RFC 6895 s3.1
    NO_TTL = 0xffffffff


cdef inline bint uniform(const source_t *source) noexcept nogil:
    return source.block.uniform_ttl and not source.keep & KEEP_OUTSIDE


cdef judge_rc judge(const source_t *source, const question_t *question, const uint8_t *qname,
                    const uint8_t *msg, const response_t *response, uint64_t now_ms,
                    compress_room_t *room, fd_entry_t *entry) noexcept nogil:
    cdef uint32_t ttl_s
    fill_header(source, question, qname, response, now_ms, entry)
    if not take_records(msg, response, room, entry):
        return JUDGE_UNUSABLE
    if uniform(source):
        ttl_s = uniform_ttl(source.block, response)
        write_ttl(entry, ttl_s)
    else:
        ttl_s = own_ttls(source, response, entry)
    entry.ttl_s = ttl_s
    if not keepable(source, question, response) or ttl_s == 0:
        return JUDGE_HAND_ON
    return JUDGE_STORE


cdef void make_failure(response_t *response, uint16_t rcode, uint8_t qname_len) noexcept nogil:
    memset(response, 0, sizeof(response_t))
    response.kind = RESPONSE_FAILURE
    response.rcode = response.flags = rcode
    response.plain_len = HEADER_LEN + qname_len + 4u


cdef judge_rc judge_silence(const source_t *source, const question_t *question, const uint8_t *qname,
                            uint64_t now_ms, response_t *response, fd_entry_t *entry) noexcept nogil:
    make_failure(response, SERVFAIL, question.qname_len)
    fill_header(source, question, qname, response, now_ms, entry)
    entry.ttl_s = failure_ttl(source.block)
    if entry.ttl_s == 0 or not keepable(source, question, response):
        return JUDGE_HAND_ON
    return JUDGE_STORE


cdef void judge_none(const question_t *question, const uint8_t *qname, uint16_t rcode, uint64_t now_ms,
                     fd_entry_t *entry) noexcept nogil:
    fill_question(question, qname, now_ms, entry)
    entry.zone = FD_NO_ZONE
    entry.kind = FD_ENTRY_FAILURE
    entry.msg_flags = rcode & FLAG_RCODE
    entry.plain_len = HEADER_LEN + question.qname_len + 4u


cdef bint keepable(const source_t *source, const question_t *question,
                   const response_t *response) noexcept nogil:
    if not source.block.caching or source.keep & KEEP_OUTSIDE or question.flags & FD_Q_ALONE:
        return False
    if response.flags & FLAG_TC or META_TYPES <= question.qtype < TYPE_ANY:
        return False
    if response.kind == RESPONSE_NXDOMAIN or response.kind == RESPONSE_NODATA:
        # RFC 2308 s5: without an SOA there is no word on for how long.
        return response.has_soa and source.keep & KEEP_NEGATIVE != 0
    if response.kind == RESPONSE_FAILURE:
        return source.keep & KEEP_NEGATIVE != 0 and (response.rcode == SERVFAIL or response.rcode == NOTIMP)
    if response.kind == RESPONSE_REFERRAL or response.kind == RESPONSE_EMPTY:
        return source.keep & KEEP_POSITIVE != 0 and source.block.uniform_ttl
    return source.keep & KEEP_POSITIVE != 0


cdef void fill_question(const question_t *question, const uint8_t *qname, uint64_t now_ms,
                        fd_entry_t *entry) noexcept nogil:
    # The key and the question's name, of an answer without records so far. Padding is zeroed with
    # the places that hold it, so that equal answers are equal octets.
    memset(entry, 0, fd_entry_records_off(question.qname_len, 0))
    entry.key_hash = question.key_hash
    entry.stored_ms = now_ms
    entry.group = question.group
    entry.variant = question.variant
    entry.key_flags = question.key_flags
    entry.qtype = question.qtype
    entry.qclass = question.qclass
    entry.qname_len = question.qname_len
    memcpy(<uint8_t *>entry + FD_ENTRY_QNAME_OFF, qname, question.qname_len)


cdef void fill_header(const source_t *source, const question_t *question, const uint8_t *qname,
                      const response_t *response, uint64_t now_ms, fd_entry_t *entry) noexcept nogil:
    fill_question(question, qname, now_ms, entry)
    memset(<uint8_t *>entry + FD_ENTRY_QNAME_OFF + question.qname_len, 0,
           fd_entry_records_off(question.qname_len, <uint16_t>response.ttl_count)
           - FD_ENTRY_QNAME_OFF - question.qname_len)
    entry.fingerprint = source.block.fingerprint
    entry.zone = source.zone
    entry.plugin = source.plugin
    entry.marks = source.marks
    entry.told = source.told
    if source.block.flags & FD_BLOCK_KEEP_TTL:
        entry.marks |= FD_ENTRY_KEEP_TTL
    entry.msg_flags = response.flags & (FLAG_AA | FLAG_TC | FLAG_RA | FLAG_AD | FLAG_RCODE)
    if uniform(source) and (response.rcode == NOERROR or response.rcode == NXDOMAIN):
        entry.msg_flags |= FLAG_AA
    entry.ancount = response.ancount
    entry.nscount = response.nscount
    entry.arcount = response.arcount
    entry.ttl_count = <uint16_t>response.ttl_count
    entry.plain_len = <uint16_t>min(response.plain_len, <uint32_t>MESSAGE_MAX)
    entry.ext_rcode = <uint8_t>(response.rcode >> 4)
    if response.kind == RESPONSE_NXDOMAIN:
        entry.kind = FD_ENTRY_NXDOMAIN
    elif response.kind == RESPONSE_NODATA:
        entry.kind = FD_ENTRY_NODATA
    elif response.kind == RESPONSE_FAILURE:
        entry.kind = FD_ENTRY_FAILURE
    else:
        entry.kind = FD_ENTRY_POSITIVE
    if entry.kind != FD_ENTRY_FAILURE:
        entry.stale_s = source.block.stale_s
    if source.block.flags & FD_BLOCK_PREFER_POSITIVE and entry.kind == FD_ENTRY_POSITIVE and entry.ancount:
        entry.marks |= FD_ENTRY_PREFERRED


cdef bint take_records(const uint8_t *msg, const response_t *response, compress_room_t *room,
                       fd_entry_t *entry) noexcept nogil:
    # The records as they are where that can be: compression pointers hold where the question
    # before them has the length that a reply's has, and nothing was cut out before their targets.
    cdef uint8_t *records = <uint8_t *>entry + fd_entry_records_off(entry.qname_len, entry.ttl_count)
    cdef uint16_t *ttl_off = <uint16_t *>(<uint8_t *>entry + fd_entry_ttl_off(entry.qname_len))
    cdef uint32_t end = response.opt_off if response.opt_off else response.records_end
    cdef bint opt_last = not response.opt_off or response.opt_off + response.opt_len == response.records_end
    cdef bint in_place = response.records_off == <uint32_t>HEADER_LEN + entry.qname_len + 4 and opt_last
    cdef uint32_t octets, i
    if not in_place or (not response.compressed and response.plain_len > COMPRESS_FROM):
        octets = compress_records(msg, response, room, records, ttl_off)
        if octets or not response.ttl_count:
            entry.records_len = <uint16_t>octets
            return True
        if not in_place:
            return False
    octets = end - response.records_off
    memcpy(records, msg + response.records_off, octets)
    for i in range(response.ttl_count):
        ttl_off[i] = <uint16_t>(response.ttl_off[i] - response.records_off)
    entry.records_len = <uint16_t>octets
    return True


# --- lifetimes ---


cdef inline uint8_t *ttl_at(fd_entry_t *entry, uint32_t i) noexcept nogil:
    cdef const uint16_t *offsets = <const uint16_t *>(<uint8_t *>entry + fd_entry_ttl_off(entry.qname_len))
    return <uint8_t *>entry + fd_entry_records_off(entry.qname_len, entry.ttl_count) + offsets[i]


cdef inline uint32_t valid_ttl(uint32_t ttl) noexcept nogil:
    return 0 if ttl > TTL_MAX else ttl       # RFC 2181 s8


cdef inline uint32_t clamp(uint32_t value, uint32_t least, uint32_t most) noexcept nogil:
    return min(max(value, least), most)      # the cap wins over the floor, as CoreDNS has it


cdef uint32_t failure_ttl(const fd_block_t *block) noexcept nogil:
    return min(block.failure_s, <uint32_t>FAILURE_TTL_MAX)


cdef uint32_t own_ttls(const source_t *source, const response_t *response,
                       fd_entry_t *entry) noexcept nogil:
    # Each record keeps its TTL within the limits; returns the answer's lifetime, s. A name outside
    # the block's `cache` has no limits.
    cdef const fd_block_t *block = source.block
    cdef bint bounded = not source.keep & KEEP_OUTSIDE
    cdef bint negative = response.kind == RESPONSE_NXDOMAIN or response.kind == RESPONSE_NODATA
    cdef uint32_t first_authority = entry.ancount
    cdef uint32_t first_additional = first_authority + entry.nscount
    cdef uint32_t lowest = NO_TTL
    cdef uint32_t ttl, i
    cdef uint8_t *at
    for i in range(entry.ttl_count):
        at = ttl_at(entry, i)
        ttl = valid_ttl(get_u32(at))
        if not bounded:
            pass
        elif negative and first_authority <= i < first_additional and get_u16(at - 4) == TYPE_SOA:
            # RFC 2308 s5: the SOA goes out with the TTL that the answer has.
            ttl = clamp(min(ttl, valid_ttl(response.soa_minimum)), block.negative_min_s, block.negative_max_s)
        else:
            ttl = clamp(ttl, block.ttl_min_s, block.ttl_max_s)
        put_u32(at, ttl)
        lowest = min(lowest, ttl)
    if response.kind == RESPONSE_FAILURE:
        return failure_ttl(block)
    return 0 if lowest == NO_TTL else lowest


cdef uint32_t uniform_ttl(const fd_block_t *block, const response_t *response) noexcept nogil:
    # CoreDNS's `cache`: one lifetime for all records, RFC 2308's MINIMUM beside the SOA's TTL.
    cdef uint32_t ttl
    if response.kind == RESPONSE_FAILURE:
        return failure_ttl(block)
    if (response.kind == RESPONSE_NXDOMAIN or response.kind == RESPONSE_NODATA) and response.has_soa:
        ttl = min(response.min_ttl, valid_ttl(response.soa_minimum), <uint32_t>UNIFORM_TTL_MAX_S)
        return clamp(ttl, block.negative_min_s, block.negative_max_s)
    # What is not kept for want of an SOA goes out with the TTL of a delegation, as from CoreDNS.
    if (response.kind == RESPONSE_REFERRAL or response.kind == RESPONSE_NXDOMAIN
            or response.ttl_count == 0):
        return clamp(BARE_TTL_S, block.ttl_min_s, block.ttl_max_s)
    return clamp(min(response.min_ttl, <uint32_t>UNIFORM_TTL_MAX_S), block.ttl_min_s, block.ttl_max_s)


cdef void write_ttl(fd_entry_t *entry, uint32_t ttl_s) noexcept nogil:
    cdef uint32_t i
    for i in range(entry.ttl_count):
        put_u32(ttl_at(entry, i), ttl_s)
