# SPDX-License-Identifier: Apache-2.0
"""Answers that are made here: from the table of `hosts`, and `whoami` (corefile.md 2.3)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from fastdns._name cimport put_u16, put_u32
from fastdns._proto cimport (
    CLASS_IN,
    FLAG_AA,
    FLAG_QR,
    HEADER_LEN,
    MESSAGE_MAX,
    NAME_MAX,
    POINTER_BITS,
    RR_FIXED_LEN,
    TYPE_A,
    TYPE_AAAA,
    TYPE_PTR,
    TYPE_SOA,
    TYPE_SRV,
)
from fastdns._shm cimport (
    FD_NO_HOST,
    fd_at,
    fd_family_t,
    fd_host_t,
    fd_hosts_t,
    fd_question_client_t,
    sockaddr_in,
)
from fastdns._sys cimport AF_INET
from fastdns._zones cimport zone_hash
from fastdns.coordinator._names cimport name_listed
from fastdns.coordinator._state cimport coordinator_t, question_t

cdef enum:
    PROTOCOL_LABEL = 5           # octets of _udp and _tcp with their length
    ASTERISK = 0x2a
    PERSON_OCTETS = 11           # hostmaster with its length
    ABSENT_TTL_S = 300           # a configuration says so: only a reload changes it, and that drops it


# The message being written.
ctypedef struct writer_t:
    uint8_t *out
    uint32_t pos
    uint32_t count


cdef void begin(writer_t *w, uint8_t *out, const question_t *question, const uint8_t *qname) noexcept nogil:
    w.out = out
    memset(out, 0, HEADER_LEN)
    put_u16(out + 2, FLAG_QR | FLAG_AA)
    put_u16(out + 4, 1)
    memcpy(out + HEADER_LEN, qname, question.qname_len)
    w.pos = HEADER_LEN + question.qname_len + 4u
    put_u16(out + w.pos - 4, question.qtype)
    put_u16(out + w.pos - 2, question.qclass)
    w.count = 0


cdef bint put_record(writer_t *w, uint16_t rr_type, uint16_t rr_class, uint32_t ttl_s, const uint8_t *rdata,
                     uint32_t rdata_len) noexcept nogil:
    # The owner is the question's name, by pointer.
    if <uint32_t>MESSAGE_MAX - w.pos < 2 + RR_FIXED_LEN + rdata_len:
        return False
    put_u16(w.out + w.pos, (POINTER_BITS << 8) | HEADER_LEN)
    w.pos += 2
    put_fixed(w, rr_type, rr_class, ttl_s, rdata_len)
    memcpy(w.out + w.pos, rdata, rdata_len)
    w.pos += rdata_len
    return True


cdef void put_fixed(writer_t *w, uint16_t rr_type, uint16_t rr_class, uint32_t ttl_s,
                    uint32_t rdata_len) noexcept nogil:
    put_u16(w.out + w.pos, rr_type)
    put_u16(w.out + w.pos + 2, rr_class)
    put_u32(w.out + w.pos + 4, ttl_s)
    put_u16(w.out + w.pos + 8, rdata_len)
    w.pos += RR_FIXED_LEN
    w.count += 1


# --- hosts ---


cdef const fd_host_t *look_up(const coordinator_t *c, const fd_hosts_t *hosts, const uint8_t *name,
                              uint32_t name_len) noexcept nogil:
    cdef const uint32_t *heads = <const uint32_t *>fd_at(c.config, hosts.heads.off)
    cdef const fd_host_t *names = <const fd_host_t *>fd_at(c.config, hosts.names.off)
    cdef uint32_t number = heads[zone_hash(0, name, name_len) & (hosts.heads.count - 1)]
    while number != FD_NO_HOST:
        if (names[number].name_len == name_len
                and memcmp(fd_at(c.config, names[number].name_off), name, name_len) == 0):
            return &names[number]
        number = names[number].next
    return NULL


cdef const fd_host_t *look_up_wildcard(const coordinator_t *c, const fd_hosts_t *hosts, const uint8_t *name,
                                       uint32_t name_len) noexcept nogil:
    # `*.zone` stands for every name below the zone; the longest zone wins.
    cdef uint8_t[NAME_MAX + 1] starred
    cdef const fd_host_t *host
    cdef uint32_t off = 0
    while name[off] != 0:        # at most 127 labels
        off += name[off] + 1u
        starred[0] = 1
        starred[1] = ASTERISK
        memcpy(starred + 2, name + off, name_len - off)
        host = look_up(c, hosts, starred, name_len - off + 2)
        if host != NULL:
            return host
    return NULL


cdef void put_addresses(writer_t *w, const uint8_t *data, uint32_t count, uint32_t octets, uint16_t rr_type,
                        uint32_t ttl_s) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if not put_record(w, rr_type, CLASS_IN, ttl_s, data + i * octets, octets):
            return


cdef void put_pointers(writer_t *w, const uint8_t *data, uint32_t count, uint32_t ttl_s) noexcept nogil:
    cdef uint32_t name_len, _i
    for _i in range(count):
        name_len = 0
        while data[name_len] != 0:
            name_len += data[name_len] + 1u
        name_len += 1
        if not put_record(w, TYPE_PTR, CLASS_IN, ttl_s, data, name_len):
            return
        data += name_len


cdef const fd_host_t *find(const coordinator_t *c, const fd_hosts_t *hosts, const question_t *question,
                           const uint8_t *qname, bint *ours) noexcept nogil:
    # What is known of the name; `ours`: the table speaks for it, whether it knows it or not.
    cdef const fd_host_t *host
    ours[0] = question.qtype != TYPE_PTR and name_listed(c, &hosts.zones, qname, question.qname_len)
    if not ours[0] and question.qtype != TYPE_PTR:
        return NULL
    host = look_up(c, hosts, qname, question.qname_len)
    if host == NULL and question.qtype != TYPE_PTR:
        host = look_up_wildcard(c, hosts, qname, question.qname_len)
    if host == NULL:
        return NULL
    if question.qtype == TYPE_PTR:
        # An address that the table doesn't know is always the next step's.
        ours[0] = host.ptr_count != 0
        return host if host.ptr_count else NULL
    # A name that is there for its PTR alone is not known for other types.
    return host if host.v4_count or host.v6_count else NULL


cdef bint hosts_speaks(const coordinator_t *c, const fd_hosts_t *hosts, const question_t *question,
                       const uint8_t *qname) noexcept nogil:
    cdef bint ours = False
    cdef const fd_host_t *host = find(c, hosts, question, qname, &ours)
    return ours and (host != NULL or not name_listed(c, &hosts.through, qname, question.qname_len))


cdef hosts_rc hosts_answer(const coordinator_t *c, const fd_hosts_t *hosts, const question_t *question,
                           const uint8_t *qname, uint8_t *out, uint32_t *octets) noexcept nogil:
    cdef writer_t w
    cdef bint ours = False
    cdef const fd_host_t *host = find(c, hosts, question, qname, &ours)
    cdef const uint8_t *data
    if not ours:
        return HOSTS_PASS
    if host == NULL:
        return HOSTS_PASS if name_listed(c, &hosts.through, qname, question.qname_len) else HOSTS_FAIL
    data = <const uint8_t *>fd_at(c.config, host.data_off)
    begin(&w, out, question, qname)
    if question.qtype == TYPE_A:
        put_addresses(&w, data, host.v4_count, 4, TYPE_A, hosts.ttl_s)
    data += 4 * host.v4_count
    if question.qtype == TYPE_AAAA:
        put_addresses(&w, data, host.v6_count, 16, TYPE_AAAA, hosts.ttl_s)
    data += 16 * host.v6_count
    if question.qtype == TYPE_PTR:
        put_pointers(&w, data, host.ptr_count, hosts.ttl_s)
    put_u16(out + 6, w.count)
    octets[0] = w.pos
    return HOSTS_ANSWER


# --- a family that is not there ---


cdef uint32_t family_answer(const fd_family_t *family, const question_t *question, const uint8_t *qname,
                            uint8_t *out) noexcept nogil:
    cdef writer_t w
    cdef uint16_t zone = <uint16_t>((POINTER_BITS << 8) | (HEADER_LEN + question.qname_len - family.name_len))
    cdef bint person = family.name_len + PERSON_OCTETS <= NAME_MAX
    begin(&w, out, question, qname)
    put_u16(out + w.pos, zone)
    w.pos += 2
    put_fixed(&w, TYPE_SOA, CLASS_IN, ABSENT_TTL_S, 24 + (PERSON_OCTETS if person else 0))
    put_u16(out + w.pos, zone)                            # the server's name: the zone's own
    w.pos += 2
    if person:
        memcpy(out + w.pos, <const char *>"\x0ahostmaster", PERSON_OCTETS)
        w.pos += PERSON_OCTETS
    put_u16(out + w.pos, zone)
    put_u32(out + w.pos + 2, 1)                           # serial, refresh, retry, expire, minimum
    put_u32(out + w.pos + 6, 7200)
    put_u32(out + w.pos + 10, 1800)
    put_u32(out + w.pos + 14, 86400)
    put_u32(out + w.pos + 18, ABSENT_TTL_S)
    put_u16(out + 8, w.count)
    return w.pos + 22


# --- whoami ---


cdef uint32_t whoami_answer(const fd_question_client_t *client, const question_t *question,
                            const uint8_t *qname, uint8_t *out) noexcept nogil:
    cdef writer_t w
    cdef const sockaddr_in *inet = <const sockaddr_in *>&client.peer
    cdef const char *protocol = "\x04_tcp" if client.tcp else "\x04_udp"
    cdef uint16_t port = client.peer.sin6_port
    begin(&w, out, question, qname)
    if inet.sin_family == AF_INET:
        port = inet.sin_port
        put_record(&w, TYPE_A, question.qclass, 0, <const uint8_t *>&inet.sin_addr, 4)
    else:
        put_record(&w, TYPE_AAAA, question.qclass, 0, <const uint8_t *>&client.peer.sin6_addr, 16)
    if question.qname_len + PROTOCOL_LABEL <= NAME_MAX:   # else there can be no such name
        memcpy(out + w.pos, protocol, PROTOCOL_LABEL)
        put_u16(out + w.pos + PROTOCOL_LABEL, (POINTER_BITS << 8) | HEADER_LEN)
        w.pos += PROTOCOL_LABEL + 2
        put_fixed(&w, TYPE_SRV, question.qclass, 0, 7)
        memset(out + w.pos, 0, 7)                         # priority, weight, port, the root
        memcpy(out + w.pos + 4, &port, 2)                 # both in network order
        w.pos += 7
    put_u16(out + 10, w.count)
    return w.pos
