# SPDX-License-Identifier: Apache-2.0
"""Nothing exists below a name that does not exist (RFC 8020).

Under ndots:5 a pod that looks for ``api.vendor.com`` asks for ``api.vendor.com.team.svc.cluster.local``
and its like first, each time with another host and vendor, and always in vain. Where the cache has an
NXDOMAIN for an ancestor (``com.team.svc.cluster.local``) the question ends with that, for as long as
that lasts: an answer made so is as old as the one that it was made of.

Which ancestor does not exist is found out from the top, as in RFC 9156: after an NXDOMAIN that a client
waited for, the zone's own child on the way to the name is asked for (type A), then the next, until one
does not exist. What is stored by then is not asked: in a cluster that is all but the last. LOOKS of
them are under way at most, and put LEARN_PER_S questions. An ancestor that answers is asked for again
ahead of its end (_ahead), or each of its ends would cost the questions that meet it, and the look.

CoreDNS denies some names that have others below them: a service's ``_tcp``, another cluster's name above its
endpoints, ``dns`` above its own ``ns.dns``. So nothing follows from an ancestor with an underscore (RFC 8552),
from one deeper than search lists lead, and from one above the zone's own server.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._memory cimport fd_take
from fastdns._name cimport (
    get_u16,
    key_extra,
    name_expand,
    name_fold_hash,
    name_length,
    name_skip,
    put_u16,
    put_u32,
)
from fastdns._proto cimport CLASS_IN, HEADER_LEN, NAME_MAX, RR_FIXED_LEN, TYPE_A, TYPE_DS, TYPE_SOA
from fastdns._response cimport RESPONSE_OK, parse_response
from fastdns._shm cimport (
    FD_BLOCK_CUT,
    FD_BLOCK_CUT_LEARN,
    FD_ENTRY_CHANGED,
    FD_ENTRY_NXDOMAIN,
    FD_Q_ALONE,
    FD_Q_RD,
    fd_block,
    fd_entry_t,
    fd_zone,
    fd_zone_t,
)
from fastdns._stats cimport FD_C_cut_answers, FD_C_cut_questions, bump
from fastdns.coordinator._conclude cimport conclude_since
from fastdns.coordinator._deaths cimport quarantine_refuses
from fastdns.coordinator._inflight cimport flight_begin, flight_qname, inflight_find
from fastdns.coordinator._names cimport name_below
from fastdns.coordinator._slow cimport slow_message
from fastdns.coordinator._state cimport FLIGHT_LOOK, LOOKS, NONE, coordinator_t, flight_t, look_t, question_t
from fastdns.coordinator._store cimport store_led
from fastdns.coordinator._stored cimport find_stored

cdef enum:
    DEPTH = 3                    # ancestors that are looked at: SOMETHING.NAMESPACE.svc below the zone
    LOOK_MS = 2000               # a look that takes longer is given up
    LEARN_PER_S = 200            # questions for all looks together
    LEFT_MS = 200                # of an ancestor's life, for what is made of it; less than _ahead's least lead
    SOA_NUMBERS = 20             # octets behind the names of its rdata; RFC 1035 s3.3.13
    UNDERSCORE = 0x5f


# The ancestors of a name below its zone, the zone's child first, those from an underscored one on left out.
ctypedef struct ancestors_t:
    question_t question          # for any of them: of type A, without key flags
    uint32_t zone
    uint32_t count
    uint8_t off[DEPTH]           # where they begin in the name


ctypedef enum look_rc:
    LOOK_OVER = 0
    LOOK_WAITS = 1               # for an answer
    LOOK_ASKS = 2                # a question was made


cdef bint cut_open(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.config.blocks.count):
        if fd_block(c.config, i).flags & FD_BLOCK_CUT:
            c.looks = <look_t *>fd_take(LOOKS * sizeof(look_t), 0)
            return c.looks != NULL
    return True


# --- ancestors ---


cdef bint list_ancestors(const coordinator_t *c, const question_t *question, const uint8_t *qname,
                         uint32_t zone_number, ancestors_t *out) noexcept nogil:
    # False where the rule is not for this question: one that wants proofs (DO), or nothing from a
    # cache (CD), and DS, which the parent's side of a delegation answers (RFC 4035 s3.1.4.1).
    cdef const fd_zone_t *zone = fd_zone(c.config, zone_number)
    cdef uint8_t[128] labels
    cdef uint32_t count = 0
    cdef uint32_t pos = 0
    if (question.key_flags or question.qclass != CLASS_IN or question.qtype == TYPE_DS
            or question.flags & FD_Q_ALONE):
        return False
    while pos + zone.name_len < question.qname_len:
        labels[count] = <uint8_t>pos
        count += 1
        pos += qname[pos] + 1
    out.zone = zone_number
    out.question = question[0]
    out.question.qtype = TYPE_A
    out.question.flags = FD_Q_RD
    out.count = 0
    while count > 1 and out.count < DEPTH:   # the name itself, labels[0], is none
        count -= 1
        if qname[labels[count] + 1] == UNDERSCORE:
            break
        out.off[out.count] = labels[count]
        out.count += 1
    return out.count != 0


cdef const fd_entry_t *find_ancestor(coordinator_t *c, ancestors_t *ancestors, uint32_t i,
                                     const uint8_t *qname, uint32_t qname_len, uint8_t *name) noexcept nogil:
    # Fills in the question and `name` (256 octets, 8-aligned) as well.
    cdef question_t *question = &ancestors.question
    question.qname_len = <uint8_t>(qname_len - ancestors.off[i])
    question.key_hash = name_fold_hash(
        qname + ancestors.off[i], question.qname_len,
        key_extra(question.group, question.variant, 0, TYPE_A, CLASS_IN), c.cache.hash_key, name)
    return find_stored(c, question, name, ancestors.zone, LEFT_MS)


# --- answering ---


cdef uint32_t write_soa(const uint8_t *msg, uint32_t msg_len, uint32_t ttl_off, uint32_t ttl_s,
                        uint8_t *out) noexcept nogil:
    # The SOA whose TTL stands at ttl_off of a sound message and which is its only record, without
    # compression. 0: it is another record.
    cdef uint32_t owner = HEADER_LEN
    cdef uint32_t rname, numbers, octets, full
    cdef uint8_t *p = out
    owner += name_skip(msg, msg_len, owner, &full) + 4
    if get_u16(msg + ttl_off - 4) != TYPE_SOA:
        return 0
    p += name_expand(msg, owner, p)
    memcpy(p, msg + ttl_off - 4, 4)
    put_u32(p + 4, ttl_s)
    p += 10
    rname = ttl_off + 6
    octets = name_expand(msg, rname, p)
    rname += name_skip(msg, msg_len, rname, &full)
    octets += name_expand(msg, rname, p + octets)
    numbers = rname + name_skip(msg, msg_len, rname, &full)
    memcpy(p + octets, msg + numbers, SOA_NUMBERS)
    octets += SOA_NUMBERS
    put_u16(p - 2, octets)
    return <uint32_t>(p - out) + octets


cdef bint serves_below(const uint8_t *soa, const uint8_t *name, uint32_t name_len) noexcept nogil:
    # Whether the server that an SOA of write_soa names is the name or stands below it.
    cdef const uint8_t *mname = soa + name_length(soa, NAME_MAX) + RR_FIXED_LEN
    return name_below(mname, name_length(mname, NAME_MAX), name, name_len)


cdef uint32_t write_denial(coordinator_t *c, const flight_t *flight, const question_t *question,
                           const uint8_t *name, const fd_entry_t *entry) noexcept nogil:
    # To c.restored: the answer to the flight's question that follows from an ancestor's NXDOMAIN.
    # 0: nothing follows, as it has more records than an SOA (an alias exists; what it leads to doesn't), or
    # the zone's own server stands below it (CoreDNS has ns.dns and denies dns).
    cdef const question_t *asked = &flight.question
    cdef uint8_t *out = c.restored
    cdef uint32_t head = HEADER_LEN + asked.qname_len + 4u
    cdef uint32_t octets
    if entry.ancount != 0 or entry.nscount != 1 or entry.arcount != 0:
        return 0
    octets = slow_message(c, question, name, entry, c.made)
    if octets == 0 or parse_response(c.made, octets, c.response) != RESPONSE_OK:
        return 0
    memset(out, 0, HEADER_LEN)
    memcpy(out + 2, c.made + 2, 2)
    put_u16(out + 4, 1)
    put_u16(out + 8, 1)
    memcpy(out + HEADER_LEN, flight_qname(c, flight), asked.qname_len)
    put_u16(out + head - 4, asked.qtype)
    put_u16(out + head - 2, asked.qclass)
    octets = write_soa(c.made, octets, c.response.ttl_off[0], entry.ttl_s, out + head)
    if octets == 0 or serves_below(out + head, name, question.qname_len):
        return 0
    return head + octets


cdef bint cut_answer(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef const flight_t *flight = &c.flights[index]
    cdef ancestors_t ancestors
    cdef uint64_t[32] name
    cdef const fd_entry_t *entry
    cdef uint64_t since_ms
    cdef uint32_t octets, i
    if (not flight.block.flags & FD_BLOCK_CUT or flight.change != NONE
            or not list_ancestors(c, &flight.question, flight_qname(c, flight), flight.zone, &ancestors)):
        return False
    for i in range(ancestors.count):
        entry = find_ancestor(c, &ancestors, i, flight_qname(c, flight), flight.question.qname_len,
                              <uint8_t *>name)
        if entry == NULL or entry.kind != FD_ENTRY_NXDOMAIN or entry.marks & FD_ENTRY_CHANGED:
            continue
        since_ms = entry.stored_ms
        octets = write_denial(c, flight, &ancestors.question, <uint8_t *>name, entry)
        if octets == 0:
            continue
        store_led(c.store, entry)
        if conclude_since(c, index, c.restored, octets, since_ms):
            bump(c.counters, FD_C_cut_answers, 1)
            return True
    return False


# --- learning ---


cdef void cut_learn(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef const flight_t *flight = &c.flights[index]
    cdef ancestors_t ancestors
    cdef look_t *look
    if (not flight.block.flags & FD_BLOCK_CUT_LEARN or flight.change != NONE or flight.waiting == 0
            or c.look_count == LOOKS
            or not list_ancestors(c, &flight.question, flight_qname(c, flight), flight.zone, &ancestors)):
        return
    look = &c.looks[c.look_count]
    c.look_count += 1
    look.question = flight.question
    look.zone = flight.zone
    look.asked = NONE
    look.until_ms = c.now_ms + LOOK_MS
    memcpy(look.qname, flight_qname(c, flight), flight.question.qname_len)
    c.looks_due = True


cdef bint may_ask(coordinator_t *c) noexcept nogil:
    # LEARN_PER_S in each second.
    if c.now_ms >= c.learn_second_ms + 1000:
        c.learn_second_ms = c.now_ms
        c.learned = 0
    c.learned += 1
    return c.learned <= LEARN_PER_S


cdef look_rc go_down(coordinator_t *c, look_t *look, uint32_t *flight) noexcept nogil:
    # To the first ancestor of which nothing is known. The look is over when one is known not to exist,
    # when all exist, or when the answer to the last question was not kept.
    cdef ancestors_t ancestors
    cdef uint64_t[32] name
    cdef const fd_entry_t *entry
    cdef uint32_t i
    if c.now_ms >= look.until_ms or not list_ancestors(c, &look.question, look.qname, look.zone, &ancestors):
        return LOOK_OVER
    for i in range(ancestors.count):
        entry = find_ancestor(c, &ancestors, i, look.qname, look.question.qname_len, <uint8_t *>name)
        if entry != NULL and entry.kind == FD_ENTRY_NXDOMAIN:
            return LOOK_OVER
        if entry != NULL:
            continue
        if inflight_find(c, &ancestors.question, <uint8_t *>name) != NONE:
            return LOOK_WAITS
        if look.asked == i or quarantine_refuses(c, ancestors.question.key_hash) or not may_ask(c):
            return LOOK_OVER
        look.asked = <uint16_t>i
        flight[0] = flight_begin(c, &ancestors.question, <uint8_t *>name, look.zone, look.until_ms)
        return LOOK_OVER if flight[0] == NONE else LOOK_ASKS
    return LOOK_OVER


cdef uint32_t cut_next(coordinator_t *c) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t flight = NONE
    cdef look_rc rc
    if not c.looks_due:
        return NONE
    while i < c.look_count:
        rc = go_down(c, &c.looks[i], &flight)
        if rc == LOOK_ASKS:
            c.flights[flight].state |= FLIGHT_LOOK
            bump(c.counters, FD_C_cut_questions, 1)
            return flight
        if rc == LOOK_WAITS:
            i += 1
        else:
            c.look_count -= 1
            c.looks[i] = c.looks[c.look_count]
    c.looks_due = False
    return NONE
