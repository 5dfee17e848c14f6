# SPDX-License-Identifier: Apache-2.0
"""Loop detection: names that nobody else knows, asked of each upstream of a block with `loop`.

At the start, and so after each reload, each upstream of such a block gets one question of type HINFO
for a random name below the block's first zone. A question for this name from a worker can only be
ours, sent back by that upstream: the block stops asking it, and says so. It is tried again every
30 s, for as long as its questions come back. node-cache would end (corefile.md 2.3).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastdns._memory cimport fd_take
from fastdns._proto cimport CLASS_IN, NAME_MAX, TYPE_HINFO
from fastdns._shm cimport (
    FD_BLOCK_LOOP,
    FD_NO_ZONE,
    FD_PLUGIN_LOOP,
    FD_Q_ALONE,
    FD_Q_RD,
    FD_STEP_FORWARD,
    FD_ZONE_USED,
    fd_at,
    fd_block,
    fd_forward_t,
    fd_step_t,
    fd_zone,
    fd_zone_t,
)
from fastdns._stats cimport FD_C_loops, bump
from fastdns.coordinator._inflight cimport inflight_add
from fastdns.coordinator._random cimport random16
from fastdns.coordinator._report cimport report_loop
from fastdns.coordinator._state cimport NONE, coordinator_t, flight_t, probe_t, question_t

cdef enum:                       # probe_t.state
    PROBE_DUE = 0                # at due_ms
    PROBE_ASKED = 1              # at due_ms it counts as not come back
    PROBE_DONE = 2

cdef enum:
    RANDOM_LABEL = 16            # hexadecimal digits of each of the two labels
    RANDOM_OCTETS = 2 * (RANDOM_LABEL + 1)


cdef bint known(const coordinator_t *c, uint32_t block, uint32_t upstream) noexcept nogil:
    cdef uint32_t i
    for i in range(c.probe_count):
        if c.probes[i].block == block and c.probes[i].upstream == upstream:
            return True
    return False


cdef void add_forward(coordinator_t *c, uint32_t zone, uint32_t block, const fd_forward_t *forward) noexcept nogil:
    cdef probe_t *probe
    cdef uint32_t i
    for i in range(forward.upstream_count):
        if c.probe_count == PROBES or known(c, block, forward.upstreams[i]):
            continue
        probe = &c.probes[c.probe_count]
        probe.zone = <uint16_t>zone
        probe.block = <uint16_t>block
        probe.upstream = forward.upstreams[i]
        probe.state = PROBE_DUE
        probe.due_ms = c.now_ms
        # Of this upstream alone: the others have probes of their own.
        probe.forward.upstream_count = 1
        probe.forward.upstreams[0] = forward.upstreams[i]
        c.probe_count += 1


cdef void add_block(coordinator_t *c, uint32_t number) noexcept nogil:
    cdef const fd_step_t *steps = <const fd_step_t *>fd_at(c.config, fd_block(c.config, number).steps.off)
    cdef uint32_t zone = FD_NO_ZONE
    cdef uint32_t i
    for i in range(c.config.zones.count):
        if fd_zone(c.config, i).flags & FD_ZONE_USED and fd_zone(c.config, i).block == number:
            zone = i
            break
    if zone == FD_NO_ZONE:
        return
    for i in range(fd_block(c.config, number).steps.count):
        if steps[i].kind == FD_STEP_FORWARD:
            add_forward(c, zone, number, <const fd_forward_t *>fd_at(c.config, steps[i].argument))


cdef bint probes_open(coordinator_t *c) noexcept nogil:
    cdef uint32_t number
    c.probe_count = 0
    for number in range(c.config.blocks.count):
        if not fd_block(c.config, number).flags & FD_BLOCK_LOOP:
            continue
        if c.probes == NULL:
            c.probes = <probe_t *>fd_take(PROBES * sizeof(probe_t), 0)
            if c.probes == NULL:
                return False
        add_block(c, number)
    c.probe_due_ms = c.now_ms
    return True


# --- asking ---


cdef uint32_t write_name(coordinator_t *c, const probe_t *probe, uint8_t *out) noexcept nogil:
    # Two random labels below the zone; where it has no room for both, below the root.
    cdef const fd_zone_t *zone = fd_zone(c.config, probe.zone)
    cdef uint32_t pos = 0
    cdef uint32_t _i, _k
    cdef uint16_t number
    for _i in range(2):
        out[pos] = RANDOM_LABEL
        pos += 1
        for _k in range(<uint32_t>RANDOM_LABEL):
            number = random16(&c.random) & 15
            out[pos] = <uint8_t>(0x30 + number if number < 10 else 0x61 + number - 10)
            pos += 1
    if zone.name_len > <uint32_t>NAME_MAX - pos:
        out[pos] = 0
        return pos + 1
    memcpy(out + pos, fd_at(c.config, zone.name_off), zone.name_len)
    return pos + zone.name_len


cdef uint32_t begin(coordinator_t *c, probe_t *probe) noexcept nogil:
    cdef question_t question
    cdef flight_t *flight
    cdef uint32_t index
    memset(&question, 0, sizeof(question_t))
    question.qname_len = <uint8_t>write_name(c, probe, probe.qname)
    question.qtype = TYPE_HINFO
    question.qclass = CLASS_IN
    question.flags = FD_Q_RD | FD_Q_ALONE
    question.group = fd_zone(c.config, probe.zone).group
    probe.qname_len = question.qname_len
    probe.due_ms = c.now_ms + PROBE_BACK_MS
    index = inflight_add(c, &question, probe.qname)
    if index == NONE:
        return NONE              # the table is full: another time
    probe.state = PROBE_ASKED
    flight = &c.flights[index]
    flight.zone = probe.zone
    flight.block = fd_block(c.config, probe.block)
    flight.forward = &probe.forward
    flight.upstream = probe.upstream
    flight.plugin = FD_PLUGIN_LOOP
    flight.deadline_ms = c.now_ms + PROBE_BACK_MS
    return index


cdef void not_back(coordinator_t *c, probe_t *probe) noexcept nogil:
    probe.state = PROBE_DONE
    c.looping[probe.block] &= ~(<uint32_t>1 << probe.upstream)


cdef uint32_t probe_next(coordinator_t *c) noexcept nogil:
    cdef probe_t *probe
    cdef uint64_t next_ms = <uint64_t>0xffffffffffffffff
    cdef uint32_t i, index
    if c.probe_count == 0 or c.now_ms < c.probe_due_ms:
        return NONE
    for i in range(c.probe_count):
        probe = &c.probes[i]
        if probe.state == PROBE_ASKED and c.now_ms >= probe.due_ms:
            not_back(c, probe)
        if probe.state == PROBE_DUE and c.now_ms >= probe.due_ms:
            index = begin(c, probe)
            if index != NONE:
                return index
        if probe.state != PROBE_DONE:
            next_ms = min(next_ms, probe.due_ms)
    c.probe_due_ms = next_ms
    return NONE


# --- coming back ---


cdef bint probe_returned(coordinator_t *c, const question_t *question, const uint8_t *qname) noexcept nogil:
    cdef probe_t *probe
    cdef uint32_t i
    for i in range(c.probe_count):
        probe = &c.probes[i]
        if (probe.qname_len != question.qname_len or probe.qname_len == 0
                or memcmp(probe.qname, qname, probe.qname_len) != 0):
            continue
        bump(c.counters, FD_C_loops, 1)
        if probe.state == PROBE_ASKED:
            probe.state = PROBE_DUE
            probe.due_ms = c.now_ms + PROBE_AGAIN_MS
            c.probe_due_ms = min(c.probe_due_ms, probe.due_ms)
        if not c.looping[probe.block] >> probe.upstream & 1:
            c.looping[probe.block] |= <uint32_t>1 << probe.upstream
            report_loop(c, probe.upstream, probe.zone, question, qname)
        return True
    return False
