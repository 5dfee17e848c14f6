# SPDX-License-Identifier: Apache-2.0
"""What the coordinator tells control: lines of `errors`, and the series behind CoreDNS's metrics."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._log cimport log_commit, log_reserve
from fastdns._proto cimport BADVERS, REFUSED, SERVFAIL
from fastdns._shm cimport (
    FD_BLOCK_ERRORS,
    FD_ERROR_CONCURRENT,
    FD_ERROR_LOOP,
    FD_ERROR_REFUSED,
    FD_ERROR_TIMEOUT,
    FD_RECORD_LOG_ERROR,
    FD_TIME_BUCKETS,
    fd_log_error_t,
    fd_store64,
    fd_upstream_series_t,
    fd_upstream_t,
    sockaddr_in6,
)
from fastdns._stats cimport bump
from fastdns.coordinator._inflight cimport flight_qname
from fastdns.coordinator._state cimport FLIGHT_TCP, coordinator_t, flight_t, question_t, upstream_t

cdef extern from *:
    """
    /* 250 us * 2^k: the bucket of a time, as CoreDNS's histograms have it (bounds included). */
    static inline unsigned fd_time_bucket(unsigned us)
    {
        unsigned quarters = us ? (us - 1) / 250 : 0;
        return quarters ? 32 - (unsigned)__builtin_clz(quarters) : 0;
    }
    """
    uint32_t fd_time_bucket(uint32_t us) noexcept nogil

cdef enum:
    NO_UPSTREAM = 0xffff


cdef fd_log_error_t *line_of(coordinator_t *c, const question_t *question, const uint8_t *qname,
                             uint32_t zone, uint8_t kind, uint32_t text_len=0) noexcept nogil:
    # A line with nothing about an upstream yet, or NULL: the ring is full. Then its text, and log_commit.
    cdef fd_log_error_t *line = <fd_log_error_t *>log_reserve(
        &c.log, <uint32_t>sizeof(fd_log_error_t) + question.qname_len + text_len, FD_RECORD_LOG_ERROR,
        c.counters)
    if line == NULL:
        return NULL
    line.time_ms = c.now_ms
    line.zone = <uint16_t>zone
    line.rcode = SERVFAIL
    line.qtype = question.qtype
    line.upstream = NO_UPSTREAM
    line.error = 0
    line.text_len = <uint16_t>text_len
    line.kind = kind
    line.tcp = 0
    line.qname_len = question.qname_len
    memcpy(<uint8_t *>line + sizeof(fd_log_error_t), qname, question.qname_len)
    return line


cdef void report_failure(coordinator_t *c, const flight_t *flight, uint8_t kind) noexcept nogil:
    cdef const upstream_t *upstream = &c.upstreams[flight.upstream]
    cdef fd_log_error_t *line
    if not flight.block.flags & FD_BLOCK_ERRORS:
        return
    line = line_of(c, &flight.question, flight_qname(c, flight), flight.zone, kind)
    if line == NULL:
        return
    if kind == FD_ERROR_TIMEOUT or kind == FD_ERROR_REFUSED:
        line.upstream = flight.upstream
        line.tcp = 1 if flight.state & FLIGHT_TCP or upstream.config.force_tcp else 0
        line.error = <uint16_t>upstream.error if kind == FD_ERROR_REFUSED else 0
    log_commit(&c.log)


cdef void report_concurrent(coordinator_t *c, const flight_t *flight) noexcept nogil:
    cdef uint8_t[10] digits      # of 2^32
    cdef uint32_t at = sizeof(digits)
    cdef uint32_t left = flight.forward.max_concurrent
    cdef fd_log_error_t *line
    if not flight.block.flags & FD_BLOCK_ERRORS:
        return
    while left:
        at -= 1
        digits[at] = <uint8_t>(0x30 + left % 10)
        left //= 10
    line = line_of(c, &flight.question, flight_qname(c, flight), flight.zone, FD_ERROR_CONCURRENT,
                   <uint32_t>sizeof(digits) - at)
    if line == NULL:
        return
    line.rcode = REFUSED
    memcpy(<uint8_t *>line + sizeof(fd_log_error_t) + line.qname_len, digits + at, sizeof(digits) - at)
    log_commit(&c.log)


cdef void report_loop(coordinator_t *c, uint32_t upstream, uint32_t zone, const question_t *question,
                      const uint8_t *qname) noexcept nogil:
    cdef fd_log_error_t *line = line_of(c, question, qname, zone, FD_ERROR_LOOP)
    if line == NULL:
        return
    line.upstream = <uint16_t>upstream
    line.tcp = c.upstreams[upstream].config.force_tcp
    log_commit(&c.log)


# --- series ---


cdef inline uint32_t rcode_index(uint16_t rcode) noexcept nogil:
    if rcode <= REFUSED:
        return rcode
    return 6 if rcode == BADVERS else 7


cdef void count_exchange(coordinator_t *c, uint32_t upstream, uint32_t time_us, uint16_t rcode) noexcept nogil:
    cdef fd_upstream_series_t *series = &c.post.upstream_series[upstream]
    cdef uint32_t index = rcode_index(rcode)
    bump(series.times[index], min(fd_time_bucket(time_us), <uint32_t>FD_TIME_BUCKETS - 1), 1)
    bump(series.times_us, index, time_us)


cdef void count_sockets(coordinator_t *c, uint32_t upstream, bint tcp, uint32_t reused,
                        uint32_t dialed) noexcept nogil:
    cdef fd_upstream_series_t *series = &c.post.upstream_series[upstream]
    if series.whose == 0:        # only now: what was never asked has no figures at all
        fd_store64(&series.whose, whose(c.upstreams[upstream].config))
    if reused:
        bump(series.reused, tcp, reused)
    if dialed:
        bump(series.dialed, tcp, dialed)


cdef void count_failed_check(coordinator_t *c, uint32_t upstream) noexcept nogil:
    bump(&c.post.upstream_series[upstream].health_failures, 0, 1)


cdef uint64_t whose(const fd_upstream_t *upstream) noexcept nogil:
    # FNV-1a over what tells one upstream from another: its address, and whether it is asked over TCP.
    cdef const uint8_t *octets = <const uint8_t *>&upstream.address
    cdef uint64_t total = <uint64_t>0xcbf29ce484222325
    cdef uint32_t i
    for i in range(<uint32_t>sizeof(sockaddr_in6)):
        total = (total ^ octets[i]) * <uint64_t>0x100000001b3
    return (total ^ upstream.force_tcp) * <uint64_t>0x100000001b3


cdef void series_open(coordinator_t *c) noexcept nogil:
    cdef fd_upstream_series_t *series
    cdef uint32_t i
    for i in range(c.upstream_count):
        series = &c.post.upstream_series[i]
        if c.config.upstreams[i].address.sin6_family == 0:
            continue             # nobody has the number now: its last figures stay
        if series.whose != 0 and series.whose != whose(&c.config.upstreams[i]):
            memset(series, 0, sizeof(fd_upstream_series_t))
