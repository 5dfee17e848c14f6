# SPDX-License-Identifier: Apache-2.0
"""The coordinator as Python sees it: segments mapped and checked, memory taken, the loop entered."""

import os

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport OPEN_OK, cache_open, open_rc
from fastdns._compress cimport compress_room_t
from fastdns._log cimport log_open
from fastdns._memory cimport fd_reserve, fd_take
from fastdns._proto cimport MESSAGE_MAX
from fastdns._response cimport response_t
from fastdns._ring cimport ring_open
from fastdns._segments cimport boottime_ms, config_check, map_segment, post_check, region_check
from fastdns._shm cimport (
    FD_ENTRY_MAX,
    FD_MAX_UPSTREAMS,
    FD_MAX_WORKERS,
    FD_QNAME_MAX,
    FD_STEP_SLOW,
    fd_at,
    fd_block,
    fd_block_t,
    fd_cache_header_t,
    fd_config_t,
    fd_entry_t,
    fd_load16,
    fd_load32,
    fd_load64,
    fd_part_t,
    fd_region_t,
    fd_slow_t,
    fd_step_t,
    fd_store32,
)
from fastdns._suspects cimport DEATHS_MAX
from fastdns._sys cimport EPOLL_CLOEXEC, epoll_create1
from fastdns.coordinator._channels cimport channel_clear
from fastdns.coordinator._connection cimport connections_open
from fastdns.coordinator._cut cimport cut_open
from fastdns.coordinator._deaths cimport death_t, deaths_recover, quarantine_count
from fastdns.coordinator._hand cimport hand_clear
from fastdns.coordinator._inflight cimport inflight_open
from fastdns.coordinator._loop cimport loop_run
from fastdns.coordinator._policy cimport policy_open
from fastdns.coordinator._probe cimport probes_open
from fastdns.coordinator._report cimport series_open
from fastdns.coordinator._queue cimport SlowQueue, slow_open
from fastdns.coordinator._state cimport UPSTREAM_CHANNELS, channel_t, coordinator_t, worker_link_t
from fastdns.coordinator._store cimport store_attach, store_count_blocks, store_void_holds
from fastdns.coordinator._table cimport table_changes
from fastdns.coordinator._tls cimport tls_open
from fastdns.coordinator._udp cimport udp_open
from fastdns.coordinator._upstream cimport upstream_inherit


cdef void *_take(size_t octets) except NULL:
    cdef void *memory = fd_take(octets, 0)
    if memory == NULL:
        raise MemoryError("no memory")
    return memory


cdef void *_reserve(size_t octets) except NULL:
    cdef void *memory = fd_reserve(octets)
    if memory == NULL:
        raise MemoryError("no memory")
    return memory


def needs_thread(int config) -> bool:
    """Whether some block of a configuration has a step for the Python thread. Raises RuntimeError."""
    cdef uint64_t size = 0
    cdef void *base = map_segment(config, False, &size)
    cdef const fd_config_t *found = config_check(base, size)
    cdef const fd_step_t *steps
    cdef uint32_t number, i
    if found == NULL:
        raise RuntimeError("config is not a configuration of this version")
    for number in range(found.blocks.count):
        steps = <const fd_step_t *>fd_at(found, fd_block(found, number).steps.off)
        for i in range(fd_block(found, number).steps.count):
            if steps[i].kind == FD_STEP_SLOW:
                return True
    return False


def tls_upstreams(int config) -> list[tuple[int, bytes]]:
    """The upstreams of a configuration with TLS: number, and JSON that says how. Raises RuntimeError."""
    cdef uint64_t size = 0
    cdef void *base = map_segment(config, False, &size)
    cdef const fd_config_t *found = config_check(base, size)
    cdef const fd_part_t *part
    cdef uint32_t i
    if found == NULL or found.upstream_count > FD_MAX_UPSTREAMS:
        raise RuntimeError("config is not a configuration of this version")
    upstreams = []
    for i in range(found.upstream_count):
        part = &found.upstreams[i].tls
        if part.count:
            text = <const char *>fd_at(found, part.off)
            upstreams.append((i, <bytes>text[:part.count]))
    return upstreams


cdef class Coordinator:
    """One coordinator of this process's life; nothing is given back before the process ends.

    Raises RuntimeError on a segment that is not what it should be, OSError and MemoryError where
    the kernel gives nothing.
    """

    cdef coordinator_t *c

    def __init__(
        self, int config, int cache, int post, int wake, int log, list regions, list wake_workers
    ) -> None:
        cdef coordinator_t *c = <coordinator_t *>_take(sizeof(coordinator_t))
        self.c = c
        self._map_config(config)
        self._map_post(post)
        self._map_log(log)
        c.now_ms = boottime_ms()
        c.now_us = c.now_ms * 1000
        c.wake = wake
        c.tls_requests = -1
        c.epoll = epoll_create1(EPOLL_CLOEXEC)
        if c.epoll < 0:
            raise OSError("epoll_create1 failed")
        if len(regions) > FD_MAX_WORKERS or len(regions) != len(wake_workers):
            raise RuntimeError(f"{len(regions)} regions, {len(wake_workers)} eventfds")
        c.worker_count = <uint32_t>len(regions)
        waiting = sum(self._map_region(i, regions[i], wake_workers[i]) for i in range(len(regions)))
        self._take_memory(waiting)
        self._attach(cache)

    def _map_config(self, int fd) -> None:
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, False, &size)
        self.c.config = config_check(base, size)
        if self.c.config == NULL or self.c.config.upstream_count > FD_MAX_UPSTREAMS:
            raise RuntimeError("config is not a configuration of this version")
        self.c.upstream_count = self.c.config.upstream_count

    def _map_post(self, int fd) -> None:
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        self.c.post = post_check(base, size)
        if self.c.post == NULL:
            raise RuntimeError("post is not a segment of this version")
        self.c.counters = &self.c.post.counters[0]

    def _map_log(self, int fd) -> None:
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        if not log_open(&self.c.log, base, size):
            raise RuntimeError("log is not a segment of this version")

    def _map_region(self, int index, int fd, int wake) -> int:
        """Map a worker's region; returns how many questions it can have waiting."""
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        cdef fd_region_t *region = region_check(base, size)
        cdef worker_link_t *link = &self.c.workers[index]
        if region == NULL:
            raise RuntimeError(f"region {index} is not a segment of this version")
        link.region = region
        link.wake = wake
        ring_open(&link.questions, &region.question_ring,
                  <uint8_t *>fd_at(base, region.questions.off), region.questions.count)
        ring_open(&link.answers, &region.answer_ring,
                  <uint8_t *>fd_at(base, region.answers.off), region.answers.count)
        return region.pending.count

    def _take_memory(self, uint32_t waiting) -> None:
        cdef coordinator_t *c = self.c
        cdef uint32_t channels = c.upstream_count * UPSTREAM_CHANNELS
        cdef uint32_t i
        c.channels = <channel_t *>_take(max(channels, 1) * sizeof(channel_t))
        for i in range(channels):
            channel_clear(&c.channels[i])
        for i in range(c.upstream_count):
            c.upstreams[i].config = &c.config.upstreams[i]
            c.upstreams[i].first_channel = <uint16_t>(i * UPSTREAM_CHANNELS)
            upstream_inherit(&c.upstreams[i], fd_load16(&c.post.upstream_wait_ms[i]))
        c.response = <response_t *>_reserve(sizeof(response_t))
        c.room = <compress_room_t *>_reserve(sizeof(compress_room_t))
        if table_changes(c):
            c.made = <uint8_t *>_reserve(MESSAGE_MAX + 1)
            c.restored = <uint8_t *>_reserve(MESSAGE_MAX + 1)
        c.entry = <fd_entry_t *>_reserve(FD_ENTRY_MAX)
        series_open(c)
        if not (inflight_open(c, waiting) and policy_open(c) and udp_open(c) and connections_open(c)
                and probes_open(c) and cut_open(c)):
            raise MemoryError("no memory")

    def _attach(self, int fd) -> None:
        cdef coordinator_t *c = self.c
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        cdef open_rc rc = cache_open(&c.cache, base, size)
        cdef const uint16_t *hits[16]
        cdef uint32_t i
        if rc != OPEN_OK:
            raise RuntimeError(f"cache is not a segment of this version ({<int>rc})")
        for i in range(c.worker_count):
            hits[i] = <const uint16_t *>fd_at(c.workers[i].region, c.workers[i].region.hits.off)
            if c.workers[i].region.hits.count < c.cache.slots * c.cache.shard_count:
                hits[i] = NULL
        # Greater than any before it, whatever became of the keeper's count.
        c.generation = max(<uint64_t>fd_load32(&c.post.starts),
                           fd_load64(&(<fd_cache_header_t *>base).generation) + 1)
        c.store = store_attach(&c.cache, hits, c.worker_count, c.post, c.generation, c.now_ms)
        if c.store == NULL:
            raise MemoryError("no memory")
        store_count_blocks(c.store, c.config)
        store_void_holds(c.store)          # who is silent has to be found out anew

    def recover(self) -> list[tuple[str, int, bytes]]:
        """What a predecessor had in hand when it died: ("suspect" or "quarantined", key hash, qname)."""
        cdef death_t[2] deaths
        cdef uint32_t octets
        cdef int i
        deaths_recover(self.c.post, self.c.now_ms, deaths)
        quarantine_count(self.c)
        found = []
        for i in range(2):
            if deaths[i].note != NULL:
                octets = min(fd_load32(&deaths[i].note.qname_len), <uint32_t>FD_QNAME_MAX)
                found.append(("quarantined" if deaths[i].deaths >= DEATHS_MAX else "suspect", deaths[i].key_hash,
                              (<const char *>deaths[i].note.qname)[:octets]))
        return found

    def programs(self) -> list[tuple[int, int, bytes]]:
        """What the Python thread has to do: block, step, and JSON that describes it."""
        cdef coordinator_t *c = self.c
        cdef const fd_step_t *steps
        cdef const fd_part_t *part
        cdef const fd_block_t *block
        cdef uint32_t number, i
        found = []
        for number in range(c.config.blocks.count):
            block = fd_block(c.config, number)
            steps = <const fd_step_t *>fd_at(c.config, block.steps.off)
            for i in range(block.steps.count):
                if steps[i].kind == FD_STEP_SLOW:
                    part = &(<const fd_slow_t *>fd_at(c.config, steps[i].argument)).program
                    text = <const char *>fd_at(c.config, part.off)
                    found.append((number, steps[i].number, <bytes>text[:part.count]))
        return found

    def open_queue(self) -> SlowQueue:
        """The thread's end of the queues; steps of the thread wait for it from now on. Raises MemoryError."""
        self.c.slow = slow_open(self.c.wake, &self.c.post.thread_in_hand)
        if self.c.slow == NULL:
            raise MemoryError("no memory for the Python thread's queues")
        return SlowQueue.of(self.c.slow)

    def open_tls(self) -> int:
        """The TLS thread's end of the pipe that connections are asked for by. Raises OSError."""
        cdef int end = tls_open(self.c)
        if end < 0:
            raise OSError("no pipe to the TLS thread")
        return end

    def run(self) -> None:
        """Serve until told to leave. Takes no GIL on its way; Python threads go on beside it."""
        fd_store32(&self.c.post.pid, os.getpid())
        with nogil:
            loop_run(self.c)
        if self.c.slow != NULL:    # it leaves in order: what the thread still works on killed nobody
            self.c.slow.closed = True
            hand_clear(&self.c.post.thread_in_hand)
