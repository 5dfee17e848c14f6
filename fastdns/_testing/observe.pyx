# SPDX-License-Identifier: Apache-2.0
"""For tests of control's metrics and log lines: figures and records as workers and the coordinator write them."""

import socket

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._ring cimport ring_commit, ring_open, ring_reserve, ring_t
from fastdns._segments cimport log_check, map_segment, post_check, region_check
from fastdns._shm cimport (
    FD_RECORD_LOG_ERROR,
    FD_RECORD_LOG_QUERY,
    fd_at,
    fd_block_series_t,
    fd_log_error_t,
    fd_log_query_t,
    fd_log_t,
    fd_post_t,
    fd_record_t,
    fd_region_t,
    fd_series_t,
    fd_upstream_series_t,
    sockaddr_in,
    sockaddr_in6,
)

cdef extern from "<sys/mman.h>" nogil:
    int munmap(void *addr, size_t length)

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t value)


cdef class Segment:
    """A segment mapped for writing. fd stays the caller's."""

    cdef void *base
    cdef uint64_t size

    def __cinit__(self, int fd):
        self.base = map_segment(fd, True, &self.size)
        if self.base == NULL:
            raise OSError(errno, "mmap")

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)


cdef void put_address(sockaddr_in6 *out, str host, int port) except *:
    cdef bytes packed
    memset(out, 0, sizeof(sockaddr_in6))
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        out.sin6_family = <uint16_t>socket.AF_INET6
        out.sin6_port = htons(port)
        memcpy(&out.sin6_addr, <const uint8_t *>packed, 16)
    else:
        packed = socket.inet_pton(socket.AF_INET, host)
        (<sockaddr_in *>out).sin_family = <uint16_t>socket.AF_INET
        (<sockaddr_in *>out).sin_port = htons(port)
        memcpy(&(<sockaddr_in *>out).sin_addr, <const uint8_t *>packed, 4)


cdef class Region(Segment):
    """A worker's."""

    cdef fd_region_t *region

    def __init__(self, int fd):
        self.region = region_check(self.base, self.size)
        if self.region == NULL:
            raise ValueError("not a region")

    def series(self, int number, str field, int row=0, int column=0, uint64_t n=1):
        """Add to a field of fd_series_t; column: the innermost index."""
        cdef fd_series_t *series = <fd_series_t *>fd_at(self.region, self.region.series.off) + number
        if field == "requests":
            series.requests[row][column] += n
        elif field == "responses":
            series.responses[row][column] += n
        elif field == "request_sizes":
            series.request_sizes[row][column] += n
        elif field == "request_octets":
            series.request_octets[column] += n
        elif field == "response_sizes":
            series.response_sizes[row][column] += n
        elif field == "response_octets":
            series.response_octets[column] += n
        elif field == "times":
            series.times[column] += n
        elif field == "times_us":
            series.times_us += n
        elif field == "do_requests":
            series.do_requests += n
        elif field == "cache_hits":
            series.cache_hits[column] += n
        elif field == "cache_misses":
            series.cache_misses += n
        elif field == "served_stale":
            series.served_stale += n
        elif field == "dns64_translated":
            series.dns64_translated += n
        else:
            raise ValueError(field)

    def wait(self, bint hit, int bucket, uint64_t us):
        """Count one wait."""
        if hit:
            self.region.waits.hits[bucket] += 1
            self.region.waits.hits_us += us
        else:
            self.region.waits.misses[bucket] += 1
            self.region.waits.misses_us += us

    def beat(self):
        """Move the heartbeat, serving."""
        self.region.heartbeat += 1
        self.region.serving = 1

    def start(self):
        """As the keeper does when it starts the worker."""
        self.region.starts += 1
        self.region.serving = 0

    def count(self, int counter, uint64_t n=1):
        """Add to a counter, by its number."""
        self.region.counters[counter] += n


cdef class Post(Segment):
    """The coordinator's."""

    cdef fd_post_t *post

    def __init__(self, int fd):
        self.post = post_check(self.base, self.size)
        if self.post == NULL:
            raise ValueError("not a post")

    def upstream(self, int number, int rcode=0, int bucket=0, uint64_t us=0, int reused=-1, int dialed=-1,
                 uint64_t health_failures=0):
        """Count an exchange, on a socket that was there or on a new one (0: UDP, 1: TCP)."""
        cdef fd_upstream_series_t *series = &self.post.upstream_series[number]
        series.times[rcode][bucket] += 1
        series.times_us[rcode] += us
        series.health_failures += health_failures
        if reused >= 0:
            series.reused[reused] += 1
        if dialed >= 0:
            series.dialed[dialed] += 1

    def block(self, int number, str field, int column=0, uint64_t n=1):
        """Add to a field of fd_block_series_t."""
        cdef fd_block_series_t *series = &self.post.block_series[number]
        if field == "entries":
            series.entries[column] += n
        elif field == "evictions":
            series.evictions[column] += n
        elif field == "prefetches":
            series.prefetches += n
        elif field == "drops":
            series.drops += n
        elif field == "template_matches":
            series.template_matches += n
        else:
            raise ValueError(field)


cdef class Log(Segment):
    """A log ring, by its producer's side."""

    cdef ring_t ring
    cdef fd_log_t *log

    def __init__(self, int fd):
        self.log = log_check(self.base, self.size)
        if self.log == NULL:
            raise ValueError("not a log")
        ring_open(&self.ring, &self.log.ring, <uint8_t *>self.base + sizeof(fd_log_t), self.log.octets)

    def query(self, bytes qname, *, str peer="10.42.0.5", int port=39335, uint16_t zone=0, uint16_t id=65392,
              uint16_t query_flags=0x0100, uint16_t reply_flags=0x8580, uint16_t rcode=0, uint16_t qtype=1,
              uint16_t qclass=1, uint16_t request_size=29, uint16_t reply_size=1649, uint16_t udp_size=512,
              uint8_t listener=0, bint tcp=False, uint8_t edns=0, uint8_t entry_kind=1,
              uint32_t duration_us=2534, uint64_t time_ms=0, local=None):
        """Put a query's record. Returns False where the ring is full."""
        cdef fd_log_query_t *record
        cdef bytes packed
        record = <fd_log_query_t *>ring_reserve(&self.ring, <uint32_t>(sizeof(fd_log_query_t) + len(qname)))
        if record == NULL:
            return False
        memset(<char *>record + sizeof(fd_record_t), 0, sizeof(fd_log_query_t) - sizeof(fd_record_t))
        record.record.kind = FD_RECORD_LOG_QUERY
        record.time_ms = time_ms
        record.duration_us = duration_us
        record.zone = zone
        record.id = id
        put_address(&record.peer, peer, port)
        if local is not None:
            packed = socket.inet_pton(socket.AF_INET6 if ":" in local else socket.AF_INET, local)
            memcpy(record.local.address, <const uint8_t *>packed, len(packed))
        record.query_flags = query_flags
        record.reply_flags = reply_flags
        record.rcode = rcode
        record.qtype = qtype
        record.qclass = qclass
        record.request_size = request_size
        record.reply_size = reply_size
        record.udp_size = udp_size
        record.listener = listener
        record.tcp = tcp
        record.edns = edns
        record.entry_kind = entry_kind
        record.qname_len = <uint8_t>len(qname)
        memcpy(<char *>record + sizeof(fd_log_query_t), <const uint8_t *>qname, len(qname))
        ring_commit(&self.ring)
        return True

    def error(self, bytes qname, int kind, *, uint16_t zone=0, uint16_t rcode=2, uint16_t qtype=1,
              uint16_t upstream=0xffff, uint16_t error=0, bint tcp=False, bytes text=b"", uint64_t time_ms=0):
        """Put an error's record. Returns False where the ring is full."""
        cdef fd_log_error_t *record
        cdef uint8_t *rest
        record = <fd_log_error_t *>ring_reserve(
            &self.ring, <uint32_t>(sizeof(fd_log_error_t) + len(qname) + len(text)))
        if record == NULL:
            return False
        memset(<char *>record + sizeof(fd_record_t), 0, sizeof(fd_log_error_t) - sizeof(fd_record_t))
        record.record.kind = FD_RECORD_LOG_ERROR
        record.time_ms = time_ms
        record.zone = zone
        record.rcode = rcode
        record.qtype = qtype
        record.upstream = upstream
        record.error = error
        record.text_len = <uint16_t>len(text)
        record.kind = <uint8_t>kind
        record.tcp = tcp
        record.qname_len = <uint8_t>len(qname)
        rest = <uint8_t *>record + sizeof(fd_log_error_t)
        memcpy(rest, <const uint8_t *>qname, len(qname))
        memcpy(rest + len(qname), <const uint8_t *>text, len(text))
        ring_commit(&self.ring)
        return True

    def raw(self, bytes octets, int kind):
        """Put a record with this content behind its header."""
        cdef fd_record_t *record = <fd_record_t *>ring_reserve(
            &self.ring, <uint32_t>(sizeof(fd_record_t) + len(octets)))
        if record == NULL:
            return False
        record.kind = <uint8_t>kind
        memcpy(<char *>record + sizeof(fd_record_t), <const uint8_t *>octets, len(octets))
        ring_commit(&self.ring)
        return True
