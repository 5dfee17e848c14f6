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
    FD_ENTRY_FAILURE,
    FD_ENTRY_NODATA,
    FD_ENTRY_NXDOMAIN,
    FD_ENTRY_POSITIVE,
    FD_ENTRY_QNAME_OFF,
    FD_PLUGIN_FORWARD,
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


cdef judge_rc judge(const fd_block_t *block, const question_t *question, const uint8_t *qname,
                    const uint8_t *msg, const response_t *response, uint64_t now_ms,
                    compress_room_t *room, fd_entry_t *entry) noexcept nogil:
    cdef uint32_t ttl_s
    fill_header(block, question, qname, response, now_ms, entry)
    if not take_records(msg, response, room, entry):
        return JUDGE_UNUSABLE
    if block.uniform_ttl:
        ttl_s = uniform_ttl(block, response)
        write_ttl(entry, ttl_s)
    else:
        ttl_s = own_ttls(block, response, entry)
    entry.ttl_s = ttl_s
    if not keepable(block, question, response) or ttl_s == 0:
        return JUDGE_HAND_ON
    return JUDGE_STORE


cdef judge_rc judge_silence(const fd_block_t *block, const question_t *question, const uint8_t *qname,
                            uint64_t now_ms, response_t *response, fd_entry_t *entry) noexcept nogil:
    memset(response, 0, sizeof(response_t))
    response.kind = RESPONSE_FAILURE
    response.rcode = response.flags = SERVFAIL
    response.plain_len = HEADER_LEN + question.qname_len + 4u
    fill_header(block, question, qname, response, now_ms, entry)
    entry.ttl_s = failure_ttl(block)
    if entry.ttl_s == 0 or not keepable(block, question, response):
        return JUDGE_HAND_ON
    return JUDGE_STORE


cdef bint keepable(const fd_block_t *block, const question_t *question,
                   const response_t *response) noexcept nogil:
    if not block.caching or question.flags & FD_Q_ALONE or response.flags & FLAG_TC:
        return False
    if META_TYPES <= question.qtype < TYPE_ANY:
        return False
    if response.kind == RESPONSE_NXDOMAIN or response.kind == RESPONSE_NODATA:
        return response.has_soa      # RFC 2308 s5: without one there is no word on for how long
    if response.kind == RESPONSE_REFERRAL or response.kind == RESPONSE_EMPTY:
        return block.uniform_ttl
    if response.kind == RESPONSE_FAILURE:
        return response.rcode == SERVFAIL or response.rcode == NOTIMP
    return True


cdef void fill_header(const fd_block_t *block, const question_t *question, const uint8_t *qname,
                      const response_t *response, uint64_t now_ms, fd_entry_t *entry) noexcept nogil:
    memset(entry, 0, sizeof(fd_entry_t))
    entry.key_hash = question.key_hash
    entry.stored_ms = now_ms
    entry.fingerprint = block.fingerprint
    entry.group = question.group
    entry.variant = question.variant
    entry.key_flags = question.key_flags
    entry.qtype = question.qtype
    entry.qclass = question.qclass
    entry.zone = block.number
    entry.plugin = FD_PLUGIN_FORWARD
    entry.msg_flags = response.flags & (FLAG_AA | FLAG_TC | FLAG_RA | FLAG_AD | FLAG_RCODE)
    if block.uniform_ttl and (response.rcode == NOERROR or response.rcode == NXDOMAIN):
        entry.msg_flags |= FLAG_AA
    entry.ancount = response.ancount
    entry.nscount = response.nscount
    entry.arcount = response.arcount
    entry.ttl_count = <uint16_t>response.ttl_count
    entry.plain_len = <uint16_t>min(response.plain_len, <uint32_t>MESSAGE_MAX)
    entry.qname_len = question.qname_len
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
        entry.stale_s = block.stale_s
    # Padding is zeroed with the places that hold it, so that equal answers are equal octets.
    memset(<uint8_t *>entry + FD_ENTRY_QNAME_OFF, 0,
           fd_entry_records_off(entry.qname_len, entry.ttl_count) - FD_ENTRY_QNAME_OFF)
    memcpy(<uint8_t *>entry + FD_ENTRY_QNAME_OFF, qname, question.qname_len)


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


cdef uint32_t own_ttls(const fd_block_t *block, const response_t *response,
                       fd_entry_t *entry) noexcept nogil:
    # Each record keeps its TTL within the limits; returns the answer's lifetime, s.
    cdef bint negative = response.kind == RESPONSE_NXDOMAIN or response.kind == RESPONSE_NODATA
    cdef uint32_t first_authority = entry.ancount
    cdef uint32_t first_additional = first_authority + entry.nscount
    cdef uint32_t lowest = NO_TTL
    cdef uint32_t ttl, i
    cdef uint8_t *at
    for i in range(entry.ttl_count):
        at = ttl_at(entry, i)
        ttl = valid_ttl(get_u32(at))
        if negative and first_authority <= i < first_additional and get_u16(at - 4) == TYPE_SOA:
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
    if response.kind == RESPONSE_REFERRAL or response.ttl_count == 0:
        return clamp(BARE_TTL_S, block.ttl_min_s, block.ttl_max_s)
    return clamp(min(response.min_ttl, <uint32_t>UNIFORM_TTL_MAX_S), block.ttl_min_s, block.ttl_max_s)


cdef void write_ttl(fd_entry_t *entry, uint32_t ttl_s) noexcept nogil:
    cdef uint32_t i
    for i in range(entry.ttl_count):
        put_u32(ttl_at(entry, i), ttl_s)
