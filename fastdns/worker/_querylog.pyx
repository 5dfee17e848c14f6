# SPDX-License-Identifier: Apache-2.0
"""Records for CoreDNS's `log`: one for each query of a zone that has it."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._log cimport log_commit, log_reserve
from fastdns._name cimport get_u16
from fastdns._segments cimport boottime_us
from fastdns._shm cimport FD_EDNS_PRESENT, FD_RECORD_LOG_QUERY, fd_log_query_t, fd_query_t, sockaddr_in, sockaddr_in6
from fastdns._sys cimport AF_INET
from fastdns.worker._state cimport worker_t

cdef enum:
    DURATION_MAX_US = 0xffffffff


# sockaddr_in or sockaddr_in6, whatever stands there; the rest is zeros.
cdef inline void copy_address(const sockaddr_in6 *peer, sockaddr_in6 *out) noexcept nogil:
    memset(out, 0, sizeof(sockaddr_in6))
    memcpy(out, peer, sizeof(sockaddr_in) if peer.sin6_family == AF_INET else sizeof(sockaddr_in6))


cdef void log_query(worker_t *worker, const asker_t *asker, const fd_query_t *query,
                    const uint8_t *question, const replied_t *replied) noexcept nogil:
    cdef uint64_t now_us = boottime_us()
    cdef uint16_t udp_size = query.udp_size
    cdef fd_log_query_t *line = <fd_log_query_t *>log_reserve(
        &worker.log, <uint32_t>sizeof(fd_log_query_t) + query.qname_len, FD_RECORD_LOG_QUERY, worker.counters)
    if line == NULL:
        return
    if not asker.tcp and query.edns & FD_EDNS_PRESENT and replied.edns_max and udp_size > replied.edns_max:
        udp_size = replied.edns_max
    line.time_ms = now_us // 1000
    line.duration_us = <uint32_t>min(now_us - asker.arrived_us, <uint64_t>DURATION_MAX_US)
    line.zone = asker.zone
    line.id = get_u16(<const uint8_t *>&query.id)
    copy_address(asker.peer, &line.peer)
    line.local = asker.local[0]
    line.query_flags = query.flags
    line.reply_flags = replied.flags
    line.rcode = replied.rcode
    line.qtype = query.qtype
    line.qclass = query.qclass
    line.request_size = asker.request_size
    line.reply_size = replied.size
    line.udp_size = udp_size
    line.listener = asker.listener
    line.tcp = asker.tcp
    line.edns = query.edns
    line.qname_len = query.qname_len
    line.entry_kind = replied.entry_kind
    memcpy(<uint8_t *>line + sizeof(fd_log_query_t), question, query.qname_len)
    log_commit(&worker.log)
