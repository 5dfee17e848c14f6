# SPDX-License-Identifier: Apache-2.0
# _targets.pyx: what the fuzzers call with hostile octets, and what must hold whatever they are.
#
# The checks have a parser of their own (ref_*), plain and slow, so that an error in the code
# under test can't hide behind itself. A check that fails aborts with its name.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort
from libc.string cimport memcmp, memcpy, memset

from fastdns._answer cimport compose_error, compose_reply
from fastdns._cache cimport answer_view
from fastdns._compress cimport compress_records, compress_room_t
from fastdns._name cimport get_u16, get_u32, put_u16, siphash
from fastdns._response cimport parse_response, response_matches, response_t
from fastdns._shm cimport fd_entry_records_off, fd_entry_t, fd_entry_ttl_off, fd_query_t
from fastdns._wire cimport parse_query
from fastdns.coordinator._rotation cimport rotate_find

cdef enum:
    HEADER = 12
    OPT = 41
    REPLY_ROOM = 65535
    PARAMETERS = 8               # octets before the message in an input of the response target


cdef void check(bint holds, const char *name) noexcept nogil:
    if not holds:
        fprintf(stderr, b"check failed: %s\n", name)
        abort()


# ------------------------------------------------------------------ a parser to check by ----

ctypedef struct ref_record_t:
    uint32_t end
    uint32_t rr_type
    uint32_t rr_class
    uint32_t ttl
    uint32_t ttl_off
    uint32_t octets_len
    uint8_t octets[66400]        # owner, type, class and rdata, names whole and in lower case


cdef bint ref_name(const uint8_t *msg, uint32_t msg_len, uint32_t pos, uint8_t *out,
                   uint32_t *out_len, uint32_t *after) noexcept nogil:
    cdef uint32_t jumps = 0, n = 0, label, i
    cdef uint8_t octet
    after[0] = 0
    while True:
        if pos >= msg_len:
            return False
        label = msg[pos]
        if label >= 0xc0:
            if pos + 2 > msg_len:
                return False
            if after[0] == 0:
                after[0] = pos + 2
            pos = get_u16(msg + pos) & 0x3fff
            jumps += 1
            if jumps > 255:
                return False
            continue
        if label > 63 or n + label + 1 > 255 or pos + label + 1 > msg_len:
            return False
        for i in range(label + 1):
            octet = msg[pos + i]
            out[n + i] = octet + 32 if 65 <= octet <= 90 else octet
        n += label + 1
        pos += label + 1
        if label == 0:
            out_len[0] = n
            if after[0] == 0:
                after[0] = pos
            return True


cdef int ref_names_in(uint32_t rr_type, uint32_t rr_class, uint32_t *before) noexcept nogil:
    # How many names the rdata holds that may come compressed; NAPTR's strings are found elsewhere.
    before[0] = 0
    if rr_type in (2, 3, 4, 5, 7, 8, 9, 12, 30, 39):
        return 1
    if rr_type in (6, 14, 17):
        return 2
    if rr_type == 24:
        before[0] = 18
        return 1
    before[0] = 2
    if rr_type in (15, 18, 21):
        return 1
    if rr_class != 1:
        return 0
    if rr_type == 36:
        return 1
    if rr_type == 26:
        return 2
    before[0] = 6 if rr_type == 33 else 4
    return 1 if rr_type in (33, 35) else 0


cdef bint ref_record(const uint8_t *msg, uint32_t msg_len, uint32_t pos, bint rdata_too,
                     ref_record_t *out) noexcept nogil:
    cdef uint32_t n = 0, rdata_end, before, step, after = 0
    cdef int names, i
    if not ref_name(msg, msg_len, pos, out.octets, &n, &pos) or msg_len - pos < 10:
        return False
    out.rr_type = get_u16(msg + pos)
    out.rr_class = get_u16(msg + pos + 2)
    out.ttl_off = pos + 4
    out.ttl = get_u32(msg + pos + 4)
    memcpy(out.octets + n, msg + pos, 4)
    n += 4
    rdata_end = pos + 10 + get_u16(msg + pos + 8)
    pos += 10
    if rdata_end > msg_len:
        return False
    out.end = rdata_end
    names = ref_names_in(out.rr_type, out.rr_class, &before) if rdata_too else 0
    if names:
        if out.rr_type == 35:
            for i in range(3):
                if pos + before >= rdata_end:
                    return False
                before += 1 + msg[pos + before]
        if pos + before > rdata_end:
            return False
        memcpy(out.octets + n, msg + pos, before)
        n += before
        pos += before
        for i in range(names):
            if not ref_name(msg, rdata_end, pos, out.octets + n, &step, &after):
                return False
            n += step
            pos = after
        if pos > rdata_end:
            return False
    memcpy(out.octets + n, msg + pos, rdata_end - pos)
    out.octets_len = n + (rdata_end - pos)
    return True


# -------------------------------------------------------------------------- buffers ----

cdef uint64_t[2] KEY
KEY[0] = <uint64_t>0x0706050403020100
KEY[1] = <uint64_t>0x0f0e0d0c0b0a0908

# Single-threaded: one of each, a red zone after each.
cdef uint8_t[65535] reply
cdef uint8_t[65536] written
cdef uint8_t[65535] rebuilt
cdef uint64_t[9736] turned_words  # FD_ENTRY_MAX octets
cdef uint16_t[5957] written_ttl_off
cdef uint16_t[5957] entry_ttl_off
cdef response_t parsed
cdef response_t reparsed
cdef compress_room_t room
cdef ref_record_t one
cdef ref_record_t other


# ---------------------------------------------------------------------- query target ----

cdef void check_error_reply(const uint8_t *packet, uint32_t size, const fd_query_t *query,
                            uint16_t rcode, uint16_t ede) noexcept nogil:
    # An error reply is a good message: the question as it came, no records but OPT.
    cdef uint32_t question_len = query.qname_len + 4 if query.qname_len else 0
    cdef uint32_t n
    memcpy(reply, packet, size if size < 512 else 512)
    n = compose_error(query, rcode, ede, reply)
    check(n >= HEADER + question_len, b"error: at least header and question")
    check(memcmp(reply, packet, 2) == 0, b"error: id")
    check(memcmp(reply + HEADER, packet + HEADER, question_len) == 0, b"error: question")
    check((get_u16(reply + 2) & 0x7800) == (query.flags & 0x7800), b"error: opcode")
    if not query.qname_len:
        check(get_u16(reply + 4) == 0 and n == <uint32_t>(HEADER + (11 if query.edns else 0)
              + (6 if query.edns and ede != 0xffff else 0)), b"error: bare header")
        return
    check(parse_response(reply, n, &reparsed) == 0, b"error: parses")
    check(reparsed.rcode == rcode, b"error: rcode")
    check(reparsed.ttl_count == 0, b"error: no records")
    check((reparsed.opt_off != 0) == (query.edns != 0), b"error: OPT out if in")
    check(reparsed.opt_off + reparsed.opt_len == n or not query.edns, b"error: OPT is last")


cdef void check_good_query(const uint8_t *packet, uint32_t size, const fd_query_t *query) noexcept nogil:
    # What parse_query filled in is what is there, by another reading.
    cdef uint8_t name[255]
    cdef fd_query_t swapped
    cdef uint32_t name_len, after, pos, count, i
    cdef bint found = False
    check(get_u16(packet + 4) == 1 and get_u32(packet + 6) == 0, b"query: counts")
    check(ref_name(packet, size, HEADER, name, &name_len, &after), b"query: name")
    check(name_len == after - HEADER and name_len == query.qname_len, b"query: name length")
    check(memcmp(name, query.qname, name_len) == 0, b"query: lower case")
    for i in range(name_len, (name_len + 7) // 8 * 8):
        check(query.qname[i] == 0, b"query: padding")
    check(query.qtype == get_u16(packet + after), b"query: qtype")
    check(query.qclass == get_u16(packet + after + 2), b"query: qclass")
    check(query.udp_size >= 512, b"query: size")
    pos = after + 4
    count = get_u16(packet + 10)
    check(count <= 2, b"query: additional count")
    for i in range(count):
        check(ref_record(packet, size, pos, False, &one), b"query: additional record")
        if one.rr_type == OPT:
            check(not found and packet[pos] == 0, b"query: one OPT, owned by the root")
            found = True
            check(query.udp_size == (one.rr_class if one.rr_class > 512 else 512), b"query: OPT size")
            check((one.ttl >> 15 & 1) == (query.edns >> 1 & 1), b"query: DO")
            check((one.ttl >> 16 & 0xff) == 0, b"query: version")
        pos = one.end
    check(found == (query.edns & 1), b"query: OPT seen")
    check(pos == size, b"query: nothing follows")
    # The same packet in upper case has the same key.
    memcpy(rebuilt, packet, size)
    for i in range(HEADER, HEADER + name_len):
        if 97 <= rebuilt[i] <= 122:
            rebuilt[i] -= 32
    check(parse_query(rebuilt, size, KEY, 3, 4, &swapped) == 0, b"query: upper case parses")
    check(swapped.key_hash == query.key_hash, b"query: case does not change the key")
    check(memcmp(swapped.qname, query.qname, name_len) == 0, b"query: case does not change the name")


cdef public int fuzz_query(const uint8_t *data, size_t size) noexcept nogil:
    """A packet at a worker: parsed, and answered as the result says."""
    cdef fd_query_t query
    cdef int rc
    if size > 65535:
        return 0
    memset(&query, 0xee, sizeof(query))
    siphash(data, size, KEY)
    rc = parse_query(data, size, KEY, 3, 4, &query)
    if rc < 0:
        check(size < 12 if rc == -1 else (data[2] & 0x80) != 0, b"query: dropped for a reason")
        return 0
    check(query.group == 3 and query.variant == 4, b"query: group and variant")
    if rc == 0:
        check_good_query(data, <uint32_t>size, &query)
        check_error_reply(data, <uint32_t>size, &query, 2, 22)
    else:
        check(rc in (1, 4, 5, 16), b"query: rcode")
        check_error_reply(data, <uint32_t>size, &query, <uint16_t>rc, 0xffff)
    return 0


# ------------------------------------------------------------------- response target ----

cdef void check_response(const uint8_t *msg, uint32_t msg_len) noexcept nogil:
    # A response that parse_response calls good is good by another reading, and measured right.
    cdef uint8_t name[255]
    cdef uint32_t name_len, pos, plain, i, n = 0, least = 0, ttl
    cdef uint32_t count = get_u16(msg + 6) + get_u16(msg + 8) + <uint32_t>get_u16(msg + 10)
    check(ref_name(msg, msg_len, HEADER, name, &name_len, &pos), b"response: question")
    pos += 4
    plain = pos
    check(pos == parsed.records_off, b"response: records_off")
    check(response_matches(msg, msg_len, name, name_len, get_u16(msg + pos - 4), get_u16(msg + pos - 2)),
          b"response: matches its own question")
    for i in range(count):
        check(ref_record(msg, msg_len, pos, True, &one), b"response: record")
        if one.rr_type == OPT:
            check(parsed.opt_off == pos and parsed.opt_len == one.end - pos, b"response: OPT")
        else:
            check(n < parsed.ttl_count and parsed.ttl_off[n] == one.ttl_off, b"response: TTL offset")
            ttl = one.ttl if one.ttl <= 0x7fffffff else 0
            if n == 0 or ttl < least:
                least = ttl
            n += 1
            plain += one.octets_len + 6          # TTL and rdlength
        pos = one.end
    check(n == parsed.ttl_count, b"response: TTL count")
    check(n == <uint32_t>parsed.ancount + parsed.nscount + parsed.arcount, b"response: counts")
    check(pos == parsed.records_end, b"response: records_end")
    check(least == parsed.min_ttl, b"response: min_ttl")
    check(plain == parsed.plain_len, b"response: plain_len")
    check(parsed.kind >= 1 and parsed.kind <= 6, b"response: kind")


cdef void check_same_records(const uint8_t *a, uint32_t a_len, uint32_t a_pos, const uint8_t *b,
                             uint32_t b_len, uint32_t b_pos, uint32_t count) noexcept nogil:
    # The first `count` records of two messages are the same, OPT not counted, TTLs apart.
    cdef uint32_t i = 0
    while i < count:
        check(ref_record(a, a_len, a_pos, True, &one), b"same: first")
        a_pos = one.end
        if one.rr_type == OPT:
            continue
        check(ref_record(b, b_len, b_pos, True, &other), b"same: second")
        b_pos = other.end
        check(one.octets_len == other.octets_len, b"same: length")
        check(memcmp(one.octets, other.octets, one.octets_len) == 0, b"same: octets")
        i += 1


cdef void check_reply(const uint8_t *msg, uint32_t msg_len, const answer_view *view,
                      const fd_query_t *query, uint32_t limit, uint64_t now_ms) noexcept nogil:
    # The reply to a query for this message's question in the other letter case: good, within its
    # limit, the same records.
    cdef uint8_t question[300]
    cdef uint32_t n, i, kept, required, age_s, was, written_ttl, base = parsed.records_off
    cdef bint stale
    memcpy(question, msg + HEADER, base - HEADER)
    for i in range(base - HEADER - 4):
        if 65 <= (question[i] & 0xdf) <= 90:
            question[i] ^= 0x20
    memcpy(reply + HEADER, question, base - HEADER)
    n = compose_reply(view, query, reply, limit, now_ms)
    check(n <= (limit if limit > 512 else 512), b"reply: limit")
    check(parse_response(reply, n, &reparsed) == 0, b"reply: parses")
    check(reparsed.records_end == n, b"reply: nothing follows")
    check(memcmp(reply + HEADER, question, base - HEADER) == 0, b"reply: question")
    check((reparsed.opt_off != 0) == (query.edns != 0), b"reply: OPT out if in")
    kept = reparsed.ttl_count
    required = <uint32_t>view.entry.ancount + view.entry.nscount
    check(kept <= view.entry.ttl_count, b"reply: count")
    check(((get_u16(reply + 2) & 0x0200) != 0) == (kept < required), b"reply: TC")
    if kept < view.entry.ttl_count and kept > view.entry.ancount:
        check(reparsed.nscount == 0 or kept >= required or reparsed.arcount == 0, b"reply: sections in order")
    check(reparsed.ancount == (kept if kept < view.entry.ancount else view.entry.ancount), b"reply: ancount")
    age_s = <uint32_t>((now_ms - view.entry.stored_ms) // 1000)
    stale = age_s >= (view.entry.ttl_s if view.entry.ttl_s else 1)
    for i in range(kept):
        was = get_u32(view.records + view.ttl_off[i])
        written_ttl = get_u32(reply + reparsed.ttl_off[i])
        check(written_ttl == (view.stale_ttl_s if stale else (was - age_s if was > age_s else 0)), b"reply: TTL")
    check_same_records(msg, msg_len, base, reply, n, base, kept)


cdef void check_turned(const uint8_t *msg, uint32_t msg_len, const answer_view *view, const fd_query_t *query,
                       uint32_t spin) noexcept nogil:
    # With the records that may change places turned, each is the record that it was elsewhere.
    cdef uint8_t *turned = <uint8_t *>turned_words
    cdef fd_entry_t *entry = <fd_entry_t *>turned_words
    cdef answer_view whole = view[0]
    cdef uint32_t base = parsed.records_off
    cdef uint32_t n, i, pos = base, source, begin, length, step
    entry[0] = view.entry[0]
    entry.qname_len = <uint8_t>(base - HEADER - 4)
    memcpy(turned + fd_entry_ttl_off(entry.qname_len), view.ttl_off, 2 * entry.ttl_count)
    memcpy(turned + fd_entry_records_off(entry.qname_len, entry.ttl_count), view.records, entry.records_len)
    rotate_find(entry)
    if entry.rotate_count == 0:
        return
    whole.entry = entry
    whole.records_avail = entry.records_len
    whole.spin = spin | 1
    memcpy(reply + HEADER, msg + HEADER, base - HEADER)
    n = compose_reply(&whole, query, reply, REPLY_ROOM, entry.stored_ms)
    check(parse_response(reply, n, &reparsed) == 0, b"turned: parses")
    if reparsed.ttl_count < entry.ttl_count:
        return                             # no room beside the OPT
    begin = base + entry.rotate_off
    length = <uint32_t>entry.rotate_len * entry.rotate_count
    step = <uint32_t>((<uint64_t>whole.spin * entry.rotate_count) >> 32) * entry.rotate_len
    for i in range(entry.ttl_count):
        source = pos
        if begin <= pos and pos < begin + length:
            source = begin + (pos - begin + step) % length
        check(ref_record(msg, msg_len, source, True, &one), b"turned: before")
        check(ref_record(reply, n, pos, True, &other), b"turned: after")
        check(one.octets_len == other.octets_len, b"turned: length")
        check(memcmp(one.octets, other.octets, one.octets_len) == 0, b"turned: octets")
        pos = other.end


cdef bint make_query(const uint8_t *msg, uint32_t base, uint32_t flags, fd_query_t *query) noexcept nogil:
    # A query for the message's question; flags: bit 0 EDNS, 1 DO, 2 AD, 3 CD. False for a
    # question that is refused.
    cdef uint8_t packet[300]
    cdef uint32_t n = base
    memcpy(packet, msg, base)
    put_u16(packet + 2, 0x0100 | (0x20 if flags & 4 else 0) | (0x10 if flags & 8 else 0))
    put_u16(packet + 4, 1)
    memset(packet + 6, 0, 6)
    if flags & 1:
        packet[11] = 1
        memset(packet + n, 0, 11)
        packet[n + 2] = OPT
        put_u16(packet + n + 3, 4096)
        packet[n + 7] = 0x80 if flags & 2 else 0
        n += 11
    return parse_query(packet, n, KEY, 0, 0, query) == 0


cdef void fill_entry(fd_entry_t *entry, uint32_t records_len, uint32_t ttl_s, uint32_t ext_rcode) noexcept nogil:
    memset(entry, 0, sizeof(entry[0]))
    entry.stored_ms = 1000000
    entry.ttl_s = ttl_s
    entry.msg_flags = parsed.flags & 0x04af       # AA RA AD rcode
    entry.ext_rcode = <uint8_t>ext_rcode
    entry.kind = <uint8_t>(1 + parsed.kind % 4)
    entry.ancount = parsed.ancount
    entry.nscount = parsed.nscount
    entry.arcount = parsed.arcount
    entry.ttl_count = <uint16_t>parsed.ttl_count
    entry.records_len = <uint16_t>records_len


cdef uint32_t check_compressed(const uint8_t *msg, uint32_t msg_len) noexcept nogil:
    # Written anew the records are the same; leaves the message in `rebuilt`. Returns its length.
    cdef uint32_t base = parsed.records_off
    cdef uint32_t n = compress_records(msg, &parsed, &room, written, written_ttl_off)
    cdef uint32_t i
    check(room.used_count == 0, b"compress: room is clean")
    if n == 0:
        check(parsed.ttl_count == 0 or parsed.plain_len > 65535, b"compress: refused without need")
        return 0
    check(base + n <= 65535, b"compress: size")
    memcpy(rebuilt, msg, base)
    memcpy(rebuilt + base, written, n)
    put_u16(rebuilt + 10, parsed.arcount)
    check(parse_response(rebuilt, base + n, &reparsed) == 0, b"compress: parses")
    check(reparsed.records_end == base + n, b"compress: nothing follows")
    check(reparsed.ttl_count == parsed.ttl_count and reparsed.opt_off == 0, b"compress: count")
    check(reparsed.plain_len == parsed.plain_len, b"compress: plain_len")
    check(reparsed.min_ttl == parsed.min_ttl, b"compress: min_ttl")
    for i in range(parsed.ttl_count):
        check(reparsed.ttl_off[i] == base + written_ttl_off[i], b"compress: TTL offset")
    check_same_records(msg, msg_len, base, rebuilt, base + n, base, parsed.ttl_count)
    return base + n


cdef public int fuzz_response(const uint8_t *data, size_t size) noexcept nogil:
    """A message from upstream: parsed, compressed, stored, and given to clients of all sizes.

    Its first octets: reply limit (2), age in tenths of a second (2), lifetime in s (1), query's
    flags (1), octets of records a reader had copied (2; 0: all).
    """
    cdef const uint8_t *msg = data + PARAMETERS
    cdef uint32_t msg_len, limit, base, avail, i, records_len
    cdef uint64_t now_ms
    cdef fd_query_t query
    cdef fd_entry_t entry
    cdef answer_view view
    if size < PARAMETERS or size - PARAMETERS > 65535:
        return 0
    msg_len = <uint32_t>(size - PARAMETERS)
    if parse_response(msg, msg_len, &parsed) != 0:
        return 0
    check_response(msg, msg_len)
    base = parsed.records_off
    limit = get_u16(data)
    now_ms = 1000000 + <uint64_t>get_u16(data + 2) * 100
    avail = get_u16(data + 6)
    if not make_query(msg, base, data[5], &query):
        check_compressed(msg, msg_len)
        return 0
    view.entry = &entry
    view.qname = query.qname
    view.spin = 0
    view.told_len = 0
    view.stale_ttl_s = limit
    if parsed.opt_off == 0 or parsed.opt_off + parsed.opt_len == parsed.records_end:
        # As it came, OPT cut off its end.
        records_len = (parsed.opt_off if parsed.opt_off else parsed.records_end) - base
        fill_entry(&entry, records_len, data[4], data[5] >> 7)
        for i in range(parsed.ttl_count):
            entry_ttl_off[i] = <uint16_t>(parsed.ttl_off[i] - base)
        view.ttl_off = entry_ttl_off
        view.ttl_avail = parsed.ttl_count
        view.records = msg + base
        view.records_avail = avail if avail and avail < records_len else records_len
        check_reply(msg, msg_len, &view, &query, limit if limit > 512 else 512, now_ms)
        check_turned(msg, msg_len, &view, &query, (limit + 1) * <uint32_t>0x9e3779b1)
    records_len = check_compressed(msg, msg_len)
    if records_len != 0:
        records_len -= base
        fill_entry(&entry, records_len, data[4], data[5] >> 7)
        view.ttl_off = written_ttl_off
        view.ttl_avail = parsed.ttl_count
        view.records = written
        view.records_avail = records_len
        check_reply(rebuilt, base + records_len, &view, &query, limit, now_ms)
        check_turned(rebuilt, base + records_len, &view, &query, (limit + 1) * <uint32_t>0x9e3779b1)
    return 0
