# SPDX-License-Identifier: Apache-2.0
"""What the keeper tells control without being asked: kept until it can be sent, one of each kind.

A reload is kept until control says that it is done: one that died with it in hand has a successor.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastdns.keeper._posix cimport MSG_DONTWAIT, MSG_NOSIGNAL, send

cdef enum:
    READERS_MAX = 2              # a reload that kills costs two of them


cdef void mailbox_put(mailbox_t *mailbox, uint32_t kind, uint64_t word) noexcept nogil:
    cdef event_t *event = &mailbox.events[kind - EVENT_RELOAD]
    memset(event, 0, sizeof(event_t))
    mailbox.serial += 1
    event.kind = kind
    event.words[0] = word
    event.words[1] = mailbox.serial
    mailbox.sent[kind - EVENT_RELOAD] = False
    if kind == EVENT_RELOAD:
        mailbox.readers = 0
    mailbox_send(mailbox)


cdef void mailbox_send(mailbox_t *mailbox) noexcept nogil:
    cdef int i
    if mailbox.channel < 0:
        return
    for i in range(EVENTS):
        if mailbox.events[i].kind == 0 or mailbox.sent[i]:
            continue
        if send(mailbox.channel, &mailbox.events[i], sizeof(event_t),
                MSG_DONTWAIT | MSG_NOSIGNAL) != <long>sizeof(event_t):
            continue
        mailbox.sent[i] = True
        if i == EVENT_RELOAD - EVENT_RELOAD:
            mailbox.readers += 1


cdef void mailbox_done(mailbox_t *mailbox, uint64_t serial) noexcept nogil:
    if mailbox.events[0].words[1] == serial:
        mailbox.events[0].kind = 0


cdef void mailbox_forget(mailbox_t *mailbox) noexcept nogil:
    mailbox.channel = -1
    mailbox.sent[0] = False
    mailbox.events[EVENT_ROLLED - EVENT_RELOAD].kind = 0
    mailbox.events[EVENT_FAILED - EVENT_RELOAD].kind = 0
    if mailbox.readers >= READERS_MAX:
        mailbox.events[0].kind = 0
