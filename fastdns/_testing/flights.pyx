# SPDX-License-Identifier: Apache-2.0
"""Wrappers for the coordinator's parts: timers, the table of questions under way, round-trip times,
queries, verdicts, and the pool of sockets under a clock of the test's own."""

import socket

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastdns._compress cimport compress_room_t
from fastdns._response cimport RESPONSE_OK, parse_response, response_t
from fastdns._shm cimport (
    FD_ENTRY_MAX,
    FD_Q_RD,
    fd_block_t,
    fd_entry_size,
    fd_entry_t,
    fd_post_t,
    fd_upstream_t,
    sockaddr_in,
)
from fastdns._stats cimport FD_C_upstream_sockets
from fastdns._sys cimport AF_INET, EPOLL_CLOEXEC, close, epoll_create1
from fastdns.coordinator._channels cimport channel_clear
from fastdns.coordinator._inflight cimport (
    attempt_add,
    attempt_find,
    attempt_remove,
    flight_join,
    flight_qname,
    inflight_add,
    inflight_close,
    inflight_find,
    inflight_open,
    inflight_remove,
)
from fastdns.coordinator._judge cimport KEEP_NEGATIVE, KEEP_POSITIVE, judge, judge_rc, source_t
from fastdns.coordinator._query cimport write_query
from fastdns.coordinator._random cimport random16, random_t
from fastdns.coordinator._state cimport (
    ASK_OK,
    NONE,
    UPSTREAM_CHANNELS,
    channel_t,
    coordinator_t,
    flight_t,
    question_t,
    upstream_t,
)
from fastdns.coordinator._timers cimport (
    TIMER_NONE,
    timers_clear,
    timers_close,
    timers_open,
    timers_pop,
    timers_set,
    timers_t,
    timers_wait,
)
from fastdns.coordinator._udp cimport udp_ask, udp_close, udp_flush, udp_open, udp_receive, udp_tend
from fastdns.coordinator._upstream cimport rtt_late, rtt_measured, upstream_wait_ms


cdef class Timers:
    cdef timers_t timers

    def __cinit__(self, uint32_t capacity, uint64_t now_ms):
        if not timers_open(&self.timers, capacity, now_ms):
            raise MemoryError

    def __dealloc__(self):
        timers_close(&self.timers)

    def set(self, uint32_t index, uint64_t due_ms) -> None:
        timers_set(&self.timers, index, due_ms)

    def clear(self, uint32_t index) -> None:
        timers_clear(&self.timers, index)

    def pop(self, uint64_t now_ms):
        """The number of one timer that is due, or None."""
        index = timers_pop(&self.timers, now_ms)
        return None if index == TIMER_NONE else index

    def wait(self, uint64_t now_ms, uint32_t most) -> int:
        return timers_wait(&self.timers, now_ms, most)

    @property
    def count(self) -> int:
        return self.timers.count


def random_numbers(int count) -> list[int]:
    cdef random_t random
    memset(&random, 0, sizeof(random))
    return [random16(&random) for _ in range(count)]


cdef void fill_question(question_t *question, key) except *:
    key_hash, qname, qtype, flags = key
    memset(question, 0, sizeof(question_t))
    question.key_hash = key_hash
    question.qname_len = <uint8_t>len(qname)
    question.qtype = qtype
    question.qclass = 1
    question.flags = flags


cdef class Table:
    """The in-flight table. A key is (hash, qname, qtype, flags)."""

    cdef coordinator_t c

    def __cinit__(self, uint32_t capacity, uint32_t workers=2, uint32_t channels=4):
        cdef uint32_t i
        memset(&self.c, 0, sizeof(coordinator_t))
        self.c.worker_count = workers
        self.c.channels = <channel_t *>malloc(channels * sizeof(channel_t))
        for i in range(channels):
            channel_clear(&self.c.channels[i])
        if not inflight_open(&self.c, capacity):
            raise MemoryError

    def __dealloc__(self):
        inflight_close(&self.c)
        free(self.c.channels)

    @property
    def capacity(self) -> int:
        return self.c.capacity

    @property
    def used(self) -> int:
        return self.c.inflight_used

    @property
    def extra(self) -> int:
        return self.c.extra_attempts

    def add(self, key):
        cdef question_t question
        cdef bytes qname = key[1]
        fill_question(&question, key)
        index = inflight_add(&self.c, &question, <const uint8_t *>qname)
        return None if index == NONE else index

    def find(self, key):
        cdef question_t question
        cdef bytes qname = key[1]
        fill_question(&question, key)
        index = inflight_find(&self.c, &question, <const uint8_t *>qname)
        return None if index == NONE else index

    def remove(self, uint32_t index) -> None:
        inflight_remove(&self.c, index)

    def qname(self, uint32_t index) -> bytes:
        cdef flight_t *flight = &self.c.flights[index]
        return flight_qname(&self.c, flight)[:flight.question.qname_len]

    def join(self, uint32_t index, uint32_t worker, uint64_t ticket) -> bool:
        return flight_join(&self.c, index, worker, ticket)

    def waiting(self, uint32_t index) -> dict[int, int]:
        return {i: self.c.tickets[index * self.c.worker_count + i] for i in range(self.c.worker_count)
                if self.c.flights[index].waiting >> i & 1}

    def attempt(self, uint32_t flight, uint32_t channel, uint16_t number) -> int:
        return attempt_add(&self.c, flight, channel, number)

    def find_attempt(self, uint32_t channel, uint16_t number):
        """The flight that an answer belongs to, or None."""
        index = attempt_find(&self.c, channel, number)
        return None if index == NONE else self.c.attempts[index].flight

    def remove_attempt(self, uint32_t channel, uint16_t number) -> None:
        attempt_remove(&self.c, attempt_find(&self.c, channel, number))

    def on_channel(self, uint32_t channel) -> list[tuple[int, int]]:
        """(flight, id) of the attempts on a channel, newest first."""
        found = []
        index = self.c.channels[channel].attempts
        while index != NONE:
            found.append((self.c.attempts[index].flight, self.c.attempts[index].id))
            index = self.c.attempts[index].channel_next
        return found

    def of_flight(self, uint32_t flight) -> list[tuple[int, int]]:
        """(channel, number) of a flight's attempts, newest first."""
        found = []
        index = self.c.flights[flight].attempts
        while index != NONE:
            found.append((self.c.attempts[index].channel, self.c.attempts[index].id))
            index = self.c.attempts[index].sibling
        return found


cdef class RoundTrips:
    cdef upstream_t upstream

    def __cinit__(self):
        memset(&self.upstream, 0, sizeof(upstream_t))

    def measured(self, uint32_t rtt_us) -> None:
        rtt_measured(&self.upstream.udp, rtt_us, False)

    def wait_ms(self, uint32_t floor_ms) -> int:
        return upstream_wait_ms(&self.upstream, floor_ms)

    def late(self) -> None:
        rtt_late(&self.upstream.udp)

    @property
    def late_us(self) -> int:
        return self.upstream.udp.late_us

    @property
    def srtt_us(self) -> int:
        return self.upstream.udp.srtt_us

    @property
    def rttvar_us(self) -> int:
        return self.upstream.udp.rttvar_us


def query(const uint8_t[::1] qname, uint16_t qtype, uint16_t qclass, uint8_t flags, uint8_t key_flags,
          uint16_t number, bint edns) -> bytes:
    cdef question_t question
    cdef uint8_t[288] out
    memset(&question, 0, sizeof(question))
    question.qname_len = <uint8_t>qname.shape[0]
    question.qtype = qtype
    question.qclass = qclass
    question.flags = flags
    question.key_flags = key_flags
    octets = write_query(&question, &qname[0], number, edns, NULL, out)
    return (<const uint8_t *>out)[:octets]


def verdict(bytes msg, bytes qname, uint16_t qtype=1, uint8_t flags=FD_Q_RD, uint64_t now_ms=1000,
            **settings):
    """What judge makes of a response: ("malformed" | "unusable" | "hand on" | "store", entry)."""
    cdef fd_block_t block
    cdef source_t source
    cdef question_t question
    cdef response_t *response = <response_t *>malloc(sizeof(response_t))
    cdef compress_room_t *room = <compress_room_t *>malloc(sizeof(compress_room_t))
    cdef uint8_t *entry = <uint8_t *>malloc(FD_ENTRY_MAX + 64)
    cdef judge_rc rc
    try:
        memset(room, 0, sizeof(compress_room_t))
        memset(entry, 0xa5, FD_ENTRY_MAX + 64)
        memset(&block, 0, sizeof(block))
        memset(&source, 0, sizeof(source))
        source.block = &block
        block.fingerprint = settings.pop("fingerprint", 7)
        source.zone = settings.pop("zone", 0)
        source.keep = settings.pop("keep", KEEP_POSITIVE | KEEP_NEGATIVE)
        block.flags = settings.pop("flags", 0)
        block.caching = settings.pop("caching", 1)
        block.uniform_ttl = settings.pop("uniform_ttl", 0)
        block.ttl_min_s = settings.pop("ttl_min_s", 0)
        block.ttl_max_s = settings.pop("ttl_max_s", 86400)
        block.negative_min_s = settings.pop("negative_min_s", 0)
        block.negative_max_s = settings.pop("negative_max_s", 10800)
        block.failure_s = settings.pop("failure_s", 5)
        block.stale_s = settings.pop("stale_s", 0)
        assert not settings, settings
        fill_question(&question, (0x1234, qname, qtype, flags))
        if parse_response(<const uint8_t *>msg, len(msg), response) != RESPONSE_OK:
            return "malformed", b""
        rc = judge(&source, &question, <const uint8_t *>qname, <const uint8_t *>msg, response, now_ms,
                   room, <fd_entry_t *>entry)
        for i in range(64):
            assert entry[FD_ENTRY_MAX + i] == 0xa5, "written behind the entry"
        if rc < 0:
            return "unusable", b""
        octets = fd_entry_size((<fd_entry_t *>entry).qname_len, (<fd_entry_t *>entry).ttl_count,
                               (<fd_entry_t *>entry).records_len)
        return "store" if rc else "hand on", (<const uint8_t *>entry)[:octets]
    finally:
        free(response)
        free(room)
        free(entry)


cdef class Sockets:
    """The pool of sockets to one upstream on loopback, by the test's clock (ms)."""

    cdef coordinator_t c
    cdef fd_upstream_t address
    cdef fd_post_t *post
    cdef channel_t channels[72]

    def __cinit__(self, uint16_t port, uint32_t capacity=1024):
        cdef uint32_t i
        cdef sockaddr_in *v4 = <sockaddr_in *>&self.address.address
        memset(&self.c, 0, sizeof(coordinator_t))
        memset(&self.address, 0, sizeof(fd_upstream_t))
        v4.sin_family = AF_INET
        v4.sin_port = socket.htons(port)
        v4.sin_addr.s_addr = socket.htonl(0x7f000001)
        self.post = <fd_post_t *>malloc(sizeof(fd_post_t))
        memset(self.post, 0, sizeof(fd_post_t))
        self.c.post = self.post
        self.c.counters = &self.post.counters[0]
        self.c.worker_count = 1
        self.c.upstream_count = 1
        self.c.upstreams[0].config = &self.address
        self.c.channels = &self.channels[0]
        for i in range(<uint32_t>UPSTREAM_CHANNELS):
            channel_clear(&self.channels[i])
        self.c.epoll = epoll_create1(EPOLL_CLOEXEC)
        if not (inflight_open(&self.c, capacity) and udp_open(&self.c)):
            raise MemoryError

    def __dealloc__(self):
        udp_close(&self.c)
        inflight_close(&self.c)
        close(self.c.epoll)
        free(self.post)

    def ask(self, uint64_t now_ms, uint64_t key_hash=1):
        """Ask a new question; returns (flight, channel)."""
        cdef question_t question
        cdef bytes qname = b"\x01a\0"
        self.c.now_ms = now_ms
        self.c.now_us = now_ms * 1000
        fill_question(&question, (key_hash, qname, 1, FD_Q_RD))
        index = inflight_add(&self.c, &question, <const uint8_t *>qname)
        assert index != NONE
        return index, self.ask_again(now_ms, index)

    def ask_again(self, uint64_t now_ms, uint32_t flight):
        """Ask a question once more; returns the channel."""
        self.c.now_ms = now_ms
        self.c.now_us = now_ms * 1000
        if udp_ask(&self.c, flight) != ASK_OK:
            return None
        return self.c.attempts[self.c.flights[flight].attempts].channel

    def flush(self) -> None:
        udp_flush(&self.c)

    def receive(self, uint32_t channel) -> int:
        return udp_receive(&self.c, channel)

    def done(self, uint32_t flight) -> None:
        inflight_remove(&self.c, flight)

    def tend(self) -> None:
        udp_tend(&self.c)

    def fd(self, uint32_t channel) -> int:
        return self.channels[channel].fd

    def failed(self, uint32_t channel) -> int:
        return self.channels[channel].failed

    @property
    def open_sockets(self) -> int:
        return sum(self.channels[i].fd >= 0 for i in range(64))

    @property
    def opened(self) -> int:
        return self.c.counters[FD_C_upstream_sockets]
