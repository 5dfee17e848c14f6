# SPDX-License-Identifier: Apache-2.0
"""The rolling restart, by which a new configuration reaches the data plane (design, "Roles").

The coordinator first, then the workers, each only when its predecessor's successor serves. A child
that was started since the roll began is done, whatever it was started for: a roll that deaths
interrupt goes on by itself. One on which those die that were started for it is given up: a chance kill
costs one death, a poisonous question two, the third is the configuration's. What follows is control's.
"""

from libc.stdint cimport uint64_t

from fastdns.keeper._children cimport (
    CHILD_RUNNING,
    SLOT_CONTROL,
    SLOT_COORDINATOR,
    child_asked,
    child_serves,
    child_t,
    children_t,
)

cdef enum:
    HURRY_MS = 5000              # for a worker's TCP clients: the longest that one may wait is 4.5 s
    KILL_MS = 6000
    START_MS = 1000              # a death within this of the start is one at the start
    DEATHS_MAX = 3


cdef void roll_begin(roll_t *roll, children_t *children) noexcept nogil:
    children.roll += 1
    roll.on = True
    roll.slot = SLOT_COORDINATOR
    roll.hurried = False
    roll.deaths = 0


cdef void roll_death(roll_t *roll, const children_t *children, const child_t *child,
                     uint64_t now_ms) noexcept nogil:
    if not roll.on or child == &children.table[SLOT_CONTROL] or child.made != children.roll:
        return
    if not child.moved or now_ms - child.started_ms < <uint64_t>START_MS:
        roll.deaths += 1


cdef int roll_step(roll_t *roll, children_t *children, bint serves, uint64_t now_ms) noexcept nogil:
    cdef child_t *child
    if not roll.on:
        return ROLL_NOTHING
    if roll.deaths >= <uint32_t>DEATHS_MAX:
        roll.on = False
        return ROLL_FAILED
    child = &children.table[roll.slot]
    if child.state != CHILD_RUNNING:
        return ROLL_NOTHING      # it is on its way out, or in
    if child.made == children.roll:
        if not serves:
            return ROLL_NOTHING
        child_serves(children, roll.slot)
        roll.slot += 1
        roll.hurried = False
        roll.on = roll.slot < children.count
        return ROLL_NEXT if roll.on else ROLL_DONE
    if not child.asked:
        child_asked(children, roll.slot)
        roll.asked_ms = now_ms
        return ROLL_ASK
    if now_ms - roll.asked_ms >= KILL_MS:
        return ROLL_KILL
    if now_ms - roll.asked_ms >= HURRY_MS and not roll.hurried:
        roll.hurried = True
        return ROLL_HURRY
    return ROLL_NOTHING
