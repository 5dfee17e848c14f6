# SPDX-License-Identifier: Apache-2.0
"""A wrapper for the TCP connections to one upstream on loopback, by the test's clock (ms)."""

import socket

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastdns._memory cimport fd_take
from fastdns._shm cimport FD_Q_RD, fd_post_t, fd_upstream_t, sockaddr_in
from fastdns._stats cimport (
    FD_C_upstream_tcp_broken,
    FD_C_upstream_tcp_connects,
    FD_C_upstream_tcp_full,
)
from fastdns._sys cimport AF_INET, EPOLL_CLOEXEC, close, epoll_create1, epoll_event, epoll_wait
from fastdns.coordinator._channels cimport channel_clear, connection_of, tcp_channel, tcp_place
from fastdns.coordinator._connection cimport (
    connection_event,
    connection_message,
    connections_close,
    connections_open,
)
from fastdns.coordinator._inflight cimport (
    attempt_find,
    inflight_add,
    inflight_close,
    inflight_open,
    inflight_remove,
)
from fastdns.coordinator._state cimport (
    ASK_OK,
    NONE,
    TCP_CLOSED,
    TCP_CONNECTIONS,
    UPSTREAM_CHANNELS,
    channel_t,
    coordinator_t,
    question_t,
)
from fastdns.coordinator._tcp cimport tcp_ask, tcp_avoid, tcp_flush, tcp_other, tcp_stuck, tcp_tend
from fastdns.coordinator._upstream cimport rtt_measured


cdef class Connections:
    """Connections have their places, 0 to 7, as numbers."""

    cdef coordinator_t *c
    cdef fd_upstream_t upstream
    cdef channel_t channels[72]
    cdef uint64_t questions

    def __cinit__(self, uint16_t port, uint32_t capacity=1024, uint32_t expire_ms=10_000,
                  uint32_t max_age_ms=20_000, int max_idle=0):
        cdef uint32_t i
        cdef sockaddr_in *v4 = <sockaddr_in *>&self.upstream.address
        v4.sin_family = AF_INET
        v4.sin_port = socket.htons(port)
        v4.sin_addr.s_addr = socket.htonl(0x7f000001)
        self.upstream.force_tcp = 1
        self.upstream.expire_ms = expire_ms
        self.upstream.max_age_ms = max_age_ms
        self.upstream.max_idle = max_idle
        self.c = <coordinator_t *>fd_take(sizeof(coordinator_t), 0)
        if self.c == NULL:
            raise MemoryError
        self.c.post = <fd_post_t *>fd_take(sizeof(fd_post_t), 0)
        self.c.counters = &self.c.post.counters[0]
        self.c.worker_count = 1
        self.c.upstream_count = 1
        self.c.upstreams[0].config = &self.upstream
        self.c.channels = &self.channels[0]
        for i in range(<uint32_t>UPSTREAM_CHANNELS):
            channel_clear(&self.channels[i])
        self.c.epoll = epoll_create1(EPOLL_CLOEXEC)
        if not (inflight_open(self.c, capacity) and connections_open(self.c)):
            raise MemoryError

    def __dealloc__(self):
        connections_close(self.c)
        inflight_close(self.c)
        close(self.c.epoll)
        free(self.c.post)
        free(self.c)

    def at(self, uint64_t now_ms) -> None:
        """The time from now on."""
        self.c.now_ms = now_ms
        self.c.now_us = now_ms * 1000

    def measured(self, uint32_t rtt_us) -> None:
        rtt_measured(&self.c.upstreams[0].tcp, rtt_us, False)

    def ask(self):
        """A new question; returns (flight, place)."""
        cdef question_t question
        cdef bytes qname = b"\x01a\0"
        memset(&question, 0, sizeof(question))
        self.questions += 1
        question.key_hash = self.questions
        question.qname_len = 3
        question.qtype = question.qclass = 1
        question.flags = FD_Q_RD
        index = inflight_add(self.c, &question, <const unsigned char *>qname)
        assert index != NONE
        return index, self.ask_again(index)

    def ask_again(self, uint32_t flight):
        """Ask a question once more; returns the place."""
        if tcp_ask(self.c, flight) != ASK_OK:
            return None
        return tcp_place(self.c.attempts[self.c.flights[flight].attempts].channel)

    def flush(self) -> None:
        tcp_flush(self.c)

    def done(self, uint32_t flight) -> None:
        inflight_remove(self.c, flight)

    def stuck(self, uint32_t flight) -> bool:
        return tcp_stuck(self.c, &self.c.flights[flight])

    def avoid(self, uint32_t flight) -> None:
        tcp_avoid(self.c, &self.c.flights[flight])

    def other(self, uint32_t flight) -> int:
        """0: none, 1: a new one, 2: one that works."""
        return tcp_other(self.c, &self.c.flights[flight])

    def tend(self) -> None:
        tcp_tend(self.c)

    def events(self, int timeout_ms=20) -> list[bytes]:
        """Take what the kernel has; the messages that came. Flights that they answer are done."""
        cdef epoll_event[16] events
        cdef const unsigned char *msg
        cdef uint32_t octets = 0
        cdef uint32_t attempt, channel
        cdef uint16_t number
        cdef int i, count
        found = []
        count = epoll_wait(self.c.epoll, events, 16, timeout_ms)
        for i in range(count):
            channel = <uint32_t>events[i].data.u64
            connection_event(self.c, channel, events[i].events)
            while True:
                msg = connection_message(self.c, channel, &octets)
                if msg == NULL:
                    break
                found.append((<const char *>msg)[:octets])
                if octets >= 2:
                    memcpy(&number, msg, 2)
                    attempt = attempt_find(self.c, channel, number)
                    if attempt != NONE:
                        inflight_remove(self.c, self.c.attempts[attempt].flight)
        return found

    def no_parts(self) -> None:
        """As if parts of other messages had all the room."""
        self.c.tcp_rx.free_parts = 0

    def outstanding(self) -> dict[int, int]:
        """Of each open connection."""
        return {place: self.channels[tcp_channel(0, place)].outstanding for place in range(TCP_CONNECTIONS)
                if connection_of(self.c, tcp_channel(0, place)).state != TCP_CLOSED}

    def draining(self) -> set[int]:
        return {place for place in range(TCP_CONNECTIONS) if self.channels[tcp_channel(0, place)].draining}

    def failed(self, uint32_t place) -> int:
        return self.channels[tcp_channel(0, place)].failed

    @property
    def opened(self) -> int:
        return self.c.counters[FD_C_upstream_tcp_connects]

    @property
    def broken(self) -> int:
        return self.c.counters[FD_C_upstream_tcp_broken]

    @property
    def full(self) -> int:
        return self.c.counters[FD_C_upstream_tcp_full]
