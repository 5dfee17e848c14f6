# SPDX-License-Identifier: Apache-2.0
# _rotate.pxd: loadbalance on the wire: where a reply begins with the records of an answer that may
# change places. nogil, no allocation.
#
# An answer's run is neighbours in the answer section that differ in nothing but TTL and rdata: the
# same owner octet for octet, the same type (A, AAAA or MX) and class, rdata of the same length, and
# nothing in the message points into what differs. So a reply may begin with any of them: octets
# move, none is written anew. The coordinator finds the run, once for an answer
# (coordinator/_rotation.pyx); a worker turns it by another step for each reply.
from libc.stdint cimport uint32_t, uint64_t

from fastdns._shm cimport fd_entry_t

# Octets of an answer's records, as they lie.
cdef struct part_t:
    uint32_t off
    uint32_t len

cdef inline uint32_t rotate_add(part_t *parts, uint32_t used, uint32_t off, uint32_t octets,
                                uint32_t *want) noexcept nogil:
    octets = min(octets, want[0])
    if octets == 0:
        return used
    want[0] -= octets
    parts[used].off = off
    parts[used].len = octets
    return used + 1

# Which parts, one behind the other, are the first `want` octets of the records with the run turned.
#   spin     any number, each as likely as another; 0: as they lie
#   returns  how many of the four are filled. They lie within records_len whatever the entry says
cdef inline uint32_t rotate_parts(const fd_entry_t *entry, uint32_t spin, uint32_t want,
                                  part_t *parts) noexcept nogil:
    cdef uint32_t begin = entry.rotate_off
    cdef uint32_t length = <uint32_t>entry.rotate_len * entry.rotate_count
    cdef uint32_t step, used
    if spin == 0 or entry.rotate_count < 2 or length + begin > entry.records_len:
        parts[0].off = 0
        parts[0].len = min(want, <uint32_t>entry.records_len)
        return 1
    # 0 <= step < rotate_count without a division.
    step = <uint32_t>((<uint64_t>spin * entry.rotate_count) >> 32) * entry.rotate_len
    used = 0
    used = rotate_add(parts, used, 0, begin, &want)
    used = rotate_add(parts, used, begin + step, length - step, &want)
    used = rotate_add(parts, used, begin, step, &want)
    return rotate_add(parts, used, begin + length, entry.records_len - begin - length, &want)
