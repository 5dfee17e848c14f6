# SPDX-License-Identifier: Apache-2.0
"""Names in one pass: bounds, lower case, keyed hash, equality. Data plane: nogil, no allocation.

The contract stands in ``_name.pxd``. Words are read by ``memcpy`` of eight octets, which the
compiler folds into one unaligned load; no read goes past the length that the caller gave.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._proto cimport HEADER_LEN, LABEL_MAX, NAME_MAX, POINTER_BITS, POINTERS_MAX

cdef extern from *:
    """
    /* load_tail shifts a word so that its later octets become its earlier ones. */
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "x86-64 and aarch64 are little-endian");
    """


cdef uint32_t name_length(const uint8_t *p, size_t avail) noexcept nogil:
    # At most 127 turns: each but the last adds at least two octets to a position below 255.
    cdef uint32_t limit = <uint32_t>avail if avail < <size_t>NAME_MAX else <uint32_t>NAME_MAX
    cdef uint32_t pos = 0
    cdef uint32_t label
    while pos < limit:
        label = p[pos]
        pos += label + 1
        if label == 0:
            return pos
        if label > <uint32_t>LABEL_MAX:
            return 0
    return 0


cdef inline uint64_t load_word(const uint8_t *p) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, p, 8)
    return word


cdef inline uint64_t load_tail(const uint8_t *p, size_t n, size_t tail) noexcept nogil:
    # The last `tail` (1..7) of n octets at p, zero-padded, reading nothing outside p[0..n).
    cdef uint64_t word = 0
    cdef size_t i
    if n >= 8:
        return load_word(p + (n - 8)) >> (8 * (8 - tail))
    for i in range(tail):
        word |= <uint64_t>p[n - tail + i] << (8 * i)
    return word


# ---- SipHash-1-3 (Aumasson and Bernstein): one round a word, three at the end. Names can't be
# ---- chosen to collide without the key, and it costs a third of a 2-4 run on 40 octets.

ctypedef struct sip_t:
    uint64_t v0
    uint64_t v1
    uint64_t v2
    uint64_t v3


cdef inline uint64_t rotate(uint64_t x, int n) noexcept nogil:
    return (x << n) | (x >> (64 - n))


cdef inline void sip_start(sip_t *s, const uint64_t *key) noexcept nogil:
    s.v0 = key[0] ^ <uint64_t>0x736f6d6570736575
    s.v1 = key[1] ^ <uint64_t>0x646f72616e646f6d
    s.v2 = key[0] ^ <uint64_t>0x6c7967656e657261
    s.v3 = key[1] ^ <uint64_t>0x7465646279746573


cdef inline void sip_round(sip_t *s) noexcept nogil:
    s.v0 += s.v1
    s.v2 += s.v3
    s.v1 = rotate(s.v1, 13) ^ s.v0
    s.v3 = rotate(s.v3, 16) ^ s.v2
    s.v0 = rotate(s.v0, 32)
    s.v2 += s.v1
    s.v0 += s.v3
    s.v1 = rotate(s.v1, 17) ^ s.v2
    s.v3 = rotate(s.v3, 21) ^ s.v0
    s.v2 = rotate(s.v2, 32)


cdef inline void sip_word(sip_t *s, uint64_t word) noexcept nogil:
    s.v3 ^= word
    sip_round(s)
    s.v0 ^= word


cdef inline uint64_t sip_end(sip_t *s) noexcept nogil:
    s.v2 ^= 0xff
    sip_round(s)
    sip_round(s)
    sip_round(s)
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3


cdef uint64_t name_fold_hash(const uint8_t *p, uint32_t name_len, uint64_t extra,
                             const uint64_t *key, uint8_t *out) noexcept nogil:
    # Hashed words: the lower-case name padded with zeros, `extra`, and the name's length in the
    # top octet, where SipHash keeps the length of its input.
    cdef sip_t s
    cdef uint32_t pos = 0
    cdef uint64_t word
    sip_start(&s, key)
    while name_len - pos >= 8:
        word = lower_word(load_word(p + pos))
        memcpy(out + pos, &word, 8)
        sip_word(&s, word)
        pos += 8
    if pos < name_len:
        word = lower_word(load_tail(p, name_len, name_len - pos))
        memcpy(out + pos, &word, 8)
        sip_word(&s, word)
    sip_word(&s, extra)
    sip_word(&s, <uint64_t>name_len << 56)
    return sip_end(&s)


cdef uint64_t siphash(const uint8_t *p, size_t n, const uint64_t *key) noexcept nogil:
    cdef sip_t s
    cdef size_t pos = 0
    cdef uint64_t last = <uint64_t>n << 56
    sip_start(&s, key)
    while n - pos >= 8:
        sip_word(&s, load_word(p + pos))
        pos += 8
    if pos < n:
        last |= load_tail(p, n, n - pos)
    sip_word(&s, last)
    return sip_end(&s)


cdef bint name_same(const uint8_t *a, const uint8_t *b, uint32_t name_len) noexcept nogil:
    cdef uint32_t pos = 0
    while name_len - pos >= 8:
        if lower_word(load_word(a + pos)) != lower_word(load_word(b + pos)):
            return False
        pos += 8
    return pos == name_len or (lower_word(load_tail(a, name_len, name_len - pos))
                               == lower_word(load_tail(b, name_len, name_len - pos)))


cdef uint32_t name_skip(const uint8_t *msg, uint32_t msg_len, uint32_t pos,
                        uint32_t *full_len) noexcept nogil:
    # A pointer leads to a "prior occurrence" (RFC 1035 s4.1.4): labels that begin and end below
    # the part of the name that it stands in. So the walk goes down through the message and can't
    # meet a place twice (RFC 9267 s2). Labels are bounded by the 255 octets of a name, pointers
    # by a count.
    cdef uint32_t part = pos            # where the labels being read began
    cdef uint32_t octets = 0            # in place; 0 until a pointer or the root ends it
    cdef uint32_t start = pos
    cdef uint32_t full = 0, jumps = 0
    cdef uint32_t label, target
    while pos < msg_len:
        label = msg[pos]
        if label <= <uint32_t>LABEL_MAX:
            pos += label + 1
            full += label + 1
            if full > <uint32_t>NAME_MAX:
                return 0
            if label == 0:
                full_len[0] = full
                return octets if octets != 0 else pos - start
            continue
        if label < <uint32_t>POINTER_BITS or msg_len - pos < 2:
            return 0                    # label types 01 and 10 (RFC 6891 s5), or half a pointer
        target = ((label & 0x3f) << 8) | msg[pos + 1]
        jumps += 1
        if target >= part or target < <uint32_t>HEADER_LEN or jumps > <uint32_t>POINTERS_MAX:
            return 0
        if octets == 0:
            octets = pos + 2 - start
        msg_len = part
        pos = part = target
    return 0


cdef uint32_t name_expand(const uint8_t *msg, uint32_t pos, uint8_t *out) noexcept nogil:
    cdef uint32_t full = 0
    cdef uint32_t label
    while True:
        label = msg[pos]
        if label >= <uint32_t>POINTER_BITS:
            pos = ((label & 0x3f) << 8) | msg[pos + 1]
            continue
        memcpy(out + full, msg + pos, label + 1)
        full += label + 1
        pos += label + 1
        if label == 0:
            return full
