# SPDX-License-Identifier: Apache-2.0
# _labels.pxd: names as people write them, which is how rules of `rewrite` see them. nogil, no allocation.
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    TEXT_MAX = 1024              # octets: 255 of a name, each \DDD at worst

# Write a whole name on the wire as text, in lower case and with its last dot, to `out` (TEXT_MAX);
# what has a meaning in text is escaped (RFC 1035 s5.1, and the marks that CoreDNS escapes). Returns
# its length.
cdef uint32_t name_to_text(const uint8_t *name, uint8_t *out) noexcept nogil

# Read such a text into `out` (256 octets), in lower case. Returns the name's length on the wire, or 0:
# an empty label, one of more than 63 octets, more than 255 in all, a broken escape, no dot at the end.
cdef uint32_t text_to_name(const uint8_t *text, uint32_t text_len, uint8_t *out) noexcept nogil
