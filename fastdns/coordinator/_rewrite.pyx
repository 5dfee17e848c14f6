# SPDX-License-Identifier: Apache-2.0
"""Rules of `rewrite` that need no regular expression (corefile.md 2.3).

A rule sees the name that the rules before it left, as text. What it did to a question is not noted
but for its number: on the way back the rules are played again from the client's own name, and
undone in reverse order, record by record.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from fastdns._name cimport get_u16, get_u32, name_expand, put_u16, put_u32
from fastdns._proto cimport (
    FLAG_RCODE,
    HEADER_LEN,
    MESSAGE_MAX,
    RR_FIXED_LEN,
    TYPE_CNAME,
    TYPE_DNAME,
    TYPE_MX,
    TYPE_NAPTR,
    TYPE_NS,
    TYPE_PTR,
    TYPE_SOA,
    TYPE_SRV,
)
from fastdns._response cimport rdata_prefix, rdata_shape, rdata_shape_t, response_t
from fastdns._shm cimport (
    FD_MATCH_EXACT,
    FD_MATCH_SUBSTRING,
    FD_MATCH_SUFFIX,
    FD_STEP_CLASS,
    FD_STEP_NAME,
    FD_STEP_RCODE,
    FD_STEP_TTL,
    FD_STEP_TYPE,
    fd_at,
    fd_rule_t,
    fd_step_t,
)
from fastdns.coordinator._inflight cimport flight_change, flight_qname
from fastdns.coordinator._labels cimport TEXT_MAX, name_to_text, text_to_name
from fastdns.coordinator._state cimport CHANGE_RULES, NONE, change_t, coordinator_t, flight_t

cdef enum:
    NAME_ROOM = 256


# A name as text.
ctypedef struct text_t:
    uint32_t len
    uint8_t octets[TEXT_MAX]


# --- matching and replacing ---


cdef inline const uint8_t *rule_from(const coordinator_t *c, const fd_rule_t *rule) noexcept nogil:
    return <const uint8_t *>fd_at(c.config, rule.from_off)


cdef inline const uint8_t *rule_to(const coordinator_t *c, const fd_rule_t *rule) noexcept nogil:
    return <const uint8_t *>fd_at(c.config, rule.to_off)


cdef uint32_t find(const text_t *text, uint32_t start, const uint8_t *part, uint32_t part_len) noexcept nogil:
    # Where `part` stands in the text from `start` on, or NONE.
    cdef uint32_t i = start
    while i + part_len <= text.len:
        if memcmp(text.octets + i, part, part_len) == 0:
            return i
        i += 1
    return NONE


cdef bint matches(const coordinator_t *c, const fd_rule_t *rule, const text_t *text) noexcept nogil:
    cdef const uint8_t *part = rule_from(c, rule)
    cdef uint32_t n = rule.from_len
    if n > text.len:
        return False
    if rule.match == FD_MATCH_SUBSTRING:
        return find(text, 0, part, n) != NONE
    if rule.match == FD_MATCH_EXACT and n != text.len:
        return False
    if rule.match == FD_MATCH_SUFFIX:
        return memcmp(text.octets + (text.len - n), part, n) == 0
    return memcmp(text.octets, part, n) == 0


cdef bint put(text_t *out, const uint8_t *octets, uint32_t n) noexcept nogil:
    if <uint32_t>TEXT_MAX - out.len < n:
        return False
    memcpy(out.octets + out.len, octets, n)
    out.len += n
    return True


cdef bint replace(const text_t *text, uint8_t match, const uint8_t *part, uint32_t part_len, const uint8_t *by,
                  uint32_t by_len, text_t *out) noexcept nogil:
    # The text with `by` where it matched `part`. False: it grows too long.
    cdef uint32_t at = 0
    cdef uint32_t found
    out.len = 0
    if match == FD_MATCH_SUFFIX:
        return put(out, text.octets, text.len - part_len) and put(out, by, by_len)
    if match != FD_MATCH_SUBSTRING:
        return put(out, by, by_len) and put(out, text.octets + part_len, text.len - part_len)
    if part_len == 0:
        return False
    while True:
        found = find(text, at, part, part_len)
        if found == NONE:
            return put(out, text.octets + at, text.len - at)
        if not put(out, text.octets + at, found - at) or not put(out, by, by_len):
            return False
        at = found + part_len


cdef inline bint rename(const coordinator_t *c, const fd_rule_t *rule, const text_t *text,
                        text_t *out) noexcept nogil:
    return replace(text, rule.match, rule_from(c, rule), rule.from_len, rule_to(c, rule), rule.to_len, out)


# --- questions ---


cdef bint note_rule(change_t *change, const fd_step_t *step) noexcept nogil:
    if change.rule_count == CHANGE_RULES:
        return False
    change.rules[change.rule_count] = step.number
    change.rule_count += 1
    change.rewritten = 1
    return True


cdef rewrite_rc rewrite_name(coordinator_t *c, flight_t *flight, const fd_step_t *step,
                             const fd_rule_t *rule, const text_t *text) noexcept nogil:
    cdef text_t renamed
    cdef uint8_t[NAME_ROOM] name
    cdef uint32_t name_len = 0
    cdef change_t *change
    if rename(c, rule, text, &renamed):
        name_len = text_to_name(renamed.octets, renamed.len, name)
    if name_len == 0:
        return REWRITE_BAD
    change = flight_change(c, flight)
    if change == NULL or not note_rule(change, step):
        return REWRITE_FULL
    memcpy(change.qname, name, name_len)
    change.question.qname_len = <uint8_t>name_len
    return REWRITE_DONE


cdef rewrite_rc rewrite_number(coordinator_t *c, flight_t *flight, uint8_t kind,
                               const fd_rule_t *rule) noexcept nogil:
    cdef uint32_t now = flight.question.qtype if kind == FD_STEP_TYPE else flight.question.qclass
    cdef change_t *change = NULL
    if flight.change != NONE:
        change = &c.changes[flight.change]
        now = change.question.qtype if kind == FD_STEP_TYPE else change.question.qclass
    if now != rule.from_:
        return REWRITE_NOT
    change = flight_change(c, flight)
    if change == NULL:
        return REWRITE_FULL
    if kind == FD_STEP_TYPE:
        change.question.qtype = <uint16_t>rule.to
    else:
        change.question.qclass = <uint16_t>rule.to
    change.rewritten = 1
    return REWRITE_DONE


cdef rewrite_rc rewrite_question(coordinator_t *c, flight_t *flight, const fd_step_t *step) noexcept nogil:
    cdef const fd_rule_t *rule = <const fd_rule_t *>fd_at(c.config, step.argument)
    cdef change_t *change
    cdef text_t text
    if step.kind == FD_STEP_TYPE or step.kind == FD_STEP_CLASS:
        return rewrite_number(c, flight, step.kind, rule)
    text.len = name_to_text(
        flight_qname(c, flight) if flight.change == NONE else c.changes[flight.change].qname, text.octets)
    if not matches(c, rule, &text):
        return REWRITE_NOT
    if step.kind == FD_STEP_NAME:
        return rewrite_name(c, flight, step, rule, &text)
    change = flight_change(c, flight)
    return REWRITE_DONE if change != NULL and note_rule(change, step) else REWRITE_FULL


# --- replies ---


# A rule that had its part, and what it made of which name.
ctypedef struct played_t:
    const fd_rule_t *rule
    uint8_t kind
    uint8_t name_before[NAME_ROOM]
    uint8_t name_after[NAME_ROOM]


ctypedef struct reply_t:
    const coordinator_t *c
    const uint8_t *msg
    uint8_t *out
    uint32_t pos                 # octets of `out` so far
    uint32_t rcode
    uint32_t played_count
    played_t played[CHANGE_RULES]


cdef void play(reply_t *reply, const flight_t *flight, const change_t *change) noexcept nogil:
    # The rules once more, from the client's name on.
    cdef const coordinator_t *c = reply.c
    cdef const fd_step_t *steps = <const fd_step_t *>fd_at(c.config, flight.block.steps.off)
    cdef const fd_step_t *step
    cdef played_t *played
    cdef text_t text, renamed
    cdef uint32_t i
    text.len = name_to_text(flight_qname(c, flight), text.octets)
    reply.played_count = change.rule_count
    for i in range(change.rule_count):
        step = &steps[change.rules[i]]
        played = &reply.played[i]
        played.rule = <const fd_rule_t *>fd_at(c.config, step.argument)
        played.kind = step.kind
        if step.kind != FD_STEP_NAME:
            continue
        text_to_name(text.octets, text.len, played.name_before)
        rename(c, played.rule, &text, &renamed)      # it did so before: it fits
        text = renamed
        text_to_name(text.octets, text.len, played.name_after)


cdef inline uint32_t whole_len(const uint8_t *name) noexcept nogil:
    cdef uint32_t n = 0
    while name[n] != 0:
        n += name[n] + 1u
    return n + 1


cdef bint same_name(const uint8_t *a, const uint8_t *b) noexcept nogil:
    cdef uint32_t n = whole_len(a)
    cdef uint32_t i
    cdef uint8_t octet
    if n != whole_len(b):
        return False
    for i in range(n):           # length octets are below the letters
        octet = a[i]
        if 0x41 <= octet <= 0x5a:
            octet |= 0x20
        if octet != b[i]:
            return False
    return True


cdef void map_suffix(const reply_t *reply, const fd_rule_t *rule, uint8_t *name) noexcept nogil:
    # `suffix` is undone for all names with the new one, not for the question's own only.
    cdef text_t text, mapped
    cdef uint8_t[NAME_ROOM] fresh
    cdef const uint8_t *suffix = rule_to(reply.c, rule)
    cdef uint32_t n
    text.len = name_to_text(name, text.octets)
    if (rule.to_len > text.len
            or memcmp(text.octets + (text.len - rule.to_len), suffix, rule.to_len) != 0):
        return
    if not replace(&text, FD_MATCH_SUFFIX, suffix, rule.to_len, rule_from(reply.c, rule), rule.from_len,
                   &mapped):
        return
    n = text_to_name(mapped.octets, mapped.len, fresh)
    if n != 0:                   # else: the old suffix does not fit here, the name stays
        memcpy(name, fresh, n)


cdef void map_back(const reply_t *reply, uint8_t *name) noexcept nogil:
    cdef const played_t *played
    cdef int i
    for i in range(<int>reply.played_count - 1, -1, -1):
        played = &reply.played[i]
        if played.kind != FD_STEP_NAME or not played.rule.automatic:
            continue
        if played.rule.match == FD_MATCH_SUFFIX:
            map_suffix(reply, played.rule, name)
        elif same_name(name, played.name_after):
            memcpy(name, played.name_before, whole_len(played.name_before))


cdef uint32_t map_fixed(reply_t *reply, uint32_t ttl) noexcept nogil:
    # A record's TTL after the rules, from the last to the first; the rcode is replaced on the way:
    # CoreDNS does it record by record, so that a reply without any keeps its code.
    cdef const played_t *played
    cdef int i
    for i in range(<int>reply.played_count - 1, -1, -1):
        played = &reply.played[i]
        if played.kind == FD_STEP_TTL:
            ttl = min(max(ttl, played.rule.from_), played.rule.to)
        elif played.kind == FD_STEP_RCODE and reply.rcode == played.rule.from_:
            reply.rcode = played.rule.to
    return ttl


cdef inline bint fits(const reply_t *reply, uint32_t octets) noexcept nogil:
    return <uint32_t>MESSAGE_MAX - reply.pos >= octets


cdef inline uint32_t name_end(const uint8_t *msg, uint32_t pos) noexcept nogil:
    # The octet after a name that is known to be good, where it stands.
    while msg[pos] != 0:
        if msg[pos] >= 0xc0:
            return pos + 2
        pos += msg[pos] + 1u
    return pos + 1


cdef bint write_name(reply_t *reply, uint32_t pos, bint mapped) noexcept nogil:
    cdef uint8_t[NAME_ROOM] name
    cdef uint32_t n
    name_expand(reply.msg, pos, name)
    if mapped:
        map_back(reply, name)
    n = whole_len(name)
    if not fits(reply, n):
        return False
    memcpy(reply.out + reply.pos, name, n)
    reply.pos += n
    return True


cdef inline bint value_maps(uint32_t rr_type) noexcept nogil:
    # The types whose first name CoreDNS takes for the record's value.
    return (rr_type == TYPE_CNAME or rr_type == TYPE_NS or rr_type == TYPE_PTR or rr_type == TYPE_MX
            or rr_type == TYPE_SRV or rr_type == TYPE_SOA or rr_type == TYPE_DNAME or rr_type == TYPE_NAPTR)


cdef bint write_rdata(reply_t *reply, uint32_t pos, uint32_t rdata_len, uint32_t rr_type,
                      const rdata_shape_t *shape) noexcept nogil:
    cdef uint32_t begun = reply.pos
    cdef uint32_t end = pos + rdata_len
    cdef uint32_t prefix, i
    if shape.names != 0:
        prefix = rdata_prefix(shape, reply.msg + pos, rdata_len)
        if not fits(reply, prefix):
            return False
        memcpy(reply.out + reply.pos, reply.msg + pos, prefix)
        reply.pos += prefix
        pos += prefix
        for i in range(shape.names):
            if not write_name(reply, pos, i == 0 and value_maps(rr_type)):
                return False
            pos = name_end(reply.msg, pos)
    if not fits(reply, end - pos):
        return False
    memcpy(reply.out + reply.pos, reply.msg + pos, end - pos)
    reply.pos += end - pos
    put_u16(reply.out + begun - 2, reply.pos - begun)
    return True


cdef bint write_record(reply_t *reply, uint32_t pos) noexcept nogil:
    cdef uint32_t rr_type, rr_class, rdata_len
    cdef rdata_shape_t shape
    if not write_name(reply, pos, True) or not fits(reply, RR_FIXED_LEN):
        return False
    pos = name_end(reply.msg, pos)
    rr_type = get_u16(reply.msg + pos)
    rr_class = get_u16(reply.msg + pos + 2)
    rdata_len = get_u16(reply.msg + pos + 8)
    memcpy(reply.out + reply.pos, reply.msg + pos, RR_FIXED_LEN)
    put_u32(reply.out + reply.pos + 4, map_fixed(reply, get_u32(reply.msg + pos + 4)))
    reply.pos += RR_FIXED_LEN
    shape = rdata_shape(rr_type, rr_class)
    return write_rdata(reply, pos + RR_FIXED_LEN, rdata_len, rr_type, &shape)


cdef uint32_t rewrite_response(const coordinator_t *c, const flight_t *flight, const uint8_t *msg,
                               const response_t *response, uint8_t *out, uint32_t *rcode) noexcept nogil:
    cdef reply_t reply
    cdef uint32_t pos = response.records_off
    cdef uint32_t done = 0
    reply.c = c
    reply.msg = msg
    reply.out = out
    reply.rcode = response.rcode
    play(&reply, flight, &c.changes[flight.change])
    memcpy(out, msg, HEADER_LEN)
    put_u16(out + 6, response.ancount)
    put_u16(out + 8, response.nscount)
    put_u16(out + 10, response.arcount)
    memcpy(out + HEADER_LEN, flight_qname(c, flight), flight.question.qname_len)
    reply.pos = HEADER_LEN + flight.question.qname_len + 4u
    put_u16(out + reply.pos - 4, flight.question.qtype)
    put_u16(out + reply.pos - 2, flight.question.qclass)
    while done < response.ttl_count:
        if pos == response.opt_off:
            pos += response.opt_len
            continue
        if not write_record(&reply, pos):
            return 0
        pos = name_end(msg, pos)
        pos += RR_FIXED_LEN + get_u16(msg + pos + 8)
        done += 1
    rcode[0] = reply.rcode
    put_u16(out + 2, (response.flags & ~<uint32_t>FLAG_RCODE) | (reply.rcode & FLAG_RCODE))
    return reply.pos
