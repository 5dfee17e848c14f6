# SPDX-License-Identifier: Apache-2.0
# _mailbox.pxd: what the keeper tells control without being asked. nogil, never waits.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:                       # protocol.Kind; test_children compares them
    EVENT_RELOAD = 24            # a signal asks for a reload; its number
    EVENT_ROLLED = 25            # a rolling restart is done; the configuration's number
    EVENT_STOPPING = 26          # a signal asks for the end; its number
    EVENT_FAILED = 27            # a rolling restart was given up; the configuration's number
    EVENTS = 4

ctypedef struct event_t:         # a message without descriptors, as protocol packs it
    uint32_t kind                # 0: none
    uint32_t pad
    uint64_t words[12]

ctypedef struct mailbox_t:
    int channel                  # -1: nobody reads
    event_t events[EVENTS]       # that are not done with yet, one of each kind
    bint sent[EVENTS]            # to this reader
    uint64_t serial              # of the last event
    uint32_t readers             # that the reload was sent to; two died of it: it is given up

# Put an event, in place of one of its kind that nobody has read, and send it.
cdef void mailbox_put(mailbox_t *mailbox, uint32_t kind, uint64_t word) noexcept nogil

# Send what there was no room for, or nobody to read it.
cdef void mailbox_send(mailbox_t *mailbox) noexcept nogil

# A reader is done with the reload of this serial number (its second word).
cdef void mailbox_done(mailbox_t *mailbox, uint64_t serial) noexcept nogil

# The reader is gone. What it had in hand is its successor's; how far a restart has come is told by STATE.
cdef void mailbox_forget(mailbox_t *mailbox) noexcept nogil
