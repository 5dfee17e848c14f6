# SPDX-License-Identifier: Apache-2.0
"""The coordinator's rounds.

One round: what the kernel has for us (responses, connections), what time has brought, the
workers' questions, then everything that these put goes out, batched. It sleeps after a round
with little to do, for 100 ms at most, and wakes each worker twice a round at most.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport abort
from libc.string cimport memset

from fastdns._ring cimport ring_empty, ring_next, ring_record_len, ring_release
from fastdns._shm cimport (
    FD_STOP_NO,
    fd_announce_sleep,
    fd_load32,
    fd_load64,
    fd_question_t,
    fd_record_t,
    fd_release64,
    fd_store16,
    fd_store32,
    fd_store64,
)
from fastdns._stats cimport FD_C_wakeups, bump
from fastdns._suspects cimport suspect_deaths
from fastdns._sys cimport (
    EPOLLET,
    EPOLLIN,
    MSG_TRUNC,
    epoll_event,
    epoll_wait,
    ring_eventfd,
    watch,
)
from fastdns.coordinator._channels cimport channel_is_tcp
from fastdns.coordinator._connection cimport connection_event, connection_message
from fastdns.coordinator._deaths cimport quarantine_count
from fastdns.coordinator._delivery cimport wake_workers
from fastdns.coordinator._exchange cimport exchange_own, exchange_response, exchange_silence
from fastdns.coordinator._net cimport (
    CLOCK_BOOTTIME,
    PR_SET_TIMERSLACK,
    clock_gettime,
    nanosleep,
    prctl,
    timespec,
)
from fastdns.coordinator._queue cimport slow_flush
from fastdns.coordinator._resume cimport resume_flights, resume_watch
from fastdns.coordinator._settle cimport settle
from fastdns.coordinator._state cimport coordinator_t, worker_link_t
from fastdns.coordinator._store cimport store_sweep
from fastdns.coordinator._sweep cimport sweep_step
from fastdns.coordinator._take cimport take_question
from fastdns.coordinator._tcp cimport tcp_tend
from fastdns.coordinator._timers cimport TIMER_NONE, timers_pop, timers_wait
from fastdns.coordinator._udp cimport udp_receive, udp_tend
from fastdns.coordinator._upstream cimport upstream_wait_ms

cdef enum:
    EVENTS = 64                  # taken from the kernel at once
    QUESTIONS = 64               # taken from each worker in a round: one batch upstream
    SLEEP_MS = 100               # at most: what a lost wake-up could cost
    TEND_MS = 100
    SWEEP_MS = 10                # between two pieces of the cache's upkeep
    BUSY = 8                     # questions or responses in a round: more are likely there by now
    ROUNDS_A_MS = 8              # with little to do in each: from there on they wait for company
    PAUSE_NS = 40_000            # that they wait
    TIMER_SLACK_NS = 1_000       # 50,000 where nobody says so
    WAKE_EVENT = 0xffffffff      # no channel has this number


# How fast rounds with little to do follow one another.
ctypedef struct pace_t:
    uint64_t since_ms
    uint32_t rounds
    bint fast


cdef void read_clock(coordinator_t *c) noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_BOOTTIME, &now)
    c.now_us = <uint64_t>now.tv_sec * 1_000_000 + <uint64_t>now.tv_nsec // 1000
    c.now_ms = c.now_us // 1000


cdef void beat(coordinator_t *c) noexcept nogil:
    fd_store64(&c.post.heartbeat, fd_load64(&c.post.heartbeat) + 1)


# --- the beginning ---


cdef void try_suspect(coordinator_t *c) noexcept nogil:
    # What a predecessor died on stands first in its ring still, if it died while it took it: alone
    # and before anything else, so that a second death has one cause.
    cdef uint32_t i
    cdef worker_link_t *link
    cdef fd_record_t *record
    if c.suspected == 0:
        return
    for i in range(c.worker_count):
        link = &c.workers[i]
        record = ring_next(&link.questions)
        if (record != NULL and ring_record_len(&link.questions) >= sizeof(fd_question_t)
                and suspect_deaths(c.post.suspects, (<fd_question_t *>record).key_hash, c.now_ms) != 0):
            take_question(c, i, record, ring_record_len(&link.questions))
            ring_release(&link.questions)
            settle(c)


cdef void announce(coordinator_t *c) noexcept nogil:
    # Workers put their pending questions again when they see a new generation. Each eventfd is
    # rung once: a predecessor may have died between a record and its wake-up.
    cdef uint32_t i
    for i in range(c.worker_count):
        fd_store32(&c.workers[i].region.question_ring.sleeping, 0)
        fd_release64(&c.workers[i].region.coordinator_generation, c.generation)
        ring_eventfd(c.workers[i].wake)
    fd_store64(&c.post.generation, c.generation)
    fd_store32(&c.post.serving, 1)


# --- one round ---


cdef uint32_t on_udp(coordinator_t *c, uint32_t channel) noexcept nogil:
    cdef uint32_t count = udp_receive(c, channel)
    cdef uint32_t i
    for i in range(count):
        exchange_response(c, channel, c.udp_rx.buffers[i], c.udp_rx.messages[i].msg_len,
                          c.udp_rx.messages[i].msg_hdr.msg_flags & MSG_TRUNC != 0)
    return count


cdef uint32_t on_tcp(coordinator_t *c, uint32_t channel, uint32_t events) noexcept nogil:
    cdef uint32_t octets = 0
    cdef uint32_t count = 0
    cdef const unsigned char *msg
    connection_event(c, channel, events)
    while True:                  # 40,960 times at most: what rx can hold of empty messages
        msg = connection_message(c, channel, &octets)
        if msg == NULL:
            return count
        exchange_response(c, channel, msg, octets, False)
        count += 1


cdef uint32_t take_events(coordinator_t *c, const epoll_event *events, int count) noexcept nogil:
    cdef uint32_t responses = 0
    cdef uint32_t channel
    cdef int i
    for i in range(count):
        channel = <uint32_t>events[i].data.u64
        if channel == <uint32_t>WAKE_EVENT:
            continue             # edge-triggered: it needs no read
        if channel_is_tcp(channel):
            responses += on_tcp(c, channel, events[i].events)
        else:
            responses += on_udp(c, channel)
    return responses


cdef uint32_t take_questions(coordinator_t *c) noexcept nogil:
    # From all workers in turn, so that a busy one doesn't starve another.
    cdef uint32_t total = 0
    cdef uint32_t taken, i
    cdef worker_link_t *link
    cdef fd_record_t *record
    for i in range(c.worker_count):
        link = &c.workers[i]
        taken = 0
        while taken < QUESTIONS:
            record = ring_next(&link.questions)
            if record == NULL:
                break
            take_question(c, i, record, ring_record_len(&link.questions))
            ring_release(&link.questions)
            taken += 1
        total += taken
    return total


cdef bint rings_empty(coordinator_t *c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.worker_count):
        if not ring_empty(&c.workers[i].questions):
            return False
    return True


cdef int wait_for_events(coordinator_t *c, bint may_sleep, epoll_event *events) noexcept nogil:
    cdef uint32_t timeout = 0
    cdef uint32_t i
    cdef int count
    if may_sleep:
        for i in range(c.worker_count):
            fd_announce_sleep(&c.workers[i].region.question_ring.sleeping)
        if rings_empty(c):
            timeout = timers_wait(&c.timers, c.now_ms, SLEEP_MS)
    count = epoll_wait(c.epoll, events, EVENTS, <int>timeout)
    if may_sleep:
        for i in range(c.worker_count):
            fd_store32(&c.workers[i].region.question_ring.sleeping, 0)
    if timeout:
        bump(c.counters, FD_C_wakeups, 1)
    if count < 0 and errno != EINTR:
        abort()                  # our own epoll set is gone: a successor makes a new one
    return count


cdef void moderate(coordinator_t *c, pace_t *pace, uint32_t work) noexcept nogil:
    # As a network card does with its interrupts: where answers come one by one and fast, each would cost
    # wake-ups of two processes, which are dearer than the rest of a miss. A lone question doesn't wait.
    cdef timespec pause
    if c.now_ms != pace.since_ms:
        pace.fast = pace.rounds >= <uint32_t>ROUNDS_A_MS * (c.now_ms - pace.since_ms)
        pace.since_ms = c.now_ms
        pace.rounds = 0
    if work == 0 or work >= <uint32_t>BUSY:
        return
    pace.rounds += 1
    if pace.fast:
        pause.tv_sec = 0
        pause.tv_nsec = PAUSE_NS
        nanosleep(&pause, NULL)


cdef void note_waits(coordinator_t *c) noexcept nogil:
    # For a successor: its first questions meet an upstream that is busy with ours, and the wait
    # before anything is measured is long.
    cdef uint32_t i
    for i in range(c.upstream_count):
        if c.upstreams[i].udp.srtt_us:
            fd_store16(&c.post.upstream_wait_ms[i],
                       <uint16_t>upstream_wait_ms(&c.upstreams[i], c.config.retry_floor_ms))


cdef void tend(coordinator_t *c, uint64_t *tend_ms, uint64_t *sweep_ms) noexcept nogil:
    if c.now_ms >= sweep_ms[0]:
        store_sweep(c.store, c.now_ms)
        sweep_ms[0] = c.now_ms + SWEEP_MS
    if c.now_ms >= tend_ms[0]:
        udp_tend(c)
        tcp_tend(c)
        note_waits(c)
        resume_watch(c)
        quarantine_count(c)
        tend_ms[0] = c.now_ms + TEND_MS


cdef void loop_run(coordinator_t *c) noexcept nogil:
    cdef epoll_event[EVENTS] events
    cdef uint64_t tend_ms = 0
    cdef uint64_t sweep_ms = 0
    cdef uint32_t timer
    cdef uint32_t work = BUSY
    cdef pace_t pace
    cdef int count
    memset(&pace, 0, sizeof(pace_t))
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0)
    if watch(c.epoll, c.wake, EPOLLIN | EPOLLET, WAKE_EVENT) != 0:
        abort()
    read_clock(c)
    beat(c)                      # the start is over: who hangs on a suspect is replaced after 1.5 s, not 5
    try_suspect(c)
    announce(c)
    # Nothing is waited for: before a successor workers put their questions again, at the end all workers have left.
    while fd_load32(&c.post.stop) == FD_STOP_NO:
        # After a round with much to do the kernel is only asked: that spares the workers a wake-up
        # for each of their batches. After a lone question the sleep comes at once.
        moderate(c, &pace, work)
        count = wait_for_events(c, work < BUSY, events)
        read_clock(c)
        beat(c)
        work = take_events(c, events, count)
        while True:
            timer = timers_pop(&c.timers, c.now_ms)
            if timer == TIMER_NONE:
                break
            exchange_silence(c, timer)
        work += resume_flights(c)
        wake_workers(c)          # before anything is asked: their clients wait
        work += take_questions(c)
        tend(c, &tend_ms, &sweep_ms)
        exchange_own(c)
        if sweep_step(c):
            work = BUSY          # the workers' restart waits for the sweep
        settle(c)
        if c.slow != NULL:
            slow_flush(c.slow)
        fd_store32(&c.post.inflight_used, c.inflight_used - c.checks_asked)
        wake_workers(c)
    fd_store32(&c.post.serving, 0)
