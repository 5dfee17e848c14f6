# SPDX-License-Identifier: Apache-2.0
"""A response's records written anew, compressed and without OPT. Data plane: nogil, no allocation.

Exports ``compress_records``; the contract stands in ``_compress.pxd``. Every suffix of a name
that is written in labels below offset 16384 is remembered in an open hash; a later name becomes
the labels before its longest known suffix and a pointer to that. The work is bounded: a look-up
tries few slots, and names are compared octet by octet only while the budget lasts. What isn't
found is written whole, which costs octets and no correctness.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from fastdns._name cimport get_u16, name_expand, name_same, put_u16
from fastdns._proto cimport (
    HEADER_LEN,
    LABELS_MAX,
    MESSAGE_MAX,
    NAME_MAX,
    POINTER_BITS,
    RR_FIXED_LEN,
)
from fastdns._response cimport rdata_prefix, rdata_shape, rdata_shape_t, response_t

cdef enum:
    POINTER_REACH = 0x4000       # a pointer has 14 bits; RFC 1035 s4.1.4
    PROBES_MAX = 8               # slots tried for one suffix
    COMPARE_BUDGET = 1 << 21     # octets compared in one rewriting: keeps 64 KiB of malice below 20 ms


ctypedef struct writer_t:
    const uint8_t *msg
    uint32_t msg_end             # first octet after the records
    compress_room_t *room
    uint8_t *out
    uint32_t base                # reply offset of out[0]
    uint32_t pos                 # reply offset of the next octet
    uint32_t budget


# A name without compression, its labels' places, and the hash of each suffix.
ctypedef struct spread_t:
    uint8_t name[NAME_MAX]
    uint8_t label_off[LABELS_MAX]
    uint32_t suffix_hash[LABELS_MAX]
    uint32_t labels              # root not counted
    uint32_t name_len


cdef inline const uint8_t *reply_at(const writer_t *w, uint32_t off) noexcept nogil:
    return w.msg + off if off < w.base else w.out + (off - w.base)


cdef inline bint fits(const writer_t *w, uint32_t octets) noexcept nogil:
    return <uint32_t>MESSAGE_MAX - w.pos >= octets


cdef inline void append(writer_t *w, const uint8_t *octets, uint32_t n) noexcept nogil:
    memcpy(w.out + (w.pos - w.base), octets, n)
    w.pos += n


cdef inline uint32_t name_end(const uint8_t *msg, uint32_t pos) noexcept nogil:
    # The octet after a name that is known to be good, where it stands.
    while msg[pos] != 0:
        if msg[pos] >= <uint32_t>POINTER_BITS:
            return pos + 2
        pos += msg[pos] + 1
    return pos + 1


cdef void spread_name(const uint8_t *msg, uint32_t pos, spread_t *spread) noexcept nogil:
    # FNV-1a without case, label by label from the root outward, so that each suffix's hash is a
    # step of the next one's.
    cdef uint32_t off = 0, label, i, hashed = 0x811c9dc5
    cdef uint8_t octet
    cdef int n
    spread.name_len = name_expand(msg, pos, spread.name)
    spread.labels = 0
    while spread.name[off] != 0:
        spread.label_off[spread.labels] = <uint8_t>off
        spread.labels += 1
        off += spread.name[off] + 1
    for n in range(<int>spread.labels - 1, -1, -1):
        off = spread.label_off[n]
        label = spread.name[off]
        for i in range(label + 1):
            octet = spread.name[off + i]
            if 0x41 <= octet <= 0x5a:
                octet |= 0x20
            hashed = (hashed ^ octet) * <uint32_t>0x01000193
        spread.suffix_hash[n] = hashed


cdef inline uint32_t hash_slot(uint32_t hashed) noexcept nogil:
    return (hashed ^ (hashed >> 15)) & (COMPRESS_SLOTS - 1)


cdef bint suffix_stands_at(writer_t *w, uint32_t off, const uint8_t *suffix) noexcept nogil:
    # Whether the name at a reply offset is this one: octet for octet, but without regard to case
    # where it stands in the question. What was written is good, so the walk ends at the root.
    cdef const uint8_t *at
    cdef uint32_t label
    while True:
        at = reply_at(w, off)
        label = at[0]
        if label >= <uint32_t>POINTER_BITS:
            off = get_u16(at) & (POINTER_REACH - 1)
            continue
        if label != suffix[0] or w.budget < label + 1:
            return False
        w.budget -= label + 1
        if label == 0:
            return True
        if off < w.base:
            if not name_same(at + 1, suffix + 1, label):
                return False
        elif memcmp(at + 1, suffix + 1, label) != 0:
            return False
        off += label + 1
        suffix += label + 1


cdef uint32_t find_suffix(writer_t *w, const uint8_t *suffix, uint32_t hashed) noexcept nogil:
    # The reply offset where this suffix stands, or 0.
    cdef uint32_t slot = hash_slot(hashed)
    cdef uint32_t _probe
    for _probe in range(<uint32_t>PROBES_MAX):
        if w.room.offset[slot] == 0:
            return 0
        if (w.room.check[slot] == <uint16_t>(hashed >> 16)
                and suffix_stands_at(w, w.room.offset[slot], suffix)):
            return w.room.offset[slot]
        slot = (slot + 1) & (COMPRESS_SLOTS - 1)
    return 0


cdef void remember_suffix(writer_t *w, uint32_t off, uint32_t hashed) noexcept nogil:
    cdef uint32_t slot = hash_slot(hashed)
    cdef uint32_t _probe
    if off >= <uint32_t>POINTER_REACH or w.room.used_count >= <uint32_t>COMPRESS_NAMES_MAX:
        return
    for _probe in range(<uint32_t>PROBES_MAX):
        if w.room.offset[slot] == 0:
            w.room.offset[slot] = <uint16_t>off
            w.room.check[slot] = <uint16_t>(hashed >> 16)
            w.room.used[w.room.used_count] = <uint16_t>slot
            w.room.used_count += 1
            return
        slot = (slot + 1) & (COMPRESS_SLOTS - 1)


cdef inline bint is_question(const writer_t *w, uint32_t msg_pos) noexcept nogil:
    # Whether the name at msg_pos is the question's, by pointer or in full: most owners are.
    cdef uint32_t qname_len = w.base - 4 - HEADER_LEN
    if w.msg[msg_pos] == POINTER_BITS and w.msg[msg_pos + 1] == HEADER_LEN:
        return True
    return (qname_len > 1 and w.msg_end - msg_pos >= qname_len
            and name_same(w.msg + msg_pos, w.msg + HEADER_LEN, qname_len))


cdef inline bint write_pointer(writer_t *w, uint32_t target) noexcept nogil:
    if not fits(w, 2):
        return False
    put_u16(w.out + (w.pos - w.base), (POINTER_BITS << 8) | target)
    w.pos += 2
    return True


cdef bint write_name(writer_t *w, uint32_t msg_pos, bint compress) noexcept nogil:
    # Append the name at msg_pos; False if the message would grow beyond its limit.
    cdef spread_t spread
    cdef uint32_t n, kept_len, target = 0, start = w.pos
    if compress and is_question(w, msg_pos):
        return write_pointer(w, HEADER_LEN)
    spread_name(w.msg, msg_pos, &spread)
    kept_len = spread.name_len
    n = spread.labels
    if compress:
        for n in range(spread.labels):
            target = find_suffix(w, spread.name + spread.label_off[n], spread.suffix_hash[n])
            if target != 0:
                kept_len = spread.label_off[n]
                break
        else:
            n = spread.labels
    if not fits(w, kept_len):
        return False
    append(w, spread.name, kept_len)
    if target != 0 and not write_pointer(w, target):
        return False
    while n != 0:                       # the suffixes that now stand here in labels
        n -= 1
        remember_suffix(w, start + spread.label_off[n], spread.suffix_hash[n])
    return True


cdef bint write_rdata(writer_t *w, uint32_t pos, uint32_t rdata_len,
                      const rdata_shape_t *shape) noexcept nogil:
    # Append the rdata at msg[pos] and correct its length, which stands in the two octets before.
    cdef uint32_t begun = w.pos
    cdef uint32_t end = pos + rdata_len
    cdef uint32_t prefix, _i
    if shape.names != 0:
        prefix = rdata_prefix(shape, w.msg + pos, rdata_len)
        if not fits(w, prefix):
            return False
        append(w, w.msg + pos, prefix)
        pos += prefix
        for _i in range(shape.names):
            if not write_name(w, pos, shape.compressible):
                return False
            pos = name_end(w.msg, pos)
    if not fits(w, end - pos):
        return False
    append(w, w.msg + pos, end - pos)
    put_u16(w.out + (begun - w.base) - 2, w.pos - begun)
    return True


cdef bint write_records(writer_t *w, const response_t *response, uint16_t *ttl_off) noexcept nogil:
    cdef uint32_t pos = response.records_off
    cdef uint32_t done = 0, rdata_len
    cdef rdata_shape_t shape
    while done < response.ttl_count:
        if pos == response.opt_off:
            pos += response.opt_len
            continue
        if not write_name(w, pos, True):
            return False
        pos = name_end(w.msg, pos)
        if not fits(w, RR_FIXED_LEN):
            return False
        ttl_off[done] = <uint16_t>(w.pos - w.base + 4)
        append(w, w.msg + pos, RR_FIXED_LEN)
        shape = rdata_shape(get_u16(w.msg + pos), get_u16(w.msg + pos + 2))
        rdata_len = get_u16(w.msg + pos + 8)
        pos += RR_FIXED_LEN
        if not write_rdata(w, pos, rdata_len, &shape):
            return False
        pos += rdata_len
        done += 1
    return True


cdef uint32_t compress_records(const uint8_t *msg, const response_t *response,
                               compress_room_t *room, uint8_t *out,
                               uint16_t *ttl_off) noexcept nogil:
    cdef writer_t w
    cdef spread_t spread
    cdef uint32_t n
    cdef bint whole
    w.msg = msg
    w.msg_end = response.records_end
    w.room = room
    w.out = out
    w.base = w.pos = response.records_off
    w.budget = COMPARE_BUDGET
    spread_name(msg, HEADER_LEN, &spread)
    for n in range(spread.labels):
        remember_suffix(&w, HEADER_LEN + spread.label_off[n], spread.suffix_hash[n])
    whole = write_records(&w, response, ttl_off)
    while room.used_count != 0:
        room.used_count -= 1
        room.offset[room.used[room.used_count]] = 0
    return w.pos - w.base if whole else 0
