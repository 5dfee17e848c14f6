# SPDX-License-Identifier: Apache-2.0
# _count.pxd: what CoreDNS's metrics say about queries and replies, counted by index. SHM_LAYOUT
# nogil; a hit costs some additions: no clock, no division, no look at a name. All of it lies in the
# worker's region: a successor goes on.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport answer_view
from fastdns._proto cimport FLAG_RCODE
from fastdns._shm cimport (
    FD_CLIENT_TCP,
    FD_EDNS_DO,
    FD_ENTRY_POSITIVE,
    FD_ENTRY_TRANSLATED,
    FD_NO_ZONE,
    FD_PLUGIN_CACHE,
    FD_PLUGIN_DNS64,
    FD_PLUGIN_LOADBALANCE,
    FD_PLUGIN_NONE,
    FD_PLUGINS,
    FD_RCODES,
    FD_TOLD_MAX,
    FD_TYPES,
    FD_ZONE_CACHE,
    FD_ZONE_CLIENT,
    FD_ZONE_METRICS,
    FD_ZONE_REFUSED,
    FD_ZONE_ROTATE,
    FD_ZONE_USED,
    fd_at,
    fd_block,
    fd_count,
    fd_entry_t,
    fd_part_t,
    fd_query_t,
    fd_series_t,
    fd_told,
    fd_zone_t,
)
from fastdns.worker._state cimport TALLY, origin_t, worker_t

cdef extern from "worker/_buckets.h" nogil:
    uint32_t fd_type_index(uint32_t qtype) noexcept
    uint32_t fd_size_bucket(uint32_t octets) noexcept
    uint32_t fd_time_bucket(uint64_t us) noexcept
    uint32_t fd_fine_bucket(uint64_t us) noexcept

# A number that is never 0, for answers that begin with another record each time.
cdef inline uint32_t next_spin(worker_t *w) noexcept nogil:
    # Knuth's MMIX generator; its upper bits are the good ones. Nobody gains from foreseeing them.
    w.spun = w.spun * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
    return <uint32_t>(w.spun >> 32) | 1

# The zone that an entry was answered under, or NULL where the entry is of no use: its zone is gone,
# has another text, answers nothing or needs the client.
cdef inline const fd_zone_t *zone_of_entry(const worker_t *w, const fd_entry_t *entry) noexcept nogil:
    cdef const fd_zone_t *zone
    if entry.zone >= w.zone_count:
        return NULL
    zone = &w.zones[entry.zone]
    if zone.fingerprint != entry.fingerprint:
        return NULL
    return zone if zone.flags & (FD_ZONE_USED | FD_ZONE_REFUSED | FD_ZONE_CLIENT) == FD_ZONE_USED else NULL

# Find the EDNS option that goes out with an answer: a template's `ederror`.
cdef inline void tell(const worker_t *w, answer_view *view) noexcept nogil:
    cdef const fd_entry_t *entry = view.entry
    cdef const fd_part_t *told
    if (entry.told == 0 or entry.zone >= w.zone_count
            or w.zones[entry.zone].fingerprint != entry.fingerprint):
        return
    told = fd_told(w.config, fd_block(w.config, w.zones[entry.zone].block), entry.told)
    if told != NULL and told.count <= <uint32_t>FD_TOLD_MAX:
        view.told = <const uint8_t *>fd_at(w.config, told.off)
        view.told_len = told.count

# The series of a zone on a listener (any larger number: of what no zone took), or NULL.
cdef inline fd_series_t *series_of(const worker_t *w, uint32_t listener, uint32_t zone) noexcept nogil:
    cdef uint32_t number = w.series_rows[listener * w.series_width + min(zone, w.series_width - 1)]
    return &w.series[number] if number < w.series_count else NULL

cdef inline uint32_t entry_rcode(const fd_entry_t *entry) noexcept nogil:
    return (<uint32_t>entry.ext_rcode << 4) | (entry.msg_flags & FLAG_RCODE)

# CoreDNS's `plugin` label: the outermost that wrote the reply.
cdef inline uint32_t writer_of(const fd_zone_t *zone, const fd_entry_t *entry) noexcept nogil:
    if entry.zone == FD_NO_ZONE:
        return FD_PLUGIN_NONE
    if entry.plugin == FD_PLUGIN_DNS64:
        return FD_PLUGIN_DNS64
    if zone.flags & FD_ZONE_ROTATE:
        return FD_PLUGIN_LOADBALANCE
    if zone.flags & FD_ZONE_CACHE:
        return FD_PLUGIN_CACHE
    return entry.plugin if entry.plugin < <uint32_t>FD_PLUGINS else <uint32_t>FD_PLUGIN_NONE

cdef inline void count_request(fd_series_t *series, const fd_query_t *query, uint32_t tcp,
                               uint32_t request_size) noexcept nogil:
    fd_count(&series.requests[tcp][fd_type_index(query.qtype)], 1)
    fd_count(&series.request_sizes[tcp][fd_size_bucket(request_size)], 1)
    fd_count(&series.request_octets[tcp], request_size)
    if query.edns & FD_EDNS_DO:
        fd_count(&series.do_requests, 1)

#   size   octets of the reply without OPT, truncation and compression
cdef inline void count_response(fd_series_t *series, uint32_t plugin, uint32_t rcode, uint32_t tcp,
                                uint32_t size) noexcept nogil:
    fd_count(&series.responses[plugin][min(rcode, <uint32_t>FD_RCODES - 1)], 1)
    fd_count(&series.response_sizes[tcp][fd_size_bucket(size)], 1)
    fd_count(&series.response_octets[tcp], size)

# A query that was answered from the cache.
cdef inline void count_hit(worker_t *w, const fd_zone_t *zone, const fd_query_t *query,
                           const origin_t *origin, const fd_entry_t *entry) noexcept nogil:
    cdef fd_series_t *series = series_of(w, origin.listener, entry.zone)
    cdef uint32_t tcp = origin.state == FD_CLIENT_TCP
    w.tally.hits += 1
    if series == NULL:
        return
    if entry.marks & FD_ENTRY_TRANSLATED:
        fd_count(&series.dns64_translated, 1)
    if zone.flags & FD_ZONE_CACHE:
        fd_count(&series.cache_hits[entry.kind != FD_ENTRY_POSITIVE], 1)
    if zone.flags & FD_ZONE_METRICS:
        count_request(series, query, tcp, origin.request_size)
        count_response(series, writer_of(zone, entry), entry_rcode(entry), tcp, entry.plain_len)
        tally_hit(w, series)

# Its time is known when the batch has been sent.
cdef inline void tally_hit(worker_t *w, fd_series_t *series) noexcept nogil:
    cdef uint32_t last = w.tally.used - 1
    if w.tally.used == 0 or w.tally.series[last] != series:
        if w.tally.used == <uint32_t>TALLY:
            count_settle(w)
        last = w.tally.used
        w.tally.series[last] = series
        w.tally.counts[last] = 0
        w.tally.used += 1
    w.tally.counts[last] += 1

# Read the clock and count the time of all hits since the last call: a batch has been sent.
cdef void count_settle(worker_t *w) noexcept nogil

# A query that no usable entry answers, in a zone that does.
cdef void count_miss(worker_t *w, const fd_zone_t *zone, uint32_t zone_number, const fd_query_t *query,
                     const origin_t *origin) noexcept nogil

# A stale answer is given; its reply is counted as any other.
cdef void count_stale(worker_t *w, const fd_zone_t *zone, uint32_t zone_number, uint32_t listener) noexcept nogil

# The reply to a query that was counted as a miss.
#   entry   NULL: the core's own, nothing was written by any plugin
#   waited_us   since the query came
cdef void count_late(worker_t *w, const fd_zone_t *zone, uint32_t zone_number, uint32_t listener,
                     uint32_t tcp, const fd_entry_t *entry, uint32_t rcode, uint64_t waited_us) noexcept nogil

# A query that no zone took, refused at once. `size` as in count_response.
cdef void count_refused(worker_t *w, const fd_query_t *query, const origin_t *origin, uint32_t rcode,
                        uint32_t size) noexcept nogil
