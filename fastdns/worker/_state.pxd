# SPDX-License-Identifier: Apache-2.0
# _state.pxd: what a worker owns, shared by its loop, UDP, TCP and pending table.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport cache_t
from fastdns._log cimport log_t
from fastdns._ring cimport ring_t
from fastdns._shm cimport fd_batch_t, fd_config_t, fd_region_t, fd_series_t, fd_zone_t

cdef struct tcp_t                # worker/_tcp.pyx
cdef struct pending_table_t      # worker/_links.pxd
cdef struct udp_t                # worker/_udp.pyx
cdef struct late_t               # worker/_send.pyx

cdef enum:                       # epoll data: kind << 32 | index
    EVENT_WAKE = 0
    EVENT_UDP = 1                # index: listener
    EVENT_TCP_LISTENER = 2       # index: listener
    EVENT_TCP_CONNECTION = 3     # index: connection

cdef enum:
    TCP_REPLY_ROOM = 65535 + 2 + 7   # a message and its length prefix; RFC 1035 s4.2.2

cdef enum:
    TALLY = 64                   # series that a batch may touch before they are timed

# Hits since `began_us` whose time is not counted yet: how many, and of which series.
ctypedef struct tally_t:
    uint64_t began_us
    uint32_t hits
    uint32_t used
    fd_series_t *series[64]      # TALLY
    uint32_t counts[64]

ctypedef struct worker_t:
    fd_region_t *region
    const fd_config_t *config
    fd_batch_t *batch            # in the region
    uint64_t *counters           # in the region
    uint16_t *hits               # in the region: one figure a cache slot
    cache_t cache
    ring_t questions
    ring_t answers
    log_t log
    const fd_zone_t *zones       # the configuration's, by number
    const uint16_t *series_rows  # of listeners: the series of each zone; the last is for what none took
    fd_series_t *series          # in the region
    uint32_t zone_count
    uint32_t series_width        # of a row
    uint32_t series_count
    tally_t tally
    uint64_t spun                # the last random number; they choose where rotated answers begin
    uint64_t now_us              # CLOCK_BOOTTIME, read once a round of the loop and once a batch
    uint64_t now_ms
    uint32_t index
    uint32_t refused             # packets and keys that two workers died on
    int epoll
    int wake
    int wake_coordinator
    int udp_fds[32]              # by the listener's slot; -1: an empty one
    int tcp_fds[32]
    uint8_t *scratch             # FD_ENTRY_MAX octets, 8-aligned: the cache entry being looked at
    uint8_t *reply               # TCP_REPLY_ROOM octets: the TCP reply being written
    pending_table_t *pending
    udp_t *udp
    late_t *late
    tcp_t *tcp

# Where a query came from, for the reply that comes later. A client place is made from it only
# when the question has to wait.
ctypedef struct origin_t:
    uint32_t state               # FD_CLIENT_UDP or FD_CLIENT_TCP
    uint8_t listener
    uint16_t request_size        # octets of the query
    uint16_t connection          # TCP: index and use count of the connection
    uint32_t connection_use
    const void *peer             # UDP: sockaddr_in or sockaddr_in6
    const void *control          # UDP on a wildcard listener: the ancillary data received
    uint32_t control_len
