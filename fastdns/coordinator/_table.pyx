# SPDX-License-Identifier: Apache-2.0
"""A block's chain as a table: what is done to a question, step by step.

Control compiled the block's text to steps (``fd_step_t``), in the order in which CoreDNS runs its
plugins. Once per name, not once per query: what comes out is stored under the client's own key.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastdns._proto cimport CLASS_IN
from fastdns._shm cimport (
    FD_PLUGIN_HOSTS,
    FD_PLUGIN_NONE,
    FD_PLUGIN_WHOAMI,
    FD_BLOCK_CUT,
    FD_STEP_FAMILY,
    FD_STEP_FORWARD,
    FD_STEP_HOSTS,
    FD_STEP_RULE,
    FD_STEP_SLOW,
    FD_STEP_STOP,
    FD_STEP_WHOAMI,
    fd_at,
    fd_block,
    fd_block_t,
    fd_family_t,
    fd_forward_t,
    fd_hosts_t,
    fd_part_t,
    fd_step_t,
)
from fastdns.coordinator._hosts cimport (
    HOSTS_ANSWER,
    HOSTS_PASS,
    family_answer,
    hosts_answer,
    hosts_rc,
    whoami_answer,
)
from fastdns.coordinator._inflight cimport flight_asked, flight_asked_name
from fastdns.coordinator._names cimport name_below, name_listed
from fastdns.coordinator._rewrite cimport (
    REWRITE_BAD,
    REWRITE_DONE,
    REWRITE_FULL,
    rewrite_question,
    rewrite_rc,
)
from fastdns.coordinator._slow cimport slow_ask
from fastdns.coordinator._state cimport FLIGHT_SLOW, NONE, coordinator_t, flight_t, question_t


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


cdef table_rc walk_hosts(coordinator_t *c, flight_t *flight, const fd_hosts_t *hosts) noexcept nogil:
    # 0: the next step's.
    cdef hosts_rc rc = hosts_answer(c, hosts, flight_asked(c, flight), flight_asked_name(c, flight), c.made,
                                    &c.made_len)
    if rc == HOSTS_PASS:
        return <table_rc>0
    flight.plugin = FD_PLUGIN_HOSTS
    return TABLE_ANSWER if rc == HOSTS_ANSWER else TABLE_FAIL


cdef table_rc walk_family(coordinator_t *c, flight_t *flight, const fd_family_t *family) noexcept nogil:
    cdef const question_t *asked = flight_asked(c, flight)
    cdef const uint8_t *name = flight_asked_name(c, flight)
    if (asked.qtype != family.qtype or asked.qclass != CLASS_IN
            or not name_below(name, asked.qname_len, <const uint8_t *>fd_at(c.config, family.name_off),
                              family.name_len)
            or name_listed(c, &family.except_, name, asked.qname_len)):
        return <table_rc>0
    flight.plugin = FD_PLUGIN_NONE
    c.made_len = family_answer(family, asked, name, c.made)
    return TABLE_ANSWER


cdef table_rc walk_whoami(coordinator_t *c, flight_t *flight) noexcept nogil:
    # A worker that is a configuration behind sends no client.
    if flight.change == NONE or not c.changes[flight.change].has_client:
        return TABLE_FAIL
    flight.plugin = FD_PLUGIN_WHOAMI
    c.made_len = whoami_answer(&c.changes[flight.change].client, flight_asked(c, flight),
                               flight_asked_name(c, flight), c.made)
    return TABLE_ANSWER


cdef void pass_rules(flight_t *flight, const fd_step_t *steps) noexcept nogil:
    while flight.step < flight.block.steps.count and steps[flight.step].flags & FD_STEP_RULE:
        flight.step += 1


cdef table_rc walk_rule(coordinator_t *c, flight_t *flight, const fd_step_t *steps,
                        const fd_step_t *step) noexcept nogil:
    cdef rewrite_rc rc = rewrite_question(c, flight, step)
    if rc == REWRITE_BAD:
        return TABLE_BAD
    if rc == REWRITE_FULL:
        return TABLE_FULL
    if rc == REWRITE_DONE and step.flags & FD_STEP_STOP:
        pass_rules(flight, steps)
    return <table_rc>0


cdef table_rc walk_forward(coordinator_t *c, flight_t *flight, const fd_forward_t *forward) noexcept nogil:
    if not forward_takes(c, forward, flight_asked_name(c, flight), flight_asked(c, flight).qname_len):
        return <table_rc>0
    flight.forward = forward
    return TABLE_FORWARD


cdef table_rc table_walk(coordinator_t *c, uint32_t index) noexcept nogil:
    cdef flight_t *flight = &c.flights[index]
    cdef const fd_step_t *steps = <const fd_step_t *>fd_at(c.config, flight.block.steps.off)
    cdef const fd_step_t *step
    cdef table_rc rc = <table_rc>0
    while flight.step < flight.block.steps.count:
        step = &steps[flight.step]
        flight.step += 1
        if step.kind == FD_STEP_FORWARD:
            rc = walk_forward(c, flight, <const fd_forward_t *>fd_at(c.config, step.argument))
        elif step.kind == FD_STEP_HOSTS:
            rc = walk_hosts(c, flight, <const fd_hosts_t *>fd_at(c.config, step.argument))
        elif step.kind == FD_STEP_FAMILY:
            rc = walk_family(c, flight, <const fd_family_t *>fd_at(c.config, step.argument))
        elif step.kind == FD_STEP_WHOAMI:
            rc = walk_whoami(c, flight)
        elif step.kind == FD_STEP_SLOW:
            if not slow_ask(c, index, step):
                return TABLE_BUSY
            flight.state |= FLIGHT_SLOW
            return TABLE_WAIT
        else:
            rc = walk_rule(c, flight, steps, step)
        if rc:
            return rc
    return TABLE_NO_NEXT


cdef bint table_changes(const coordinator_t *c) noexcept nogil:
    cdef const fd_block_t *block
    cdef const fd_step_t *steps
    cdef uint32_t number, i
    for number in range(c.config.blocks.count):
        block = fd_block(c.config, number)
        steps = <const fd_step_t *>fd_at(c.config, block.steps.off)
        for i in range(block.steps.count):
            if steps[i].kind != FD_STEP_FORWARD:
                return True
        if block.flags & FD_BLOCK_CUT:
            return True
    return False
