# SPDX-License-Identifier: Apache-2.0
"""Names as people write them: text with dots, which is how rules of `rewrite` see them."""

from libc.stdint cimport uint8_t, uint32_t

from fastdns._proto cimport LABEL_MAX, NAME_MAX

cdef enum:
    DOT = 0x2e
    BACKSLASH = 0x5c


cdef inline uint8_t lower(uint8_t octet) noexcept nogil:
    return octet | 0x20 if 0x41 <= octet <= 0x5a else octet


cdef inline bint is_special(uint8_t octet) noexcept nogil:
    # . space ' @ ; ( ) " \ as miekg/dns has them
    return (octet == DOT or octet == BACKSLASH or octet == 0x20 or octet == 0x27 or octet == 0x40
            or octet == 0x3b or octet == 0x28 or octet == 0x29 or octet == 0x22)


cdef uint32_t name_to_text(const uint8_t *name, uint8_t *out) noexcept nogil:
    cdef uint32_t n = 0
    cdef uint32_t off = 0
    cdef uint32_t i
    cdef uint8_t octet
    if name[0] == 0:
        out[0] = DOT
        return 1
    while name[off] != 0:
        for i in range(off + 1, off + 1 + name[off]):
            octet = lower(name[i])
            if is_special(octet):
                out[n] = BACKSLASH
                out[n + 1] = octet
                n += 2
            elif octet < 0x20 or octet > 0x7e:
                out[n] = BACKSLASH
                out[n + 1] = 0x30 + octet // 100
                out[n + 2] = 0x30 + octet // 10 % 10
                out[n + 3] = 0x30 + octet % 10
                n += 4
            else:
                out[n] = octet
                n += 1
        out[n] = DOT
        n += 1
        off += name[off] + 1u
    return n


cdef inline bint is_digit(uint8_t octet) noexcept nogil:
    return 0x30 <= octet <= 0x39


cdef uint32_t text_to_name(const uint8_t *text, uint32_t text_len, uint8_t *out) noexcept nogil:
    cdef uint32_t label = 0      # where the label's length stands
    cdef uint32_t n = 1          # octets of `out` so far
    cdef uint32_t i = 0
    cdef uint32_t value
    if text_len == 1 and text[0] == DOT:
        out[0] = 0
        return 1
    while i < text_len:
        if text[i] == DOT:
            if not 1 <= n - label - 1 <= <uint32_t>LABEL_MAX or n >= NAME_MAX:
                return 0
            out[label] = <uint8_t>(n - label - 1)
            label = n
            n += 1
            i += 1
            continue
        value = text[i]
        i += 1
        if value == BACKSLASH:
            if text_len - i >= 3 and is_digit(text[i]) and is_digit(text[i + 1]) and is_digit(text[i + 2]):
                value = (text[i] - 0x30u) * 100 + (text[i + 1] - 0x30u) * 10 + (text[i + 2] - 0x30u)
                i += 3
            elif i < text_len:
                value = text[i]
                i += 1
            else:
                return 0
        if value > 255 or n >= NAME_MAX:
            return 0
        out[n] = lower(<uint8_t>value)
        n += 1
    if n != label + 1 or label == 0:
        return 0                 # it does not end with a dot
    out[label] = 0
    return n
