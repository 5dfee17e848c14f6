# SPDX-License-Identifier: Apache-2.0
"""The pending table's links by themselves: clients chained to one question, and let go again."""

import time

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._segments cimport map_segment, region_check
from fastdns._shm cimport FD_CLIENT_UDP, FD_PENDING_ASKED, fd_client_t, fd_config_t
from fastdns.worker._links cimport (
    NONE,
    client_head,
    free_client,
    free_question,
    leave_stale,
    link_client,
    link_question,
    links_open,
    next_client,
    pending_table_t,
    queue_stale,
    take_client,
    take_question,
)
from fastdns.worker._state cimport worker_t


cdef class Links:
    """The links of the region behind descriptor ``fd``, with one question that waits."""

    cdef worker_t w
    cdef fd_config_t config
    cdef pending_table_t *table
    cdef uint16_t slot

    def __init__(self, int fd):
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        memset(&self.w, 0, sizeof(worker_t))
        memset(&self.config, 0, sizeof(fd_config_t))
        self.w.region = region_check(base, size)
        if self.w.region == NULL:
            raise RuntimeError("not a worker's region")
        self.w.config = &self.config
        self.w.counters = self.w.region.counters
        self.table = links_open(&self.w)
        if self.table == NULL:
            raise MemoryError
        self.slot = take_question(self.table)
        self.table.questions[self.slot].state = FD_PENDING_ASKED
        link_question(self.table, self.slot)

    def join(self, uint32_t count, bint one_chain):
        """Chain ``count`` clients to the question; all in one hash chain, or as their IDs fall. Returns places."""
        cdef uint32_t source = 0
        cdef uint16_t place
        cdef fd_client_t *client
        places = []
        for _ in range(count):
            place = next_client(self.table)
            client = &self.table.clients[place]
            while True:
                source += 1
                client.id = <uint16_t>source
                client.peer.sin6_port = <uint16_t>(source >> 16)
                if not one_chain or client_head(client) == 0:
                    break
            take_client(self.table, place)
            client.pending = self.slot
            client.state = FD_CLIENT_UDP
            link_client(self.table, place, self.slot)
            places.append(place)
        return places

    def free(self, list places):
        """Let them go in this order. Returns seconds of CPU time."""
        began = time.thread_time()
        for place in places:
            free_client(self.table, <uint16_t>place)
        return time.thread_time() - began

    def chain(self, uint32_t head=0):
        """The places in a hash chain."""
        cdef uint16_t at = self.table.client_heads[head]
        found = []
        while at != NONE and len(found) <= self.table.client_count:
            found.append(at)
            at = self.table.client_links[at].next_hash
        return found

    def waiting(self):
        """The places chained to the question, in order of arrival."""
        cdef uint16_t at = self.table.question_links[self.slot].first
        found = []
        while at != NONE and len(found) <= self.table.client_count:
            found.append(at)
            at = self.table.client_links[at].next
        return found

    def question(self, uint64_t asked_ms, uint16_t stale_ms):
        """One more question that waits, with a stale answer. Returns its slot."""
        cdef uint16_t slot = take_question(self.table)
        assert slot != NONE
        self.table.questions[slot].asked_ms = asked_ms
        self.table.questions[slot].stale_ms = stale_ms
        self.table.questions[slot].state = FD_PENDING_ASKED
        link_question(self.table, slot)
        queue_stale(self.table, slot)
        return slot

    def end(self, uint16_t slot):
        free_question(self.table, slot)

    def leave(self, uint16_t slot):
        leave_stale(self.table, slot)

    def stale(self):
        """The slots in the queue of stale answers, from both of its ends."""
        cdef uint16_t at = self.table.first_stale
        forth, back = [], []
        while at != NONE and len(forth) <= self.table.question_count:
            forth.append(at)
            at = self.table.question_links[at].later
        at = self.table.last_stale
        while at != NONE and len(back) <= self.table.question_count:
            back.append(at)
            at = self.table.question_links[at].sooner
        return forth, back

    @property
    def used(self):
        return self.table.clients_used

    def close(self):
        """Let the question go."""
        free_question(self.table, self.slot)
        return self.table.used
