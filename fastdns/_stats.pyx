# SPDX-License-Identifier: Apache-2.0
"""The shared segments as Python reads them: control, ``fastdns stats``, tests. SHM_LAYOUT

Each function maps the segment behind a descriptor for reading, copies what it has to say, and
unmaps it. Words are read one by one while others write them: related numbers may be a moment apart.
"""

import socket

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdns._segments cimport config_check, log_check, map_segment, post_check, region_check
from fastdns._shm cimport (
    FD_BUCKET_SLOTS,
    FD_CHILD_NONE,
    FD_CHILD_RUNNING,
    FD_CHILD_STOPPED,
    FD_CHILD_WAITING,
    FD_FINE_BUCKETS,
    FD_LAYOUT_VERSION,
    FD_MAGIC_BOARD,
    FD_MAGIC_CACHE,
    FD_MAGIC_LEDGER,
    FD_MAX_BLOCKS,
    FD_MAX_UPSTREAMS,
    FD_MAX_WORKERS,
    FD_PLUGINS,
    FD_RCODES,
    FD_ROLE_CONTROL,
    FD_ROLE_COORDINATOR,
    FD_ROLE_WORKER,
    FD_SIZE_BUCKETS,
    FD_SUSPECTS,
    FD_TIME_BUCKETS,
    FD_TYPES,
    FD_UPSTREAM_RCODES,
    fd_acquire32,
    fd_at,
    fd_block,
    fd_block_series_t,
    fd_board_t,
    fd_cache_header_t,
    fd_child_t,
    fd_config_t,
    fd_ledger_t,
    fd_load32,
    fd_load64,
    fd_log_t,
    fd_post_t,
    fd_region_t,
    fd_ring_t,
    fd_series_t,
    fd_store64,
    fd_suspect_t,
    fd_upstream_series_t,
    sockaddr_in,
    sockaddr_in6,
)

from fastdns.errors import SegmentError

cdef extern from *:
    """
    #include "_counters.h"
    static const char *const fd_counter_names[] = {
    #define FD_X(name, help) #name,
    FD_COUNTER_LIST(FD_X)
    #undef FD_X
    };
    static const char *const fd_counter_helps[] = {
    #define FD_X(name, help) help,
    FD_COUNTER_LIST(FD_X)
    #undef FD_X
    };
    """
    const char *fd_counter_names[]
    const char *fd_counter_helps[]

cdef extern from "<sys/mman.h>" nogil:
    int munmap(void *addr, size_t length)

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t ntohs(uint16_t value)

COUNTERS = tuple(fd_counter_names[i].decode() for i in range(FD_COUNTERS))
COUNTER_HELP = {fd_counter_names[i].decode(): fd_counter_helps[i].decode() for i in range(FD_COUNTERS)}

ROLES = {FD_ROLE_CONTROL: "control", FD_ROLE_COORDINATOR: "coordinator", FD_ROLE_WORKER: "worker"}
STATES = {
    FD_CHILD_NONE: "none",
    FD_CHILD_RUNNING: "running",
    FD_CHILD_WAITING: "waiting",
    FD_CHILD_STOPPED: "stopped",
}


# fd_ledger_t's words from health_times on.
LEDGER = (
    *(f"health_times_{i}" for i in range(6)),
    "health_us", "health_failures",
    "setup_errors_iptables", "setup_errors_iptables_lock", "setup_errors_interface_add",
    "setup_errors_interface_check", "setup_errors_configmap",
    "reloads", "reload_failures", "lines_dropped", "scrapes", "scrapes_failed",
)


cdef class _Reader:
    """A segment mapped for reading, unmapped when this goes."""

    cdef void *base
    cdef uint64_t size

    def __cinit__(self, int fd, str name):
        self.base = map_segment(fd, False, &self.size)
        if self.base == NULL:
            raise SegmentError(f"{name}: descriptor {fd} can't be mapped, or is empty")

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)


cdef dict counters_of(const uint64_t *block):
    return {COUNTERS[i]: fd_load64(&block[i]) for i in range(FD_COUNTERS)}


cdef list suspects_of(const fd_suspect_t *table):
    return [
        {"hash": fd_load64(&table[i].hash), "deaths": fd_load32(&table[i].deaths),
         "until_ms": fd_load64(&table[i].until_ms)}
        for i in range(FD_SUSPECTS)
        if fd_load64(&table[i].hash) != 0
    ]


cdef dict child_of(const fd_child_t *child):
    return {
        "role": ROLES.get(child.role, "?"),
        "index": child.index,
        "pid": fd_load32(&child.pid),
        "state": STATES.get(fd_load32(&child.state), "?"),
        "restarts": fd_load32(&child.restarts),
        "stuck": fd_load32(&child.stuck),
        "started_ms": fd_load64(&child.started_ms),
        "died_ms": fd_load64(&child.died_ms),
        "last_status": <int>fd_load32(&child.last_status),
    }


cdef list words_of(const uint64_t *words, int count):
    return [fd_load64(&words[i]) for i in range(count)]


cdef uint32_t ring_used(const fd_ring_t *ring, uint32_t size):
    # Octets that wait. Head first: what is taken meanwhile must not make the difference negative.
    cdef uint32_t head = fd_acquire32(&ring.head)
    cdef uint32_t used = head - fd_load32(&ring.tail)
    return used if used <= size else 0


def read_board(int fd) -> dict[str, object]:
    """The keeper's notes. Raises SegmentError."""
    cdef _Reader reader = _Reader(fd, "board")
    cdef const fd_board_t *board = <const fd_board_t *>reader.base
    cdef uint32_t i, count
    if reader.size < sizeof(fd_board_t) or board.magic != FD_MAGIC_BOARD:
        raise SegmentError("board: not a board")
    if board.layout_version != FD_LAYOUT_VERSION:
        raise SegmentError(f"board: layout {board.layout_version}, this program reads {FD_LAYOUT_VERSION}")
    count = min(board.child_count, <uint32_t>FD_MAX_WORKERS + 2)
    return {
        "pid": board.keeper_pid,
        "workers": board.worker_count,
        "started_ms": board.started_ms,
        "ticks": fd_load64(&board.ticks),
        "late_ticks": fd_load64(&board.late_ticks),
        "addresses": fd_load32(&board.addresses),
        "addresses_away": fd_load32(&board.addresses_away),
        "address_trips": fd_load32(&board.address_trips),
        "address_returns": fd_load32(&board.address_returns),
        "children": [child_of(&board.children[i]) for i in range(count)],
    }


def read_region(int fd) -> dict[str, object]:
    """A worker's figures. Raises SegmentError."""
    cdef _Reader reader = _Reader(fd, "region")
    cdef const fd_region_t *region = region_check(reader.base, reader.size)
    if region == NULL:
        raise SegmentError("region: not a region of this layout")
    return {
        "index": region.index,
        "pid": fd_load32(&region.pid),
        "starts": fd_load32(&region.starts),
        "serving": fd_load32(&region.serving),
        "heartbeat": fd_load64(&region.heartbeat),
        "pending": fd_load32(&region.pending_used),
        "pending_max": region.pending.count,
        "clients": fd_load32(&region.clients_used),
        "clients_max": region.clients.count,
        "tcp_connections": fd_load32(&region.tcp_connections),
        "tcp_blocks": fd_load32(&region.tcp_blocks),
        "questions_used": ring_used(&region.question_ring, region.questions.count),
        "questions_max": region.questions.count,
        "answers_used": ring_used(&region.answer_ring, region.answers.count),
        "answers_max": region.answers.count,
        "wait_hits": words_of(region.waits.hits, FD_FINE_BUCKETS),
        "wait_hits_us": fd_load64(&region.waits.hits_us),
        "wait_misses": words_of(region.waits.misses, FD_FINE_BUCKETS),
        "wait_misses_us": fd_load64(&region.waits.misses_us),
        "in_hand": fd_load64(&region.in_hand.hash),
        "suspects": suspects_of(region.suspects),
        "counters": counters_of(region.counters),
    }


def read_post(int fd) -> dict[str, object]:
    """The coordinator's figures. Raises SegmentError."""
    cdef _Reader reader = _Reader(fd, "post")
    cdef const fd_post_t *post = post_check(reader.base, reader.size)
    if post == NULL:
        raise SegmentError("post: not a coordinator's segment of this layout")
    return {
        "pid": fd_load32(&post.pid),
        "starts": fd_load32(&post.starts),
        "serving": fd_load32(&post.serving),
        "heartbeat": fd_load64(&post.heartbeat),
        "generation": fd_load64(&post.generation),
        "inflight": fd_load32(&post.inflight_used),
        "entries": fd_load64(&post.entries),
        "entry_octets": fd_load64(&post.entry_octets),
        "swept": fd_load32(&post.swept),
        "upstream_wait_ms": [post.upstream_wait_ms[i] for i in range(FD_MAX_UPSTREAMS)],
        "in_hand": fd_load64(&post.in_hand.hash),
        "thread_in_hand": fd_load64(&post.thread_in_hand.hash),
        "suspects": suspects_of(post.suspects),
        "counters": counters_of(post.counters),
    }


cdef dict series_of(const fd_series_t *series):
    return {
        "requests": [words_of(series.requests[i], FD_TYPES) for i in range(2)],
        "responses": [words_of(series.responses[i], FD_RCODES) for i in range(FD_PLUGINS)],
        "request_sizes": [words_of(series.request_sizes[i], FD_SIZE_BUCKETS) for i in range(2)],
        "request_octets": words_of(series.request_octets, 2),
        "response_sizes": [words_of(series.response_sizes[i], FD_SIZE_BUCKETS) for i in range(2)],
        "response_octets": words_of(series.response_octets, 2),
        "times": words_of(series.times, FD_TIME_BUCKETS),
        "times_us": fd_load64(&series.times_us),
        "do_requests": fd_load64(&series.do_requests),
        "cache_hits": words_of(series.cache_hits, 2),
        "cache_misses": fd_load64(&series.cache_misses),
        "served_stale": fd_load64(&series.served_stale),
        "dns64_translated": fd_load64(&series.dns64_translated),
    }


cdef bint untouched(const void *words, size_t octets):
    cdef const uint64_t *word = <const uint64_t *>words
    cdef size_t i
    for i in range(octets // 8):
        if fd_load64(&word[i]) != 0:
            return False
    return True


def read_series(int fd) -> dict[int, dict[str, object]]:
    """What a worker counted under CoreDNS's labels, by the series' number; without what never moved.

    Raises SegmentError.
    """
    cdef _Reader reader = _Reader(fd, "region")
    cdef const fd_region_t *region = region_check(reader.base, reader.size)
    cdef const fd_series_t *series
    cdef uint32_t i
    if region == NULL:
        raise SegmentError("region: not a region of this layout")
    if region.series.off + <uint64_t>region.series.count * sizeof(fd_series_t) > reader.size:
        raise SegmentError("region: its series lie outside")
    series = <const fd_series_t *>fd_at(region, region.series.off)
    return {
        i: series_of(&series[i])
        for i in range(region.series.count)
        if not untouched(&series[i], sizeof(fd_series_t))
    }


cdef dict upstream_series_of(const fd_upstream_series_t *series):
    return {
        "times": [words_of(series.times[i], FD_TIME_BUCKETS) for i in range(FD_UPSTREAM_RCODES)],
        "times_us": words_of(series.times_us, FD_UPSTREAM_RCODES),
        "health_failures": fd_load64(&series.health_failures),
        "reused": words_of(series.reused, 2),
        "dialed": words_of(series.dialed, 2),
    }


cdef dict block_series_of(const fd_block_series_t *series):
    return {
        "entries": words_of(series.entries, 2),
        "evictions": words_of(series.evictions, 2),
        "prefetches": fd_load64(&series.prefetches),
        "drops": fd_load64(&series.drops),
        "template_matches": fd_load64(&series.template_matches),
    }


def read_post_series(int fd) -> tuple[dict[int, dict[str, object]], dict[int, dict[str, object]]]:
    """What the coordinator counted for each upstream and for each block, by number; without what never moved.

    Raises SegmentError.
    """
    cdef _Reader reader = _Reader(fd, "post")
    cdef const fd_post_t *post = post_check(reader.base, reader.size)
    if post == NULL:
        raise SegmentError("post: not a coordinator's segment of this layout")
    return (
        {
            i: upstream_series_of(&post.upstream_series[i])
            for i in range(FD_MAX_UPSTREAMS)
            if not untouched(&post.upstream_series[i], sizeof(fd_upstream_series_t))
        },
        {
            i: block_series_of(&post.block_series[i])
            for i in range(FD_MAX_BLOCKS)
            if not untouched(&post.block_series[i], sizeof(fd_block_series_t))
        },
    )


def read_log(int fd) -> dict[str, int]:
    """The state of a log ring, in octets, and how many records found it full. Raises SegmentError."""
    cdef _Reader reader = _Reader(fd, "log")
    cdef const fd_log_t *log = log_check(reader.base, reader.size)
    if log == NULL:
        raise SegmentError("log: not a log of this layout")
    return {
        "octets": log.octets,
        "used": ring_used(&log.ring, log.octets),
        "dropped": fd_load32(&log.ring.marked),
    }


def read_cache(int fd) -> dict[str, object]:
    """The cache's shape. Raises SegmentError."""
    cdef _Reader reader = _Reader(fd, "cache")
    cdef const fd_cache_header_t *header = <const fd_cache_header_t *>reader.base
    if reader.size < sizeof(fd_cache_header_t) or header.magic != FD_MAGIC_CACHE:
        raise SegmentError("cache: not a cache")
    if header.layout_version != FD_LAYOUT_VERSION:
        raise SegmentError(f"cache: layout {header.layout_version}, this program reads {FD_LAYOUT_VERSION}")
    return {
        "size": header.total_size,
        "shards": header.shard_count,
        "slots": header.shard_count * header.bucket_count * FD_BUCKET_SLOTS,
        "generation": fd_load64(&header.generation),
    }


cdef tuple address_of(const sockaddr_in6 *address):
    cdef const sockaddr_in *inet = <const sockaddr_in *>address
    cdef uint8_t octets[16]
    if address.sin6_family == <uint16_t>socket.AF_INET:
        memcpy(octets, &inet.sin_addr, 4)
        return socket.inet_ntop(socket.AF_INET, octets[:4]), ntohs(inet.sin_port), 0
    memcpy(octets, &address.sin6_addr, 16)
    return socket.inet_ntop(socket.AF_INET6, octets[:16]), ntohs(address.sin6_port), address.sin6_scope_id


def read_config(int fd) -> dict[str, object]:
    """What the data plane was told: addresses as (host, port, scope). Raises SegmentError."""
    cdef _Reader reader = _Reader(fd, "config")
    cdef const fd_config_t *config = config_check(reader.base, reader.size)
    cdef uint32_t i
    if config == NULL:
        raise SegmentError("config: not a configuration of this layout")
    return {
        "number": config.number,
        "workers": config.worker_count,
        "listeners": [address_of(&config.listeners[i].address) for i in range(config.listener_count)],
        "upstreams": [
            (*address_of(&config.upstreams[i].address), bool(config.upstreams[i].force_tcp))
            for i in range(config.upstream_count)
        ],
        "tcp_connections": config.tcp_connections,
        "edns_max": config.edns_max,
        "worker_uid": config.worker_uid,
        "coordinator_uid": config.coordinator_uid,
        "gid": config.drop_gid,
        "fingerprints": [fd_block(config, i).fingerprint for i in range(config.blocks.count)],
    }


def read_notes(int fd) -> bytes:
    """What control wrote into a configuration for its successor. Raises SegmentError."""
    cdef _Reader reader = _Reader(fd, "config")
    cdef const fd_config_t *config = config_check(reader.base, reader.size)
    if config == NULL:
        raise SegmentError("config: not a configuration of this layout")
    return (<const char *>fd_at(config, config.notes.off))[:config.notes.count]


cdef class Ledger:
    """What control counts, in memory that outlives it. One process writes at a time."""

    cdef void *base
    cdef uint64_t size
    cdef uint64_t *words

    def __cinit__(self, int fd):
        """fd: stays the caller's. Raises SegmentError."""
        cdef const fd_ledger_t *ledger
        self.base = map_segment(fd, True, &self.size)
        if self.base == NULL:
            raise SegmentError(f"ledger: descriptor {fd} can't be mapped, or is empty")
        ledger = <const fd_ledger_t *>self.base
        if self.size < sizeof(fd_ledger_t) or ledger.magic != FD_MAGIC_LEDGER:
            raise SegmentError("ledger: not a ledger")
        if ledger.layout_version != FD_LAYOUT_VERSION or ledger.total_size != self.size:
            raise SegmentError("ledger: of another layout")
        self.words = <uint64_t *>ledger.health_times

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)

    def add(self, str name, uint64_t n=1):
        """Count ``name``, one of LEDGER, ``n`` times. Raises ValueError for another name."""
        cdef uint64_t *word = &self.words[<int>LEDGER.index(name)]
        fd_store64(word, fd_load64(word) + n)

    def read(self):
        """All of it, by name."""
        return {name: fd_load64(&self.words[i]) for i, name in enumerate(LEDGER)}
