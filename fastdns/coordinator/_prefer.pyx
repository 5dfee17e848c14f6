# SPDX-License-Identifier: Apache-2.0
"""Addresses of preferred networks come first in an answer. Data plane: nogil, no allocation.

Exports ``prefer_order``; the contract stands in ``_prefer.pxd``. It runs once for an answer, before
it is stored; replies begin with any address of the first set (``_rotate.pxd``), so that no worker
looks at a network.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from fastdns._name cimport get_u16
from fastdns._proto cimport TYPE_A, TYPE_AAAA
from fastdns._shm cimport fd_entry_records_off, fd_entry_t, fd_entry_ttl_off, fd_network_t

cdef enum:
    TYPE_TO_TTL = 4
    TTL_TO_RDATA = 6
    LENGTH_MAX = 255             # octets of a record that may move: rotate_len has eight bits

# Records that may change places, each `length` octets long.
ctypedef struct run_t:
    uint8_t *records
    uint32_t length
    uint32_t count
    uint32_t rdata               # octets from a record's start to its address
    uint32_t octets              # of an address; 0: these are no addresses


cdef run_t run_of(fd_entry_t *entry) noexcept nogil:
    cdef uint8_t *records = <uint8_t *>entry + fd_entry_records_off(entry.qname_len, entry.ttl_count)
    cdef const uint16_t *ttl_off = <const uint16_t *>(
        <const uint8_t *>entry + fd_entry_ttl_off(entry.qname_len))
    cdef uint32_t first = 0, rtype
    cdef run_t run
    while ttl_off[first] < entry.rotate_off:
        first += 1
    rtype = get_u16(records + ttl_off[first] - TYPE_TO_TTL)
    run.records = records + entry.rotate_off
    run.length = entry.rotate_len
    run.count = entry.rotate_count
    run.rdata = ttl_off[first] + TTL_TO_RDATA - entry.rotate_off
    run.octets = 4 if rtype == TYPE_A else 16 if rtype == TYPE_AAAA else 0
    return run


cdef inline bint holds(const fd_network_t *network, const uint8_t *address, uint32_t octets) noexcept nogil:
    cdef uint32_t whole = network.bits >> 3
    cdef uint32_t rest = network.bits & 7
    if network.octets != octets or memcmp(network.address, address, whole) != 0:
        return False
    return rest == 0 or (network.address[whole] ^ address[whole]) >> (8 - rest) == 0


# Swap what lies in a network to `placed` and behind. Returns where the next would go.
cdef uint32_t gather(const run_t *run, const fd_network_t *network, uint32_t placed) noexcept nogil:
    cdef uint8_t kept[LENGTH_MAX]
    cdef uint8_t *record
    cdef uint8_t *to
    cdef uint32_t i
    for i in range(placed, run.count):
        record = run.records + i * run.length
        if not holds(network, record + run.rdata, run.octets):
            continue
        to = run.records + placed * run.length
        if to != record:
            memcpy(kept, to, run.length)
            memcpy(to, record, run.length)
            memcpy(record, kept, run.length)
        placed += 1
    return placed


cdef void prefer_order(fd_entry_t *entry, const fd_network_t *networks, uint32_t count) noexcept nogil:
    cdef run_t run
    cdef uint32_t placed = 0, turned = 0, turned_from = 0
    cdef uint32_t number, begun
    if entry.rotate_count == 0:
        return
    run = run_of(entry)
    if run.octets == 0:
        return
    for number in range(count):
        begun = placed
        placed = gather(&run, &networks[number], begun)
        if turned < 2:
            turned_from = begun
            turned = placed - begun
    if turned < 2:
        turned_from = placed
        turned = run.count - placed
    if turned < 2:
        entry.rotate_off = 0
        entry.rotate_len = 0
        entry.rotate_count = 0
        return
    entry.rotate_off += <uint16_t>(turned_from * run.length)
    entry.rotate_count = <uint16_t>turned
