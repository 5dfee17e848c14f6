# SPDX-License-Identifier: Apache-2.0
"""A worker's loop: datagrams and connections in, answers from the cache or the coordinator out.

One round: wait for the kernel (not at all while there is work), serve each ready socket a bounded
share, take the coordinator's answers, keep deadlines. The loop holds no lock, allocates nothing and
never takes the GIL; it ends when the keeper writes a stop word into the worker's region.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset, strerror

from fastdns._cache cimport OPEN_OK, cache_open, open_rc
from fastdns._log cimport log_open
from fastdns._memory cimport fd_reserve
from fastdns._ring cimport ring_empty, ring_next, ring_open, ring_release
from fastdns._segments cimport boottime_us, config_check, map_segment, region_check
from fastdns._shm cimport (
    FD_BATCH,
    FD_ENTRY_MAX,
    FD_ENTRY_QNAME_OFF,
    FD_MAX_LISTENERS,
    FD_RECORD_ANSWER,
    FD_RX_BUFFER,
    FD_RX_STRIDE,
    FD_STOP_DRAIN,
    FD_STOP_NOW,
    FD_STOP_ROLL,
    fd_announce_sleep,
    fd_answer_t,
    fd_at,
    fd_batch_t,
    fd_entry_t,
    fd_load32,
    fd_load64,
    fd_record_t,
    fd_series_t,
    fd_store32,
    fd_store64,
    fd_zone_t,
)
from fastdns._stats cimport FD_C_wakeups, bump
from fastdns._sys cimport (
    EPOLL_CLOEXEC,
    EPOLLET,
    EPOLLIN,
    epoll_create1,
    epoll_event,
    epoll_wait,
    getpid,
    ring_eventfd,
    watch,
)
from fastdns.worker._count cimport count_settle
from fastdns.worker._hand cimport hand_acquit, hand_inherit, hand_tick, inherited_t
from fastdns.worker._links cimport links_open
from fastdns.worker._pending cimport pending_answer, pending_settle, pending_tick, pending_used
from fastdns.worker._send cimport late_open
from fastdns.worker._serve cimport serve_tcp
from fastdns.worker._state cimport EVENT_UDP, EVENT_WAKE, TCP_REPLY_ROOM, worker_t
from fastdns.worker._tcp cimport tcp_drain, tcp_event, tcp_open, tcp_tick
from fastdns.worker._udp cimport udp_drain, udp_open, udp_recover, udp_round

cdef enum:
    EVENTS = 64                  # kernel events taken at once
    UDP_ROUNDS = 8               # batches of one listener before others get their turn
    ANSWERS_A_ROUND = 256        # answer records taken before sockets get their turn
    ROLL_MS = 5000               # what TCP clients get to have their answers before a planned end


cdef class Worker:
    """One worker: maps its segments, takes over from a predecessor, serves."""

    cdef worker_t w

    def __init__(self, handles):
        """Raises OSError or RuntimeError with a line that says which segment or descriptor is wrong."""
        cdef uint64_t size = 0
        cdef void *base
        cdef open_rc rc
        cdef int i
        memset(&self.w, 0, sizeof(worker_t))
        base = map_segment(handles.config, False, &size)
        self.w.config = config_check(base, size)
        if self.w.config == NULL:
            raise RuntimeError("config: not a configuration of this version")
        if self.w.config.edns_max > FD_RX_BUFFER:
            raise RuntimeError(f"config: edns_max {self.w.config.edns_max}, expected at most {FD_RX_BUFFER}")
        base = map_segment(handles.region, True, &size)
        self.w.region = region_check(base, size)
        if self.w.region == NULL:
            raise RuntimeError("region: not a worker's region of this version")
        base = map_segment(handles.cache, False, &size)
        rc = cache_open(&self.w.cache, base, size)
        if base == NULL or rc != OPEN_OK:
            raise RuntimeError(f"cache: can't be used (code {<int>rc})")
        # While listeners come and go, configuration and sockets may be of two times: what both have is served.
        for i in range(FD_MAX_LISTENERS):
            self.w.udp_fds[i] = self.w.tcp_fds[i] = -1
            if i < <int>self.w.config.listener_count and self.w.config.listeners[i].address.sin6_family:
                self.w.udp_fds[i] = handles.udp[i] if i < len(handles.udp) else -1
                self.w.tcp_fds[i] = handles.tcp[i] if i < len(handles.tcp) else -1
        base = map_segment(handles.log, True, &size)
        if not log_open(&self.w.log, base, size):
            raise RuntimeError("log: not a log ring of this version")
        self.w.index = handles.index
        self.w.wake = handles.wake
        self.w.wake_coordinator = handles.wake_coordinator
        self._open()

    cdef _open(self):
        cdef worker_t *w = &self.w
        w.batch = <fd_batch_t *>fd_at(w.region, w.region.batch.off)
        w.hits = <uint16_t *>fd_at(w.region, w.region.hits.off)
        w.counters = w.region.counters
        w.tally.began_us = w.now_us = boottime_us()
        w.now_ms = w.now_us // 1000
        w.spun = w.now_us ^ (<uint64_t>getpid() << 32)
        w.zones = <const fd_zone_t *>fd_at(w.config, w.config.zones.off)
        w.zone_count = w.config.zones.count
        w.series_rows = <const uint16_t *>fd_at(w.config, w.config.series.off)
        w.series_width = w.config.zones.count + 1
        w.series = <fd_series_t *>fd_at(w.region, w.region.series.off)
        w.series_count = w.region.series.count
        if w.config.series.count < w.series_width * w.config.listener_count:
            raise RuntimeError(f"config: {w.config.series.count} series numbers, too few")
        if w.region.hits.count < w.cache.shard_count * w.cache.slots:
            slots = w.cache.shard_count * w.cache.slots
            raise RuntimeError(f"region: {w.region.hits.count} hit figures for {slots} slots")
        ring_open(&w.questions, &w.region.question_ring,
                  <uint8_t *>fd_at(w.region, w.region.questions.off), w.region.questions.count)
        ring_open(&w.answers, &w.region.answer_ring,
                  <uint8_t *>fd_at(w.region, w.region.answers.off), w.region.answers.count)
        w.scratch = <uint8_t *>fd_reserve(FD_ENTRY_MAX)
        w.reply = <uint8_t *>fd_reserve(TCP_REPLY_ROOM)
        w.epoll = epoll_create1(EPOLL_CLOEXEC)
        if w.scratch == NULL or w.reply == NULL:
            raise MemoryError("a worker's buffers")
        if w.epoll < 0 or watch(w.epoll, w.wake, EPOLLIN | <uint32_t>EPOLLET, <uint64_t>EVENT_WAKE << 32) != 0:
            raise OSError(errno, "epoll: " + strerror(errno).decode())
        w.late = late_open()
        w.udp = udp_open(w)
        w.tcp = tcp_open(w, serve_tcp)
        w.pending = links_open(w)
        if w.late == NULL or w.udp == NULL or w.tcp == NULL or w.pending == NULL:
            raise OSError(errno, "a worker's tables: " + strerror(errno).decode())

    def recover(self):
        """Answer what a dead predecessor had received, first what it died on.

        Returns the number of datagrams taken over, and the bytes of what is given up because two
        workers died on it: a packet, the name of an answer, or nothing (None: nothing is given up).
        """
        cdef inherited_t inherited
        cdef uint32_t suspect = FD_BATCH
        cdef uint32_t taken
        cdef bint tried
        cdef uint64_t buffers = self.w.region.batch.off + (
            <uint8_t *>self.w.batch.buffers - <uint8_t *>self.w.batch)
        with nogil:
            # The start is over: who hangs on a suspect is replaced after 1.5 s, not 5.
            fd_store64(&self.w.region.heartbeat, fd_load64(&self.w.region.heartbeat) + 1)
            hand_inherit(&self.w, &inherited)
        if inherited.len and inherited.off >= buffers:
            suspect = <uint32_t>((inherited.off - buffers) // FD_RX_STRIDE)
        poison = self._bytes_of(&inherited) if inherited.give_up else None
        with nogil:
            tried = inherited.len == 0 and inherited.is_key and try_answer(&self.w, inherited.hash)
            taken = udp_recover(&self.w, suspect, inherited.give_up and not inherited.is_key)
            if not inherited.give_up and (tried or suspect < FD_BATCH):
                hand_acquit(&self.w, inherited.hash)       # it was done, and this process lives
        return taken, poison

    cdef bytes _bytes_of(self, const inherited_t *inherited):
        cdef const fd_entry_t *entry
        if inherited.len:
            return bytes((<uint8_t *>fd_at(self.w.region, inherited.off))[:inherited.len])
        entry = first_answer(&self.w, inherited.hash)
        if entry == NULL:
            return b""
        return bytes((<const uint8_t *>entry)[FD_ENTRY_QNAME_OFF:FD_ENTRY_QNAME_OFF + entry.qname_len])

    def run(self):
        """Serve until the stop word is set. Does not hold the GIL."""
        self.w.region.pid = os.getpid()
        with nogil:
            serve(&self.w)


cdef void serve(worker_t *w) noexcept nogil:
    cdef uint32_t wait_ms = 0, stop
    cdef uint64_t tcp_due_ms = 0
    cdef uint64_t leave_ms = 0
    cdef bint busy = True, draining = False
    ring_eventfd(w.wake_coordinator)
    fd_store32(&w.region.serving, 1)
    while True:
        fd_store64(&w.region.heartbeat, fd_load64(&w.region.heartbeat) + 1)
        stop = fd_load32(&w.region.stop)
        if stop == FD_STOP_NOW or (draining and tcp_drain(w) == 0 and pending_used(w) == 0):
            break
        if stop == FD_STOP_DRAIN and not draining:
            draining = True
            udp_drain(w)
        if stop == FD_STOP_ROLL and rolled(w, &leave_ms):
            break
        busy = serve_events(w, 0 if busy else wait_ms)
        busy |= take_answers(w)
        wait_ms = pending_tick(w)
        if w.now_ms >= tcp_due_ms or busy:
            tcp_due_ms = w.now_ms + tcp_tick(w)
        wait_ms = min(wait_ms, <uint32_t>(tcp_due_ms - w.now_ms))
        if w.refused:
            hand_tick(w)
    fd_store32(&w.region.serving, 0)


# Whether it is time to leave for a successor that follows at once: UDP is served to the last and its
# waiting clients are handed over; connections end with what they asked for, if that comes in time.
cdef bint rolled(worker_t *w, uint64_t *leave_ms) noexcept nogil:
    if leave_ms[0] == 0:
        leave_ms[0] = w.now_ms + ROLL_MS
    return tcp_drain(w) == 0 or w.now_ms >= leave_ms[0]


# Wait for the kernel and serve what is ready. True: there may be more at once.
cdef bint serve_events(worker_t *w, uint32_t wait_ms) noexcept nogil:
    cdef epoll_event events[EVENTS]
    cdef int n = wait_for_work(w, events, wait_ms)
    cdef bint busy = False
    cdef int i
    count_settle(w)                        # reads the clock
    for i in range(n):
        if (events[i].data.u64 >> 32) == EVENT_UDP:
            busy |= udp_turn(w, <uint32_t>events[i].data.u64)
        elif (events[i].data.u64 >> 32) != EVENT_WAKE:
            tcp_event(w, events[i].data.u64, events[i].events)
            count_settle(w)
            busy = True
    return busy


# Sleep in the kernel, but not past an answer that came while we were about to: announce, look at
# the ring once more, then wait.
cdef int wait_for_work(worker_t *w, epoll_event *events, uint32_t wait_ms) noexcept nogil:
    cdef int n
    if wait_ms == 0:
        return epoll_wait(w.epoll, events, EVENTS, 0)
    fd_announce_sleep(&w.region.answer_ring.sleeping)
    if not ring_empty(&w.answers):
        wait_ms = 0
    n = epoll_wait(w.epoll, events, EVENTS, <int>wait_ms)
    fd_store32(&w.region.answer_ring.sleeping, 0)
    bump(w.counters, FD_C_wakeups, 1)
    return n


# A listener's turn. True: it may have more.
cdef bint udp_turn(worker_t *w, uint32_t listener) noexcept nogil:
    cdef int rounds
    for rounds in range(UDP_ROUNDS):
        if udp_round(w, listener) < FD_BATCH:
            return rounds > 0
        if not ring_empty(&w.answers):
            return True
    return True


# The answer that stands first in the ring, if it is to this key; else NULL.
cdef const fd_entry_t *first_answer(worker_t *w, uint64_t key_hash) noexcept nogil:
    cdef fd_record_t *record = ring_next(&w.answers)
    cdef const fd_entry_t *entry
    if record == NULL or record.kind != FD_RECORD_ANSWER or record.len < sizeof(fd_answer_t) + sizeof(fd_entry_t):
        return NULL
    entry = <const fd_entry_t *>(<uint8_t *>record + sizeof(fd_answer_t))
    if entry.key_hash != key_hash or record.len < sizeof(fd_answer_t) + FD_ENTRY_QNAME_OFF + entry.qname_len:
        return NULL
    return entry


# Do what a predecessor died on, an answer that stands first in the ring, alone. False: it does not.
cdef bint try_answer(worker_t *w, uint64_t key_hash) noexcept nogil:
    if first_answer(w, key_hash) == NULL:
        return False
    pending_answer(w, ring_next(&w.answers))
    ring_release(&w.answers)
    pending_settle(w)
    return True


# Answer the clients of the records that the coordinator put. True: there may be more.
cdef bint take_answers(worker_t *w) noexcept nogil:
    cdef fd_record_t *record
    cdef uint32_t taken = 0
    while taken < ANSWERS_A_ROUND:
        record = ring_next(&w.answers)
        if record == NULL:
            break
        pending_answer(w, record)
        ring_release(&w.answers)
        taken += 1
    pending_settle(w)
    return taken == ANSWERS_A_ROUND
