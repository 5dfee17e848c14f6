# SPDX-License-Identifier: Apache-2.0
"""Which records of an answer may change places on the wire. Data plane: nogil, no allocation.

Exports ``rotate_find``; the contract stands in ``_rotation.pxd``. The proof is a walk over every name
at or behind the run: where a pointer leads into the run, what it leads to must end within an
owner, which is the same in every record of the run. Names before the run can't reach it, as
pointers only lead backwards (``name_skip``); for the same reason no name in the run may lead
there, which in another order could be forward.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp

from fastdns._name cimport get_u16, get_u32
from fastdns._proto cimport CLASS_IN, HEADER_LEN, POINTER_BITS, TYPE_A, TYPE_AAAA, TYPE_MX
from fastdns._response cimport rdata_prefix, rdata_shape, rdata_shape_t
from fastdns._shm cimport fd_entry_records_off, fd_entry_t, fd_entry_ttl_off

cdef enum:
    OWNER_TO_TTL = 4             # octets from an owner's end to its TTL: type and class
    TTL_TO_RDATA = 6             # TTL and rdlength
    LENGTH_MAX = 255             # octets of a record that may move: rotate_len has eight bits
    POINTER_TARGET = 0x3fff


# An answer's records, and the run that is looked at.
ctypedef struct records_t:
    const uint8_t *records
    const uint16_t *ttl_off
    uint32_t base                # where they stand in a reply: pointers count from there
    uint32_t begin               # the run: octets from the records' start
    uint32_t length              # of one of its records
    uint32_t count
    uint32_t same                # octets at the start of each that are alike: owner, type, class


cdef inline uint32_t record_end(const records_t *r, uint32_t i) noexcept nogil:
    return r.ttl_off[i] + TTL_TO_RDATA + get_u16(r.records + r.ttl_off[i] + 4)


cdef inline uint32_t record_begin(const records_t *r, uint32_t i) noexcept nogil:
    return record_end(r, i - 1) if i != 0 else 0


cdef inline bint may_move(const records_t *r, uint32_t i) noexcept nogil:
    cdef uint32_t kind = get_u32(r.records + r.ttl_off[i] - OWNER_TO_TTL)
    return kind == (TYPE_A << 16 | CLASS_IN) or kind == (TYPE_AAAA << 16 | CLASS_IN) or (
        kind == (TYPE_MX << 16 | CLASS_IN))


# How many records from `first` on differ only in TTL and rdata.
cdef uint32_t run_from(records_t *r, uint32_t first, uint32_t end) noexcept nogil:
    cdef uint32_t i, begin
    r.begin = record_begin(r, first)
    r.same = r.ttl_off[first] - r.begin
    r.length = record_end(r, first) - r.begin
    r.count = 1
    if not may_move(r, first) or r.length > <uint32_t>LENGTH_MAX:
        return 1
    for i in range(first + 1, end):
        begin = record_begin(r, i)
        if (record_end(r, i) - begin != r.length or r.ttl_off[i] - begin != r.same
                or memcmp(r.records + begin, r.records + r.begin, r.same) != 0):
            break
        r.count += 1
    return r.count


# Whether labels from `at` (of the records) up to `end` may be read in every reply as they are now.
cdef inline bint steady(const records_t *r, uint32_t at, uint32_t end) noexcept nogil:
    cdef uint32_t within
    if end <= r.begin or at >= r.begin + r.length * r.count:
        return True
    if at < r.begin:
        return False
    within = (at - r.begin) % r.length
    return within + (end - at) <= r.same - OWNER_TO_TTL


# Follow the pointers of the name at `at`. The names were checked: the walk ends.
cdef bint name_steady(const records_t *r, uint32_t at) noexcept nogil:
    cdef bint led = False                # the labels at hand were reached by a pointer
    cdef bint moves = r.begin <= at < r.begin + r.length * r.count
    cdef uint32_t begin = at
    cdef uint32_t label
    while True:
        label = r.records[at]
        if label != 0 and label < <uint32_t>POINTER_BITS:
            at += label + 1
            continue
        if led and not steady(r, begin, at + (1 if label == 0 else 2)):
            return False
        if label == 0:
            return True
        at = get_u16(r.records + at) & POINTER_TARGET
        if at < r.base + r.begin:
            return True                  # the question, or before the run: nothing moves there
        if moves:
            return False
        at -= r.base
        begin = at
        led = True


cdef inline uint32_t name_end(const uint8_t *records, uint32_t at) noexcept nogil:
    # The octet after a name that is known to be good, where it stands.
    while records[at] != 0:
        if records[at] >= <uint32_t>POINTER_BITS:
            return at + 2
        at += records[at] + 1
    return at + 1


cdef bint record_steady(const records_t *r, uint32_t i) noexcept nogil:
    cdef uint32_t ttl_off = r.ttl_off[i]
    cdef uint32_t at = ttl_off + TTL_TO_RDATA
    cdef uint32_t _name
    cdef rdata_shape_t shape
    if not name_steady(r, record_begin(r, i)):
        return False
    shape = rdata_shape(get_u16(r.records + ttl_off - 4), get_u16(r.records + ttl_off - 2))
    if shape.names == 0:
        return True
    at += rdata_prefix(&shape, r.records + at, record_end(r, i) - at)
    for _name in range(shape.names):
        if not name_steady(r, at):
            return False
        at = name_end(r.records, at)
    return True


cdef void rotate_find(fd_entry_t *entry) noexcept nogil:
    cdef records_t r
    cdef uint32_t i = 0
    cdef uint32_t first = 0, longest = 1
    entry.rotate_count = 0
    entry.rotate_len = 0
    entry.rotate_off = 0
    r.records = <const uint8_t *>entry + fd_entry_records_off(entry.qname_len, entry.ttl_count)
    r.ttl_off = <const uint16_t *>(<const uint8_t *>entry + fd_entry_ttl_off(entry.qname_len))
    r.base = HEADER_LEN + entry.qname_len + 4u
    while i + longest < entry.ancount:
        if run_from(&r, i, entry.ancount) > longest:
            longest = r.count
            first = i
        i += r.count
    if longest == 1:
        return
    run_from(&r, first, entry.ancount)
    for i in range(first, entry.ttl_count):
        if not record_steady(&r, i):
            return
    entry.rotate_off = <uint16_t>r.begin
    entry.rotate_len = <uint8_t>r.length
    entry.rotate_count = <uint16_t>r.count
