# SPDX-License-Identifier: Apache-2.0
"""A worker's way from a packet to its reply, without sockets, for micro-benches."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastdns._cache cimport OPEN_OK, cache_open, cache_prefetch, cache_prefetch_entry
from fastdns._log cimport log_open
from fastdns._proto cimport HEADER_LEN
from fastdns._ring cimport ring_open
from fastdns._segments cimport boottime_us, config_check, map_segment, region_check
from fastdns._shm cimport (
    FD_BATCH,
    FD_CLIENT_UDP,
    FD_ENTRY_MAX,
    FD_RX_STRIDE,
    fd_at,
    fd_query_t,
    fd_series_t,
    fd_zone_t,
    sockaddr_in,
    sockaddr_in6,
)
from fastdns._sys cimport AF_INET
from fastdns._wire cimport PARSE_OK, parse_query
from fastdns.worker._count cimport count_settle
from fastdns.worker._links cimport links_open
from fastdns.worker._serve cimport admit_query, serve_query
from fastdns.worker._state cimport origin_t, worker_t

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    enum:
        CLOCK_MONOTONIC


cdef uint64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec


cdef class Serving:
    """A worker of these segments (descriptors) that serves its first listener."""

    cdef worker_t w
    cdef fd_query_t queries[64]
    cdef uint8_t *buffers
    cdef sockaddr_in6 peer

    def __cinit__(self):
        memset(&self.w, 0, sizeof(worker_t))
        self.buffers = <uint8_t *>malloc(FD_BATCH * FD_RX_STRIDE)
        self.w.scratch = <uint8_t *>malloc(FD_ENTRY_MAX)

    def __dealloc__(self):
        free(self.buffers)
        free(self.w.scratch)

    def __init__(self, int config, int region, int cache, int log):
        cdef worker_t *w = &self.w
        cdef uint64_t size = 0
        cdef void *base = map_segment(config, False, &size)
        w.config = config_check(base, size)
        base = map_segment(region, True, &size)
        w.region = region_check(base, size)
        base = map_segment(log, True, &size)
        if w.config == NULL or w.region == NULL or not log_open(&w.log, base, size):
            raise RuntimeError("not a worker's segments")
        base = map_segment(cache, False, &size)
        if cache_open(&w.cache, base, size) != OPEN_OK:
            raise RuntimeError("not a cache")
        w.counters = w.region.counters
        w.hits = <uint16_t *>fd_at(w.region, w.region.hits.off)
        w.zones = <const fd_zone_t *>fd_at(w.config, w.config.zones.off)
        w.zone_count = w.config.zones.count
        w.series_rows = <const uint16_t *>fd_at(w.config, w.config.series.off)
        w.series_width = w.config.zones.count + 1
        w.series = <fd_series_t *>fd_at(w.region, w.region.series.off)
        w.series_count = w.region.series.count
        w.spun = 1
        ring_open(&w.questions, &w.region.question_ring, <uint8_t *>fd_at(w.region, w.region.questions.off),
                  w.region.questions.count)
        w.pending = links_open(w)
        memset(&self.peer, 0, sizeof(self.peer))
        (<sockaddr_in *>&self.peer).sin_family = AF_INET

    def hits(self, list packets, uint32_t rounds, uint32_t limit=1232):
        """Serve a batch of up to 64 packets so often. Returns ns for one, and octets of all replies."""
        cdef worker_t *w = &self.w
        cdef const uint8_t *octets[64]
        cdef uint32_t lengths[64]
        cdef uint32_t n = len(packets)
        cdef uint32_t i, _turn
        cdef uint64_t begun, replied = 0
        cdef uint8_t *out
        cdef origin_t origin
        assert 0 < n <= FD_BATCH
        for i in range(n):
            octets[i] = packets[i]
            lengths[i] = len(packets[i])
        memset(&origin, 0, sizeof(origin))
        origin.state = FD_CLIENT_UDP
        origin.peer = &self.peer
        w.now_us = w.tally.began_us = boottime_us()
        w.now_ms = w.now_us // 1000
        with nogil:
            begun = clock_ns()
            for _turn in range(rounds):
                for i in range(n):
                    out = self.buffers + i * <uint32_t>FD_RX_STRIDE
                    memcpy(out, octets[i], lengths[i])
                    if parse_query(out, lengths[i], w.cache.hash_key, 0, 0, &self.queries[i]) == PARSE_OK:
                        admit_query(w, out + HEADER_LEN, 0, &self.queries[i])
                    cache_prefetch(&w.cache, self.queries[i].key_hash)
                for i in range(n):
                    cache_prefetch_entry(&w.cache, self.queries[i].key_hash)
                for i in range(n):
                    out = self.buffers + i * <uint32_t>FD_RX_STRIDE
                    origin.request_size = <uint16_t>lengths[i]
                    replied += serve_query(w, &self.queries[i], out + HEADER_LEN, &origin, out, limit)
                count_settle(w)
            begun = clock_ns() - begun
        return <double>begun / (<double>rounds * n), replied
