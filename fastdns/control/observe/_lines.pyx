# SPDX-License-Identifier: Apache-2.0
"""The log rings as control reads them: records in, lines of the plugin `log` out. SHM_LAYOUT

At 20,000 queries a second a line has to cost a few microseconds, so formats are compiled to steps and
records are written by them here. A record's octets may change under us while a worker goes wild: each is
copied before it is checked.
"""

import socket

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strlen

from fastdns._ring cimport ring_next, ring_open, ring_record_len, ring_release, ring_t
from fastdns._segments cimport log_check, map_segment
from fastdns._shm cimport (
    FD_EDNS_DO,
    FD_ENTRY_NODATA,
    FD_ENTRY_NXDOMAIN,
    FD_ENTRY_POSITIVE,
    FD_RECORD_LOG_ERROR,
    FD_RECORD_LOG_QUERY,
    fd_load64,
    fd_log_error_t,
    fd_log_query_t,
    fd_log_t,
    fd_record_t,
    sockaddr_in,
    sockaddr_in6,
)

from fastdns.errors import SegmentError

cdef extern from "<sys/mman.h>" nogil:
    int munmap(void *addr, size_t length)

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *out, uint32_t size)
    uint16_t ntohs(uint16_t value)

cdef extern from *:
    const uint64_t NEVER "UINT64_MAX"

cdef enum:
    RECORD_MAX = 4096            # octets; a query's record is 96 and a name
    PIECE_MAX = 1100             # octets that one step writes at most: a name, each octet as \DDD
    AF_INET_ = 2

cdef enum:                       # steps of a format
    STEP_LITERAL, STEP_TYPE, STEP_CLASS, STEP_NAME, STEP_PROTO, STEP_REMOTE, STEP_LOCAL, STEP_PORT, STEP_SIZE
    STEP_RCODE, STEP_RSIZE, STEP_DURATION, STEP_ID, STEP_OPCODE, STEP_DO, STEP_BUFSIZE, STEP_RFLAGS
    STEP_LOG_CLASS, STEP_LOG_TYPE

STEPS = {
    "{type}": STEP_TYPE, "{class}": STEP_CLASS, "{name}": STEP_NAME, "{proto}": STEP_PROTO,
    "{remote}": STEP_REMOTE, "{local}": STEP_LOCAL, "{port}": STEP_PORT, "{size}": STEP_SIZE,
    "{rcode}": STEP_RCODE, "{rsize}": STEP_RSIZE, "{duration}": STEP_DURATION, "{>id}": STEP_ID,
    "{>opcode}": STEP_OPCODE, "{>do}": STEP_DO, "{>bufsize}": STEP_BUFSIZE, "{>rflags}": STEP_RFLAGS,
    "{/log/class}": STEP_LOG_CLASS, "{/log/type}": STEP_LOG_TYPE,
}

CLASSES = {"success": 1, "denial": 2, "error": 4, "all": 7}

cdef enum:
    CLASS_SUCCESS = 1
    CLASS_DENIAL = 2
    CLASS_ERROR = 4

cdef extern from *:
    """
    static const char *const fd_flag_names[] = {"qr", "aa", "tc", "rd", "ra", "z", "ad", "cd"};
    static const uint16_t fd_flag_bits[] = {0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010};
    """
    const char *fd_flag_names[]
    const uint16_t fd_flag_bits[]


cdef class Texts:
    """Numbers to the names that miekg's library has for them."""

    cdef dict types
    cdef dict classes
    cdef dict rcodes

    def __init__(self, dict types, dict classes, dict rcodes):
        """Each: number to text."""
        self.types = {number: text.encode() for number, text in types.items()}
        self.classes = {number: text.encode() for number, text in classes.items()}
        self.rcodes = {number: text.encode() for number, text in rcodes.items()}

    cdef bytes type(self, int number):
        return self.types.get(number) or b"TYPE%d" % number

    cdef bytes qclass(self, int number):
        return self.classes.get(number) or b"CLASS%d" % number

    cdef bytes rcode(self, int number):
        return self.rcodes.get(number) or b"RCODE%d" % number


cdef class Out:
    """Octets that grow."""

    cdef public bytearray data
    cdef uint32_t used
    cdef uint32_t room

    def __init__(self, uint32_t room=65536):
        self.room = room
        self.data = bytearray(self.room)
        self.used = 0

    cdef char *reserve(self, uint32_t octets) except NULL:
        if self.room - self.used < octets:
            self.room = 2 * self.room + octets
            PyByteArray_Resize(self.data, self.room)
        return PyByteArray_AS_STRING(self.data) + self.used

    cdef int put(self, const char *octets, uint32_t count) except -1:
        memcpy(self.reserve(count), octets, count)
        self.used += count
        return 0

    cdef int put_bytes(self, bytes octets) except -1:
        return self.put(octets, <uint32_t>len(octets))

    cdef int number(self, uint64_t value) except -1:
        cdef char digits[20]
        cdef int at = 20
        while True:
            at -= 1
            digits[at] = <char>(48 + value % 10)
            value //= 10
            if value == 0:
                break
        return self.put(digits + at, 20 - at)

    def take(self):
        """What was written; empties it."""
        found = bytes(self.data[:self.used])
        self.used = 0
        return found


cdef int put_name(Out out, const uint8_t *name, uint32_t name_len) except -1:
    # As miekg's library writes names: labels' own dots and other specials escaped, the rest of ASCII as it is.
    cdef char *to = out.reserve(PIECE_MAX)
    cdef uint32_t written = 0
    cdef uint32_t at = 0
    cdef uint32_t label
    cdef uint8_t octet
    while at < name_len and name[at] != 0:
        label = name[at]
        at += 1
        while label > 0 and at < name_len:
            octet = name[at]
            at += 1
            label -= 1
            if 65 <= octet <= 90:
                octet += 32
            if octet < 33 or octet > 126:
                if octet == 32:
                    to[written] = 92
                    to[written + 1] = 32
                    written += 2
                else:
                    to[written] = 92
                    to[written + 1] = <char>(48 + octet // 100)
                    to[written + 2] = <char>(48 + octet // 10 % 10)
                    to[written + 3] = <char>(48 + octet % 10)
                    written += 4
                continue
            if octet in (34, 39, 40, 41, 46, 59, 64, 92):     # " ' ( ) . ; @ \
                to[written] = 92
                written += 1
            to[written] = <char>octet
            written += 1
        to[written] = 46
        written += 1
    if written == 0:
        to[0] = 46
        written = 1
    out.used += written
    return 0


cdef int put_address(Out out, int family, const void *address) except -1:
    cdef char text[64]
    if family == AF_INET_:
        if inet_ntop(AF_INET_, address, text, sizeof(text)) == NULL:
            return 0
        return out.put(text, <uint32_t>strlen(text))
    if inet_ntop(<int>socket.AF_INET6, address, text, sizeof(text)) == NULL:
        return 0
    out.put(b"[", 1)
    out.put(text, <uint32_t>strlen(text))
    return out.put(b"]", 1)


cdef int put_peer(Out out, const sockaddr_in6 *peer, bint port) except -1:
    cdef const sockaddr_in *inet = <const sockaddr_in *>peer
    if peer.sin6_family == AF_INET_:
        return out.number(ntohs(inet.sin_port)) if port else put_address(out, AF_INET_, &inet.sin_addr)
    return out.number(ntohs(peer.sin6_port)) if port else put_address(out, 0, &peer.sin6_addr)


cdef int put_duration(Out out, uint32_t us) except -1:
    # Seconds in the shortest form, as Go's FormatFloat(..., 'f', -1, 64) gives them.
    cdef char digits[6]
    cdef int count = 6
    cdef int i
    cdef uint32_t rest = us % 1000000
    out.number(us // 1000000)
    for i in range(6):
        digits[5 - i] = <char>(48 + rest % 10)
        rest //= 10
    while count > 0 and digits[count - 1] == 48:
        count -= 1
    if count > 0:
        out.put(b".", 1)
        out.put(digits, count)
    return out.put(b"s", 1)


cdef int put_flags(Out out, uint16_t flags) except -1:
    cdef int i
    cdef bint first = True
    for i in range(8):
        if flags & fd_flag_bits[i]:
            if not first:
                out.put(b",", 1)
            out.put(fd_flag_names[i], <uint32_t>strlen(fd_flag_names[i]))
            first = False
    return 0


cdef int class_of(const fd_log_query_t *record) noexcept nogil:
    # CoreDNS's response.Classify, as far as the kind of the entry tells it.
    if record.reply_flags == 0:
        return CLASS_ERROR
    if record.entry_kind == FD_ENTRY_POSITIVE:
        return CLASS_SUCCESS
    if record.entry_kind == FD_ENTRY_NODATA or record.entry_kind == FD_ENTRY_NXDOMAIN:
        return CLASS_DENIAL
    return CLASS_SUCCESS if record.entry_kind == 0 and record.rcode == 0 else CLASS_ERROR


cdef bytes log_type_of(const fd_log_query_t *record):
    if record.reply_flags == 0 or class_of(record) == CLASS_ERROR:
        return b"SERVERERROR" if record.rcode in (2, 4) else b"OTHERERROR"
    if record.entry_kind == FD_ENTRY_NXDOMAIN:
        return b"NXDOMAIN"
    return b"NODATA" if record.entry_kind == FD_ENTRY_NODATA else b"NOERROR"


cdef class Rule:
    """A `log` line of a block: for which names and classes, and what to write."""

    cdef list scopes
    cdef int classes
    cdef list literals
    cdef list steps

    def __init__(self, scopes, int classes, steps):
        """scopes: names on the wire, lower case; classes: a sum of CLASSES' values;
        steps: texts, and numbers of STEPS."""
        self.scopes = [bytes(one) for one in scopes]
        self.classes = classes
        self.steps = [STEP_LITERAL if isinstance(one, str) else one for one in steps]
        self.literals = [one.encode() if isinstance(one, str) else b"" for one in steps]

    cdef bint covers(self, const uint8_t *name, uint32_t name_len):
        # name: lower case. A scope fits where it begins with one of the name's labels.
        cdef bytes scope
        cdef const uint8_t *text
        cdef uint32_t scope_len, at
        for scope in self.scopes:
            scope_len = <uint32_t>len(scope)
            text = scope
            at = 0
            while name_len - at >= scope_len:
                if name_len - at == scope_len:
                    if memcmp(name + at, text, scope_len) == 0:
                        return True
                    break
                if name[at] == 0 or name[at] + 1u > name_len - at:
                    break
                at += name[at] + 1
        return False

    cdef int write(self, Out out, const fd_log_query_t *record, const uint8_t *name, LogReader reader) except -1:
        cdef Texts texts = reader.texts
        cdef int i, step
        for i in range(len(self.steps)):
            step = self.steps[i]
            if step == STEP_LITERAL:
                out.put_bytes(self.literals[i])
            elif step == STEP_NAME:
                put_name(out, name, record.qname_len)
            elif step == STEP_TYPE:
                out.put_bytes(texts.type(record.qtype))
            elif step == STEP_CLASS:
                out.put_bytes(texts.qclass(record.qclass))
            elif step == STEP_PROTO:
                out.put(b"tcp" if record.tcp else b"udp", 3)
            elif step == STEP_REMOTE:
                put_peer(out, &record.peer, False)
            elif step == STEP_PORT:
                put_peer(out, &record.peer, True)
            elif step == STEP_LOCAL:
                reader.put_local(out, record)
            elif step == STEP_SIZE:
                out.number(record.request_size)
            elif step == STEP_RSIZE:
                out.number(record.reply_size if record.reply_flags else 0)
            elif step == STEP_DURATION:
                put_duration(out, record.duration_us)
            elif step == STEP_ID:
                out.number(record.id)
            elif step == STEP_OPCODE:
                out.number((record.query_flags >> 11) & 15)
            elif step == STEP_DO:
                out.put_bytes(b"true" if record.edns & FD_EDNS_DO else b"false")
            elif step == STEP_BUFSIZE:
                out.number(record.udp_size)
            elif step == STEP_LOG_CLASS:
                out.put_bytes(reader.class_texts[class_of(record)])
            elif step == STEP_LOG_TYPE:
                out.put_bytes(log_type_of(record))
            elif record.reply_flags == 0:          # {rcode}, {>rflags}: nothing was sent
                out.put(b"-", 1)
            elif step == STEP_RCODE:
                out.put_bytes(texts.rcode(record.rcode))
            else:
                put_flags(out, record.reply_flags)
        return 0


cdef class LogReader:
    """The consumer's side of one ring. There may be one reader of a ring at a time."""

    cdef void *base
    cdef uint64_t size
    cdef ring_t ring
    cdef Texts texts
    cdef dict class_texts
    cdef list locals
    cdef bint peeked
    cdef uint64_t at_ms
    cdef public int invalid      # records that made no sense, dropped

    def __cinit__(self, int fd, Texts texts):
        """fd: stays the caller's. Raises SegmentError."""
        cdef fd_log_t *log
        self.base = map_segment(fd, True, &self.size)
        if self.base == NULL:
            raise SegmentError(f"log: mmap failed with errno {errno}")
        log = log_check(self.base, self.size)
        if log == NULL:
            raise SegmentError("log: not a log of this layout")
        ring_open(&self.ring, &log.ring, <uint8_t *>self.base + sizeof(fd_log_t), log.octets)
        self.texts = texts
        self.class_texts = {CLASS_SUCCESS: b"success", CLASS_DENIAL: b"denial", CLASS_ERROR: b"error"}
        self.locals = []

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)

    def set_locals(self, listeners):
        """listeners: by number, the address as {local} has it, or "" where a record says it."""
        self.locals = [one.encode() for one in listeners]

    cdef int put_local(self, Out out, const fd_log_query_t *record) except -1:
        cdef bytes text = self.locals[record.listener] if record.listener < len(self.locals) else b""
        if text:
            return out.put_bytes(text)
        return put_address(out, record.peer.sin6_family, record.local.address)

    cdef uint64_t next_ms(self):
        # When the next record was written; NEVER: there is none. Asked again only after that one was taken.
        cdef const fd_record_t *found
        if not self.peeked:
            found = ring_next(&self.ring)
            self.at_ms = NEVER
            if found != NULL:
                self.peeked = True
                self.at_ms = 0
                if ring_record_len(&self.ring) >= 16:
                    self.at_ms = min(fd_load64(<const char *>found + 8), <uint64_t>NEVER - 1)
        return self.at_ms

    cdef int take_one(self, rules, Out out, list errors) except -1:
        # The record that next_ms saw.
        cdef uint8_t record[RECORD_MAX]
        cdef uint32_t octets
        cdef const void *found = ring_next(&self.ring)
        self.peeked = False
        if found == NULL:
            return 0
        octets = ring_record_len(&self.ring)
        if octets > RECORD_MAX:
            self.invalid += 1
            ring_release(&self.ring)
            return 0
        memset(record, 0, sizeof(fd_log_query_t))
        memcpy(record, found, octets)
        # Lines are no promise: one that a dying control has taken may be lost, none is written twice.
        ring_release(&self.ring)
        if record[4] == FD_RECORD_LOG_QUERY and self.is_query(record, octets):
            self.write(rules, out, <const fd_log_query_t *>record)
        elif record[4] == FD_RECORD_LOG_ERROR and self.is_error(record, octets):
            errors.append(self.error(<const fd_log_error_t *>record))
        else:
            self.invalid += 1
        return 0

    cdef bint is_query(self, const uint8_t *record, uint32_t octets):
        return (octets >= sizeof(fd_log_query_t)
                and octets - sizeof(fd_log_query_t) >= (<const fd_log_query_t *>record).qname_len)

    cdef bint is_error(self, const uint8_t *record, uint32_t octets):
        cdef const fd_log_error_t *error = <const fd_log_error_t *>record
        return (octets >= sizeof(fd_log_error_t)
                and octets - sizeof(fd_log_error_t) >= <uint32_t>error.qname_len + error.text_len)

    cdef int write(self, rules, Out out, const fd_log_query_t *record) except -1:
        cdef const uint8_t *name = <const uint8_t *>record + sizeof(fd_log_query_t)
        cdef uint8_t folded[256]
        cdef uint32_t i
        cdef Rule rule
        if record.zone >= <uint32_t>len(rules):
            return 0
        for i in range(record.qname_len):
            folded[i] = name[i] + 32 if 65 <= name[i] <= 90 else name[i]
        for rule in rules[record.zone]:
            if rule.covers(folded, record.qname_len):
                if rule.classes & class_of(record):
                    out.put(b"[INFO] ", 7)
                    rule.write(out, record, folded, self)
                    out.put(b"\n", 1)
                return 0
        return 0

    cdef tuple error(self, const fd_log_error_t *record):
        cdef const uint8_t *name = <const uint8_t *>record + sizeof(fd_log_error_t)
        cdef Out text = Out(PIECE_MAX)
        put_name(text, name, record.qname_len)
        return (record.zone, record.rcode, record.qtype, record.upstream, record.error, record.kind,
                bool(record.tcp), text.take().decode("ascii"),
                (<const char *>name + record.qname_len)[:record.text_len])


def take(list readers, rules, Out out, list errors, uint32_t most):
    """Move records out of the rings in the order of their times, at most ``most``; returns how many there were.

    rules: a list of Rule for each zone's number; out gets lines of `log`; errors gets (zone, rcode, qtype,
    upstream, errno, kind, tcp, name, text) for each record of `errors`.
    """
    cdef LogReader reader, first
    cdef uint32_t taken = 0
    while taken < most:
        first = None
        for reader in readers:
            if reader.next_ms() != NEVER and (first is None or reader.at_ms < first.at_ms):
                first = reader
        if first is None:
            break
        first.take_one(rules, out, errors)
        taken += 1
    return taken
