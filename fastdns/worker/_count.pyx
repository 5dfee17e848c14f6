# SPDX-License-Identifier: Apache-2.0
"""What CoreDNS's metrics say about queries and replies: what isn't inlined into a hit. SHM_LAYOUT

Names and buckets: ``fd_series_t``. Requests are counted when they come, replies and times when they
go. In a zone without `prometheus` only its cache counts.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastdns._segments cimport boottime_us
from fastdns._shm cimport (
    FD_CLIENT_TCP,
    FD_PLUGIN_NONE,
    FD_ZONE_CACHE,
    FD_ZONE_METRICS,
    fd_count,
    fd_entry_t,
    fd_query_t,
    fd_series_t,
    fd_zone_t,
)
from fastdns._stats cimport FD_C_stale_answers, bump
from fastdns.worker._state cimport origin_t, worker_t


cdef void count_time(fd_series_t *series, uint64_t us, uint32_t n) noexcept nogil:
    fd_count(&series.times[fd_time_bucket(us)], n)
    fd_count(&series.times_us, us * n)


cdef void count_settle(worker_t *w) noexcept nogil:
    cdef uint64_t now_us = boottime_us()
    cdef uint64_t us = now_us - w.tally.began_us
    cdef uint32_t i
    for i in range(w.tally.used):
        count_time(w.tally.series[i], us, w.tally.counts[i])
    if w.tally.hits:
        fd_count(&w.region.waits.hits[fd_fine_bucket(us)], w.tally.hits)
        fd_count(&w.region.waits.hits_us, us * w.tally.hits)
    w.tally.used = 0
    w.tally.hits = 0
    w.tally.began_us = now_us
    w.now_us = now_us
    w.now_ms = now_us // 1000


cdef void count_miss(worker_t *w, const fd_zone_t *zone, uint32_t zone_number, const fd_query_t *query,
                     const origin_t *origin) noexcept nogil:
    cdef fd_series_t *series = series_of(w, origin.listener, zone_number)
    if series == NULL:
        return
    if zone.flags & FD_ZONE_CACHE:
        fd_count(&series.cache_misses, 1)
    if zone.flags & FD_ZONE_METRICS:
        count_request(series, query, origin.state == FD_CLIENT_TCP, origin.request_size)


cdef void count_stale(worker_t *w, const fd_zone_t *zone, uint32_t zone_number, uint32_t listener) noexcept nogil:
    cdef fd_series_t *series = series_of(w, listener, zone_number)
    bump(w.counters, FD_C_stale_answers, 1)
    if series != NULL and zone != NULL and zone.flags & FD_ZONE_CACHE:
        fd_count(&series.served_stale, 1)


cdef void count_late(worker_t *w, const fd_zone_t *zone, uint32_t zone_number, uint32_t listener,
                     uint32_t tcp, const fd_entry_t *entry, uint32_t rcode, uint64_t waited_us) noexcept nogil:
    cdef fd_series_t *series = series_of(w, listener, zone_number)
    fd_count(&w.region.waits.misses[fd_fine_bucket(waited_us)], 1)
    fd_count(&w.region.waits.misses_us, waited_us)
    if series != NULL and entry != NULL and entry.marks & FD_ENTRY_TRANSLATED:
        fd_count(&series.dns64_translated, 1)
    if series == NULL or zone == NULL or not zone.flags & FD_ZONE_METRICS:
        return
    if entry == NULL:
        count_response(series, FD_PLUGIN_NONE, rcode, tcp, 0)
    else:
        count_response(series, writer_of(zone, entry), rcode, tcp, entry.plain_len)
    count_time(series, waited_us, 1)


cdef void count_refused(worker_t *w, const fd_query_t *query, const origin_t *origin, uint32_t rcode,
                        uint32_t size) noexcept nogil:
    cdef fd_series_t *series = series_of(w, origin.listener, w.series_width)
    cdef uint32_t tcp = origin.state == FD_CLIENT_TCP
    if series == NULL:
        return
    count_request(series, query, tcp, origin.request_size)
    count_response(series, FD_PLUGIN_NONE, rcode, tcp, size)
    count_time(series, 0, 1)
