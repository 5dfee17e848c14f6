# SPDX-License-Identifier: Apache-2.0
"""The coordinator's surroundings, for tests that run it whole: a configuration, a worker's side, its post."""

import socket
from dataclasses import dataclass

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._name cimport key_extra, name_fold_hash
from fastdns._ring cimport (
    ring_commit,
    ring_empty,
    ring_next,
    ring_open,
    ring_record_len,
    ring_release,
    ring_reserve,
    ring_t,
)
from fastdns._segments cimport map_segment, post_check, region_check
from fastdns._shm cimport (
    FD_Q_CLIENT,
    FD_Q_RD,
    FD_RECORD_QUESTION,
    FD_SUSPECTS,
    fd_announce_sleep,
    fd_answer_t,
    fd_at,
    fd_cache_header_t,
    fd_load16,
    fd_load32,
    fd_load64,
    fd_post_t,
    fd_question_client_off,
    fd_question_client_t,
    fd_question_in_hand_t,
    fd_question_t,
    fd_record_t,
    fd_region_t,
    fd_store16,
    fd_store32,
    sockaddr_in,
)
from fastdns._stats cimport FD_COUNTERS
from fastdns._sys cimport AF_INET, AF_INET6, ring_eventfd
from fastdns.coordinator._hand cimport hand_take

cdef extern from *:
    """
    #include "_counters.h"
    #define NAME(name, help) #name,
    static const char *const counter_names[] = { FD_COUNTER_LIST(NAME) };
    #undef NAME
    """
    const char **counter_names


@dataclass
class Record:
    """What came through the answer ring."""

    kind: int
    ede: int
    ticket: int
    entry: bytes


cdef void write_client(fd_question_client_t *out, client) except *:
    address, port, tcp = client
    cdef bytes packed
    cdef sockaddr_in *inet = <sockaddr_in *>&out.peer
    memset(out, 0, sizeof(fd_question_client_t))
    out.tcp = tcp
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address)
        out.peer.sin6_family = AF_INET6
        out.peer.sin6_port = socket.htons(port)
        memcpy(&out.peer.sin6_addr, <const char *>packed, 16)
    else:
        packed = socket.inet_pton(socket.AF_INET, address)
        inet.sin_family = AF_INET
        inet.sin_port = socket.htons(port)
        memcpy(&inet.sin_addr, <const char *>packed, 4)


cdef class WorkerSide:
    """A worker as the coordinator sees it: puts questions, takes answers, sleeps and wakes."""

    cdef fd_region_t *region
    cdef ring_t questions
    cdef ring_t answers
    cdef uint64_t[2] hash_key
    cdef int wake_coordinator

    def __init__(self, int region, int cache, int wake_coordinator):
        cdef uint64_t size = 0
        cdef void *base = map_segment(region, True, &size)
        self.region = region_check(base, size)
        assert self.region != NULL
        ring_open(&self.questions, &self.region.question_ring,
                  <uint8_t *>fd_at(base, self.region.questions.off), self.region.questions.count)
        ring_open(&self.answers, &self.region.answer_ring,
                  <uint8_t *>fd_at(base, self.region.answers.off), self.region.answers.count)
        cdef void *header = map_segment(cache, False, &size)
        assert header != NULL
        memcpy(self.hash_key, (<fd_cache_header_t *>header).hash_key, 16)
        self.wake_coordinator = wake_coordinator

    def put(self, uint64_t ticket, const uint8_t[::1] qname, uint16_t qtype=1, uint16_t qclass=1,
            uint8_t flags=FD_Q_RD, uint8_t key_flags=0, uint16_t group=0, uint8_t variant=0,
            client=None) -> int:
        """Put a question; returns its key hash, or 0 when the ring is full. client: (address, port, tcp)."""
        cdef uint64_t[33] folded
        cdef uint32_t qname_len = <uint32_t>qname.shape[0]
        cdef uint64_t key_hash = name_fold_hash(
            &qname[0], qname_len, key_extra(group, variant, key_flags, qtype, qclass),
            self.hash_key, <uint8_t *>folded)
        cdef fd_question_t *question = <fd_question_t *>ring_reserve(
            &self.questions, <uint32_t>sizeof(fd_question_t) + qname_len if client is None else
            fd_question_client_off(<uint8_t>qname_len) + <uint32_t>sizeof(fd_question_client_t))
        if question == NULL:
            return 0
        question.record.kind = FD_RECORD_QUESTION
        question.ticket = ticket
        question.key_hash = key_hash
        question.group = group
        question.variant = variant
        question.key_flags = key_flags
        question.qtype = qtype
        question.qclass = qclass
        question.qname_len = <uint8_t>qname_len
        question.flags = flags
        memcpy(<uint8_t *>question + sizeof(fd_question_t), folded, qname_len)
        if client is not None:
            question.flags |= FD_Q_CLIENT
            write_client(<fd_question_client_t *>(<uint8_t *>question + fd_question_client_off(<uint8_t>qname_len)),
                         client)
        ring_commit(&self.questions)
        ring_eventfd(self.wake_coordinator)
        return key_hash

    def hit(self, uint32_t slot, uint16_t times=1) -> None:
        """Count hits of a slot of the cache, as a worker that answers from it does."""
        cdef uint16_t *figure = <uint16_t *>fd_at(self.region, self.region.hits.off) + slot
        assert slot < self.region.hits.count
        fd_store16(figure, <uint16_t>(fd_load16(figure) + times))

    def put_raw(self, const uint8_t[::1] octets, int kind=FD_RECORD_QUESTION) -> None:
        """Put a record of any contents behind its header of 8 octets."""
        cdef fd_record_t *record = <fd_record_t *>ring_reserve(
            &self.questions, <uint32_t>(sizeof(fd_record_t) + octets.shape[0]))
        assert record != NULL
        record.kind = <uint8_t>kind
        if octets.shape[0]:
            memcpy(<uint8_t *>record + sizeof(fd_record_t), &octets[0], octets.shape[0])
        ring_commit(&self.questions)
        ring_eventfd(self.wake_coordinator)

    def next(self):
        """The next answer record, or None."""
        cdef fd_record_t *record = ring_next(&self.answers)
        cdef uint32_t octets
        if record == NULL:
            return None
        octets = ring_record_len(&self.answers)
        assert octets >= sizeof(fd_answer_t)
        result = Record(record.kind, record.ede, (<fd_answer_t *>record).ticket,
                        (<const char *>record)[sizeof(fd_answer_t):octets])
        ring_release(&self.answers)
        return result

    def sleep(self) -> bool:
        """Announce sleep; returns whether nothing waits."""
        fd_announce_sleep(&self.region.answer_ring.sleeping)
        return ring_empty(&self.answers)

    def awake(self) -> None:
        fd_store32(&self.region.answer_ring.sleeping, 0)

    @property
    def marked(self) -> int:
        return fd_load32(&self.region.answer_ring.marked)

    @property
    def questions_waiting(self) -> bool:
        return not ring_empty(&self.questions)

    @property
    def coordinator_generation(self) -> int:
        return fd_load64(&self.region.coordinator_generation)

    @property
    def coordinator_sleeps(self) -> bool:
        return fd_load32(&self.region.question_ring.sleeping) != 0


cdef class Post:
    """The coordinator's post, as the keeper and `fastdns stats` see it."""

    cdef fd_post_t *post

    def __init__(self, int fd):
        cdef uint64_t size = 0
        cdef void *base = map_segment(fd, True, &size)
        self.post = post_check(base, size)
        assert self.post != NULL

    def counters(self) -> dict[str, int]:
        return {counter_names[i].decode(): fd_load64(&self.post.counters[i]) for i in range(FD_COUNTERS)}

    @property
    def heartbeat(self) -> int:
        return fd_load64(&self.post.heartbeat)

    @property
    def serving(self) -> int:
        return fd_load32(&self.post.serving)

    @property
    def inflight(self) -> int:
        return fd_load32(&self.post.inflight_used)

    @property
    def pid(self) -> int:
        return fd_load32(&self.post.pid)

    @property
    def generation(self) -> int:
        return fd_load64(&self.post.generation)

    @property
    def in_hand(self) -> int:
        return fd_load64(&self.post.in_hand.hash)

    @property
    def thread_in_hand(self) -> int:
        return fd_load64(&self.post.thread_in_hand.hash)

    def suspects(self, uint32_t deaths=1) -> dict[int, int]:
        """Keys that just so many coordinators died on, and until when that is remembered."""
        return {self.post.suspects[i].hash: self.post.suspects[i].until_ms
                for i in range(FD_SUSPECTS) if self.post.suspects[i].hash and self.post.suspects[i].deaths == deaths}

    def note(self, uint64_t key_hash, const uint8_t[::1] qname, bint thread=False) -> None:
        """What a coordinator leaves that dies with this question in its loop's or its thread's hand."""
        cdef fd_question_in_hand_t *hand = &self.post.thread_in_hand if thread else &self.post.in_hand
        hand_take(hand, key_hash, &qname[0], <uint32_t>qname.shape[0])

    @property
    def starts(self) -> int:
        return fd_load32(&self.post.starts)

    @starts.setter
    def starts(self, uint32_t value) -> None:
        fd_store32(&self.post.starts, value)

    @property
    def stop(self) -> int:
        return fd_load32(&self.post.stop)

    @stop.setter
    def stop(self, uint32_t value) -> None:
        fd_store32(&self.post.stop, value)
