# SPDX-License-Identifier: Apache-2.0
"""The wire format's functions for tests and micro-benches.

Each call works on a heap copy of exactly the octets given, so that a sanitizer sees a read past
them; what is written goes into a buffer whose end is watched.
"""

from dataclasses import dataclass

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastdns cimport _name
from fastdns._answer cimport compose_error, compose_reply
from fastdns._cache cimport answer_view
from fastdns._compress cimport compress_records, compress_room_t
from fastdns._response cimport parse_response, response_matches, response_t
from fastdns._shm cimport fd_entry_t, fd_query_t
from fastdns._wire cimport parse_query

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    enum:
        CLOCK_MONOTONIC

cdef enum:
    GUARD = 64                   # octets after an output buffer that must stay as they were
    GUARD_OCTET = 0xa5


cdef uint64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec


cdef class Octets:
    """A heap block of its own: input of exactly this size, or output with a watched end."""

    cdef uint8_t *p
    cdef size_t size

    def __cinit__(self, size_t size, const uint8_t[::1] data=None):
        self.size = size
        self.p = <uint8_t *>malloc(size + GUARD if data is None else (size if size else 1))
        if self.p == NULL:
            raise MemoryError
        if data is None:
            memset(self.p, GUARD_OCTET, size + GUARD)
        elif size:
            memcpy(self.p, &data[0], size)

    def __dealloc__(self):
        free(self.p)

    cdef bytes take(self, size_t n):
        # The first n octets; nothing at or after `size` may have been written.
        assert n <= self.size, f"{n} octets in a buffer of {self.size}"
        assert self.p[self.size:self.size + GUARD] == bytes([GUARD_OCTET]) * GUARD, "written past the end"
        return self.p[:n]


cdef Octets octets(data):
    cdef bytes whole = bytes(data)
    return Octets(len(whole), whole if whole else b"\0")


cdef class Key:
    cdef uint64_t words[2]

    def __cinit__(self, bytes key):
        assert len(key) == 16
        memcpy(self.words, <const uint8_t *>key, 16)


DEFAULT_KEY = bytes(range(16))


# ------------------------------------------------------------------------------- names ----

def name_length(data: bytes) -> int:
    cdef Octets p = octets(data)
    return _name.name_length(p.p, p.size)


def name_fold_hash(name: bytes, extra: int = 0, key: bytes = DEFAULT_KEY) -> tuple[int, bytes]:
    """The hash and the octets written, padding included."""
    cdef Octets p = octets(name)
    cdef size_t padded = (p.size + 7) // 8 * 8
    cdef Octets out = Octets(padded)
    cdef Key k = Key(key)
    cdef uint64_t value = _name.name_fold_hash(p.p, <uint32_t>p.size, extra, k.words, out.p)
    return value, out.take(padded)


def key_extra(group: int, variant: int, key_flags: int, qtype: int, qclass: int) -> int:
    return _name.key_extra(group, variant, key_flags, qtype, qclass)


def lower_word(word: int) -> int:
    return _name.lower_word(word)


def siphash(data: bytes, key: bytes = DEFAULT_KEY) -> int:
    cdef Octets p = octets(data)
    cdef Key k = Key(key)
    return _name.siphash(p.p, p.size, k.words)


def name_same(a: bytes, b: bytes) -> bool:
    assert len(a) == len(b)
    cdef Octets p = octets(a)
    cdef Octets q = octets(b)
    return bool(_name.name_same(p.p, q.p, <uint32_t>p.size))


def name_skip(msg: bytes, pos: int) -> tuple[int, int]:
    """Octets in place (0: malformed) and without compression."""
    cdef Octets p = octets(msg)
    cdef uint32_t full = 0
    cdef uint32_t in_place = _name.name_skip(p.p, <uint32_t>p.size, pos, &full)
    return in_place, full


def name_expand(msg: bytes, pos: int) -> bytes:
    """The name without compression; ValueError if name_skip would not have it."""
    cdef Octets p = octets(msg)
    cdef Octets out = Octets(255)
    cdef uint32_t full = 0
    if _name.name_skip(p.p, <uint32_t>p.size, pos, &full) == 0:
        raise ValueError("malformed name")
    return out.take(_name.name_expand(p.p, pos, out.p))


# ----------------------------------------------------------------------------- queries ----

@dataclass(frozen=True)
class Query:
    """What parse_query said and filled in."""

    rc: int
    key_hash: int
    id: bytes
    flags: int
    qtype: int
    qclass: int
    udp_size: int
    group: int
    variant: int
    key_flags: int
    edns: int
    qname_len: int
    qname: bytes


def parse(packet: bytes, key: bytes = DEFAULT_KEY, group: int = 0, variant: int = 0) -> Query:
    cdef Octets p = octets(packet)
    cdef Key k = Key(key)
    cdef fd_query_t q
    memset(&q, 0, sizeof(q))
    rc = <int>parse_query(p.p, p.size, k.words, group, variant, &q)
    return Query(rc, q.key_hash, (<const uint8_t *>&q.id)[:2], q.flags, q.qtype, q.qclass, q.udp_size,
                 q.group, q.variant, q.key_flags, q.edns, q.qname_len, q.qname[:q.qname_len])


def bench_parse(packet: bytes, n: int) -> float:
    """ns of one parse with folding and hashing, over n of them."""
    cdef Octets p = octets(packet)
    cdef Key k = Key(DEFAULT_KEY)
    cdef fd_query_t q
    cdef uint64_t begun, ended
    cdef uint32_t _i, turns = n
    with nogil:
        begun = clock_ns()
        for _i in range(turns):
            parse_query(p.p, p.size, k.words, 0, 0, &q)
        ended = clock_ns()
    return <double>(ended - begun) / turns


def bench_hash(name: bytes, n: int) -> float:
    """ns of one name_fold_hash, over n of them."""
    cdef Octets p = octets(name)
    cdef Key k = Key(DEFAULT_KEY)
    cdef uint8_t out[256]
    cdef uint64_t begun, ended
    cdef uint32_t _i, turns = n
    with nogil:
        begun = clock_ns()
        for _i in range(turns):
            _name.name_fold_hash(p.p, <uint32_t>p.size, _i, k.words, out)
        ended = clock_ns()
    return <double>(ended - begun) / turns


# ----------------------------------------------------------------------------- replies ----

cdef class Entry:
    """An answer as the cache holds it, whole in memory of its own."""

    cdef fd_entry_t entry
    cdef Octets records
    cdef Octets offsets
    cdef answer_view view

    def __init__(self, records: bytes, ttl_off: list[int], counts: tuple[int, int, int], *,
                 msg_flags: int = 0, kind: int = 1, ext_rcode: int = 0, stored_ms: int = 0,
                 ttl_s: int = 3600, stale_ttl_s: int = 30, stale_mark: int = 0, records_avail: int | None = None,
                 ttl_avail: int | None = None):
        cdef uint32_t i
        memset(&self.entry, 0, sizeof(self.entry))
        self.entry.msg_flags = msg_flags
        self.entry.kind = kind
        self.entry.ext_rcode = ext_rcode
        self.entry.stored_ms = stored_ms
        self.entry.ttl_s = ttl_s
        self.entry.stale_mark = stale_mark
        self.view.stale_ttl_s = stale_ttl_s
        self.entry.ancount, self.entry.nscount, self.entry.arcount = counts
        self.entry.records_len = len(records)
        self.entry.ttl_count = len(ttl_off)
        self.view.entry = &self.entry
        self.view.qname = NULL
        self.view.records_avail = len(records) if records_avail is None else records_avail
        self.view.ttl_avail = len(ttl_off) if ttl_avail is None else ttl_avail
        self.records = octets(records[:self.view.records_avail])
        self.offsets = octets(bytes(2 * self.view.ttl_avail))
        for i in range(self.view.ttl_avail):
            (<uint16_t *>self.offsets.p)[i] = ttl_off[i]
        self.view.records = self.records.p
        self.view.ttl_off = <const uint16_t *>self.offsets.p


cdef Octets reply_buffer(Octets packet, uint32_t limit):
    # The client's octets stand where the reply will be, as in a worker.
    cdef Octets out = Octets(limit if limit > 512 else 512)
    memcpy(out.p, packet.p, packet.size if packet.size < out.size else out.size)
    return out


def compose(entry: Entry, packet: bytes, limit: int, now_ms: int = 0) -> bytes:
    """The reply to a query that parses; ValueError for one that does not."""
    cdef Octets p = octets(packet)
    cdef Key k = Key(DEFAULT_KEY)
    cdef fd_query_t q
    cdef Octets out = reply_buffer(p, limit)
    cdef Entry e = entry
    if parse_query(p.p, p.size, k.words, 0, 0, &q) != 0:
        raise ValueError("not a good query")
    return out.take(compose_reply(&e.view, &q, out.p, limit, now_ms))


def error(packet: bytes, rcode: int, ede: int = 0xffff) -> bytes:
    """The reply without records to a query of at least a header."""
    cdef Octets p = octets(packet)
    cdef Key k = Key(DEFAULT_KEY)
    cdef fd_query_t q
    cdef Octets out = reply_buffer(p, 512)
    assert p.size >= 12
    parse_query(p.p, p.size, k.words, 0, 0, &q)
    return out.take(compose_error(&q, rcode, ede, out.p))


def bench_compose(entry: Entry, packet: bytes, limit: int, now_ms: int, n: int) -> float:
    """ns of one compose_reply, over n of them."""
    cdef Octets p = octets(packet)
    cdef Key k = Key(DEFAULT_KEY)
    cdef fd_query_t q
    cdef Octets out = reply_buffer(p, limit)
    cdef Entry e = entry
    cdef uint64_t begun, ended, now = now_ms
    cdef uint32_t _i, turns = n, size = limit
    if parse_query(p.p, p.size, k.words, 0, 0, &q) != 0:
        raise ValueError("not a good query")
    with nogil:
        begun = clock_ns()
        for _i in range(turns):
            compose_reply(&e.view, &q, out.p, size, now)
        ended = clock_ns()
    return <double>(ended - begun) / turns


# --------------------------------------------------------------------------- responses ----

@dataclass(frozen=True)
class Response:
    """What parse_response said and filled in."""

    rc: int
    id: bytes
    flags: int
    ancount: int
    nscount: int
    arcount: int
    rcode: int
    records_off: int
    records_end: int
    opt_off: int
    opt_len: int
    opt_size: int
    opt_do: int
    kind: int
    has_soa: int
    compressed: int
    min_ttl: int
    soa_ttl: int
    soa_minimum: int
    plain_len: int
    ttl_off: tuple[int, ...]


cdef class Parsed:
    cdef response_t response
    cdef Octets msg
    cdef int rc

    def __cinit__(self, msg):
        self.msg = octets(msg)
        memset(&self.response, 0, sizeof(self.response))
        self.rc = parse_response(self.msg.p, self.msg.size, &self.response)


def parse_answer(msg: bytes) -> Response:
    """parse_response; of one that is not good only rc, id and flags mean anything."""
    cdef Parsed parsed = Parsed(msg)
    cdef response_t *r = &parsed.response
    return Response(parsed.rc, (<const uint8_t *>&r.id)[:2], r.flags, r.ancount, r.nscount, r.arcount,
                    r.rcode, r.records_off, r.records_end, r.opt_off, r.opt_len, r.opt_size, r.opt_do,
                    r.kind, r.has_soa, r.compressed, r.min_ttl, r.soa_ttl, r.soa_minimum, r.plain_len,
                    tuple([r.ttl_off[i] for i in range(r.ttl_count)]))


def matches(msg: bytes, qname: bytes, qtype: int, qclass: int) -> bool:
    cdef Octets p = octets(msg)
    cdef Octets name = octets(qname)
    return bool(response_matches(p.p, p.size, name.p, <uint32_t>name.size, qtype, qclass))


cdef class Room:
    """One for all calls, as the coordinator has it: each must leave it as it found it."""

    cdef compress_room_t room

    def __cinit__(self):
        memset(&self.room, 0, sizeof(self.room))

    cdef bint clean(self):
        cdef uint32_t i
        for i in range(sizeof(self.room.offset) // 2):
            if self.room.offset[i] != 0:
                return False
        return self.room.used_count == 0


cdef Room room = Room()


def compress(msg: bytes) -> tuple[bytes, list[int]]:
    """The records written anew and their TTL offsets; none (b"", []) if they would not fit."""
    cdef Parsed parsed = Parsed(msg)
    if parsed.rc != 0:
        raise ValueError("not a good response")
    cdef uint32_t count = parsed.response.ttl_count
    cdef Octets out = Octets(65535 - parsed.response.records_off)
    cdef Octets offsets = Octets(2 * count)
    cdef uint32_t written = compress_records(parsed.msg.p, &parsed.response, &room.room, out.p,
                                             <uint16_t *>offsets.p)
    assert room.clean(), "the room is not as it was"
    out.take(0)
    offsets.take(0)
    if written == 0:
        return b"", []
    return out.take(written), [(<uint16_t *>offsets.p)[i] for i in range(count)]


def bench_parse_answer(msg: bytes, n: int) -> float:
    """ns of one parse_response, over n of them."""
    cdef Parsed parsed = Parsed(msg)
    cdef uint64_t begun, ended
    cdef uint32_t _i, turns = n
    with nogil:
        begun = clock_ns()
        for _i in range(turns):
            parse_response(parsed.msg.p, parsed.msg.size, &parsed.response)
        ended = clock_ns()
    return <double>(ended - begun) / turns


def bench_compress(msg: bytes, n: int) -> float:
    """ns of one compress_records, over n of them."""
    cdef Parsed parsed = Parsed(msg)
    if parsed.rc != 0:
        raise ValueError("not a good response")
    cdef Octets out = Octets(65536)
    cdef Octets offsets = Octets(2 * 5957)
    cdef uint64_t begun, ended
    cdef uint32_t _i, turns = n
    with nogil:
        begun = clock_ns()
        for _i in range(turns):
            compress_records(parsed.msg.p, &parsed.response, &room.room, out.p, <uint16_t *>offsets.p)
        ended = clock_ns()
    return <double>(ended - begun) / turns
