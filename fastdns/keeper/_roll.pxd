# SPDX-License-Identifier: Apache-2.0
# _roll.pxd: the rolling restart: children are replaced one by one, the coordinator first. nogil.
# Time is an argument (CLOCK_BOOTTIME, ms); what is to be done is the loop's.
from libc.stdint cimport uint32_t, uint64_t

from fastdns.keeper._children cimport child_t, children_t

cdef enum:                       # what roll_step asks for
    ROLL_NOTHING = 0
    ROLL_ASK = 1                 # write the stop word that lets it finish
    ROLL_HURRY = 2               # write the one that doesn't
    ROLL_KILL = 3
    ROLL_NEXT = 4                # this one's successor serves: look at the next
    ROLL_DONE = 5
    ROLL_FAILED = 6              # those that were started for it die: it is over

ctypedef struct roll_t:
    bint on
    uint32_t slot                # that is being replaced
    bint hurried
    uint64_t asked_ms
    uint32_t deaths              # of those that were started for it, at their start

# Begin with the coordinator, also when a roll is under way: every child started so far is replaced.
cdef void roll_begin(roll_t *roll, children_t *children) noexcept nogil

# A child has died by itself; to be called before the table knows.
cdef void roll_death(roll_t *roll, const children_t *children, const child_t *child,
                     uint64_t now_ms) noexcept nogil

# One step. `serves`: the child in `roll.slot`, as it is now, has begun its work.
cdef int roll_step(roll_t *roll, children_t *children, bint serves, uint64_t now_ms) noexcept nogil
