# SPDX-License-Identifier: Apache-2.0
"""What the keeper tells control without being asked: kept until it can be sent, one of each kind."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastdns.keeper._posix cimport MSG_DONTWAIT, MSG_NOSIGNAL, send


cdef void mailbox_put(mailbox_t *mailbox, uint32_t kind, uint64_t word) noexcept nogil:
    cdef event_t *event = &mailbox.events[kind - EVENT_RELOAD]
    memset(event, 0, sizeof(event_t))
    event.kind = kind
    event.words[0] = word
    mailbox_send(mailbox)


cdef void mailbox_send(mailbox_t *mailbox) noexcept nogil:
    cdef int i
    if mailbox.channel < 0:
        return
    for i in range(EVENTS):
        if mailbox.events[i].kind and send(mailbox.channel, &mailbox.events[i], sizeof(event_t),
                                           MSG_DONTWAIT | MSG_NOSIGNAL) == <long>sizeof(event_t):
            mailbox.events[i].kind = 0


cdef void mailbox_forget(mailbox_t *mailbox) noexcept nogil:
    mailbox.channel = -1
    mailbox.events[EVENT_ROLLED - EVENT_RELOAD].kind = 0
