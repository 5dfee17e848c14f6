# SPDX-License-Identifier: Apache-2.0
"""The query that goes to an upstream."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from fastdns._name cimport put_u16
from fastdns._proto cimport (
    EDNS_PAYLOAD,
    FLAG_AD,
    FLAG_CD,
    FLAG_RD,
    HEADER_LEN,
    OPT_FLAG_DO,
    OPT_RR_LEN,
    TYPE_OPT,
)
from fastdns._shm cimport FD_KEY_CD, FD_KEY_DO, FD_Q_RD
from fastdns.coordinator._state cimport change_t, question_t


cdef uint32_t write_query(const question_t *question, const uint8_t *qname, uint16_t id,
                          bint edns, const change_t *change, uint8_t *out) noexcept nogil:
    cdef uint32_t flags = FLAG_AD
    cdef uint8_t *p = out + HEADER_LEN
    if question.flags & FD_Q_RD:
        flags |= FLAG_RD
    if question.key_flags & FD_KEY_CD:
        flags |= FLAG_CD
    memset(out, 0, HEADER_LEN)
    memcpy(out, &id, 2)
    put_u16(out + 2, flags)
    put_u16(out + 4, 1)
    put_u16(out + 10, 1 if edns else 0)
    memcpy(p, qname, question.qname_len)
    p += question.qname_len
    put_u16(p, question.qtype)
    put_u16(p + 2, question.qclass)
    p += 4
    if edns:
        memset(p, 0, OPT_RR_LEN)         # root owner, version 0
        put_u16(p + 1, TYPE_OPT)
        put_u16(p + 3, EDNS_PAYLOAD)
        put_u16(p + 7, OPT_FLAG_DO if question.key_flags & FD_KEY_DO else 0)
        p += OPT_RR_LEN
        if change != NULL and change.options_len:
            put_u16(p - 2, change.options_len)
            memcpy(p, change.options, change.options_len)
            p += change.options_len
    return <uint32_t>(p - out)
