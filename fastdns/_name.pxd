# SPDX-License-Identifier: Apache-2.0
# _name.pxd: a qname in one pass: bounds, lower case, keyed hash. Data plane: nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef inline uint16_t get_u16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((<uint32_t>p[0] << 8) | p[1])

cdef inline uint32_t get_u32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]

cdef inline void put_u16(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 8)
    p[1] = <uint8_t>v

cdef inline void put_u32(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v

# Lower-case eight octets at once. Length octets (0..63) lie below 'A', so a wire-format name
# may go through whole; RFC 4343 s3.
cdef inline uint64_t lower_word(uint64_t w) noexcept nogil:
    cdef uint64_t low7 = w & <uint64_t>0x7f7f7f7f7f7f7f7f
    cdef uint64_t ge_a = low7 + <uint64_t>0x3f3f3f3f3f3f3f3f       # bit 7: octet >= 'A'
    cdef uint64_t gt_z = low7 + <uint64_t>0x2525252525252525       # bit 7: octet > 'Z'
    return w | (((ge_a ^ gt_z) & ~w & <uint64_t>0x8080808080808080) >> 2)

# The name's length on the wire, root included, if it stands whole and uncompressed in
# p[0..avail); 0 if it is malformed: runs past the end, a label type other than 00 (pointers
# have no business in a question, RFC 9267 s3), more than 255 octets.
cdef uint32_t name_length(const uint8_t *p, size_t avail) noexcept nogil

# Write the lower-case name to `out` (zero octets up to a multiple of 8; `out` 8-aligned, 256
# octets) and return the keyed hash over name and `extra`.
#   extra   group << 48 | variant << 40 | key_flags << 32 | qtype << 16 | qclass
#   key     16 octets, SipHash-1-3
cdef uint64_t name_fold_hash(const uint8_t *p, uint32_t name_len, uint64_t extra,
                             const uint64_t *key, uint8_t *out) noexcept nogil

cdef inline uint64_t key_extra(uint16_t group, uint8_t variant, uint8_t key_flags,
                               uint16_t qtype, uint16_t qclass) noexcept nogil:
    return (<uint64_t>group << 48) | (<uint64_t>variant << 40) | (<uint64_t>key_flags << 32) \
        | (<uint64_t>qtype << 16) | qclass

# SipHash-1-3 of any octets, for packets in quarantine and for tests.
cdef uint64_t siphash(const uint8_t *p, size_t n, const uint64_t *key) noexcept nogil

# Whether two names of equal length are the same but for case; RFC 4343.
cdef bint name_same(const uint8_t *a, const uint8_t *b, uint32_t name_len) noexcept nogil

# Check the name at msg[pos], which may be compressed, following its pointers: each must lead to
# labels that begin and end below the part of the name it stands in, and not into the header;
# RFC 1035 s4.1.4, RFC 9267 s2.
#   full_len  filled: its length without compression, root included, 1..255. It differs from
#             the returned length if and only if a pointer was met (a pointer has 2 octets, and
#             no name has a remainder of 2)
#   returns   the octets it takes where it stands (up to the root or the first pointer), or 0
#             if it is malformed
cdef uint32_t name_skip(const uint8_t *msg, uint32_t msg_len, uint32_t pos,
                        uint32_t *full_len) noexcept nogil

# Write the name at msg[pos] to `out` (255 octets) without compression; returns its length. Only
# for a name that name_skip has found good in this very message.
cdef uint32_t name_expand(const uint8_t *msg, uint32_t pos, uint8_t *out) noexcept nogil
