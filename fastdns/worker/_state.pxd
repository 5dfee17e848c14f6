# SPDX-License-Identifier: Apache-2.0
# _state.pxd: what a worker owns, shared by its loop, UDP, TCP and pending table.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport cache_t
from fastdns._ring cimport ring_t
from fastdns._shm cimport fd_batch_t, fd_config_t, fd_region_t

cdef struct tcp_t                # worker/_tcp.pyx
cdef struct pending_table_t      # worker/_pending.pyx
cdef struct udp_t                # worker/_udp.pyx

cdef enum:                       # epoll data: kind << 32 | index
    EVENT_WAKE = 0
    EVENT_UDP = 1                # index: listener
    EVENT_TCP_LISTENER = 2       # index: listener
    EVENT_TCP_CONNECTION = 3     # index: connection

cdef enum:
    TCP_REPLY_ROOM = 65535 + 2 + 7   # a message and its length prefix; RFC 1035 s4.2.2

ctypedef struct worker_t:
    fd_region_t *region
    const fd_config_t *config
    fd_batch_t *batch            # in the region
    uint64_t *counters           # in the region
    uint16_t *hits               # in the region: one figure a cache slot
    cache_t cache
    ring_t questions
    ring_t answers
    uint64_t now_ms              # CLOCK_BOOTTIME, read once a round of the loop
    uint32_t index
    int epoll
    int wake
    int wake_coordinator
    int udp_fds[32]
    int tcp_fds[32]
    uint8_t *scratch             # FD_ENTRY_MAX octets, 8-aligned: the cache entry being looked at
    uint8_t *reply               # TCP_REPLY_ROOM octets: the TCP reply being written
    pending_table_t *pending
    udp_t *udp
    tcp_t *tcp
