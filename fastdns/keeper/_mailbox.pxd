# SPDX-License-Identifier: Apache-2.0
# _mailbox.pxd: what the keeper tells control without being asked. nogil, never waits.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:                       # protocol.Kind; test_children compares them
    EVENT_RELOAD = 24            # a signal asks for a reload; its number
    EVENT_ROLLED = 25            # a rolling restart is done; the configuration's number
    EVENT_STOPPING = 26          # a signal asks for the end; its number
    EVENTS = 3

ctypedef struct event_t:         # a message without descriptors, as protocol packs it
    uint32_t kind                # 0: none
    uint32_t pad
    uint64_t words[12]

ctypedef struct mailbox_t:
    int channel                  # -1: nobody reads
    event_t events[EVENTS]       # that were not sent yet, one of each kind

# Put an event, in place of one of its kind that nobody has read, and send it.
cdef void mailbox_put(mailbox_t *mailbox, uint32_t kind, uint64_t word) noexcept nogil

# Send what there was no room for, or nobody to read it.
cdef void mailbox_send(mailbox_t *mailbox) noexcept nogil

# The reader is gone. Its successor is told what still holds: STATE says how far a restart has come.
cdef void mailbox_forget(mailbox_t *mailbox) noexcept nogil
