# SPDX-License-Identifier: Apache-2.0
"""A block's chain as a table: what is done to a question, step by step.

Control compiled the block's text to steps (``fd_step_t``), in the order in which CoreDNS runs its
plugins. Once per name, not once per query: what comes out is stored under the client's own key.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from fastdns._shm cimport FD_STEP_FORWARD, fd_at, fd_forward_t, fd_part_t, fd_step_t
from fastdns.coordinator._inflight cimport flight_qname
from fastdns.coordinator._state cimport coordinator_t, flight_t


cdef bint name_below(const uint8_t *name, uint32_t name_len, const uint8_t *zone,
                     uint32_t zone_len) noexcept nogil:
    cdef uint32_t off = 0
    if zone_len > name_len:
        return False
    while name_len - off > zone_len:         # label by label; each is at least two octets long
        off += name[off] + 1u
    return name_len - off == zone_len and memcmp(name + off, zone, zone_len) == 0


cdef bint name_listed(const coordinator_t *c, const fd_part_t *names, const uint8_t *name,
                      uint32_t name_len) noexcept nogil:
    cdef const uint8_t *zone = <const uint8_t *>fd_at(c.config, names.off)
    cdef uint32_t left = names.count
    cdef uint32_t zone_len
    while left != 0:
        zone_len = 0
        while zone[zone_len] != 0:
            zone_len += zone[zone_len] + 1u
        zone_len += 1
        if name_below(name, name_len, zone, zone_len):
            return True
        zone += zone_len
        left -= zone_len
    return False


cdef bint forward_takes(const coordinator_t *c, const fd_forward_t *forward, const uint8_t *name,
                        uint32_t name_len) noexcept nogil:
    cdef fd_part_t excepted
    if not name_below(name, name_len, <const uint8_t *>fd_at(c.config, forward.name_off), forward.name_len):
        return False
    # FROM itself is forwarded, whatever `except` says.
    if forward.except_len == 0 or name_len == forward.name_len:
        return True
    excepted.off = forward.except_off
    excepted.count = forward.except_len
    return not name_listed(c, &excepted, name, name_len)


cdef table_rc table_walk(coordinator_t *c, flight_t *flight) noexcept nogil:
    cdef const fd_step_t *steps = <const fd_step_t *>fd_at(c.config, flight.block.steps.off)
    cdef const fd_step_t *step
    cdef const fd_forward_t *forward
    while flight.step < flight.block.steps.count:
        step = &steps[flight.step]
        flight.step += 1
        if step.kind == FD_STEP_FORWARD:
            forward = <const fd_forward_t *>fd_at(c.config, step.argument)
            if forward_takes(c, forward, flight_qname(c, flight), flight.question.qname_len):
                flight.forward = forward
                return TABLE_FORWARD
    return TABLE_NO_NEXT
