# SPDX-License-Identifier: Apache-2.0
# _stats.pxd: the counters of _counters.h by name, and the way to bump one.
from libc.stdint cimport uint64_t

from fastdns._shm cimport fd_load64, fd_store64

cdef extern from "_counters.h" nogil:
    enum:
        FD_C_udp_queries, FD_C_tcp_queries, FD_C_hits, FD_C_misses, FD_C_replies_udp
        FD_C_stale_answers, FD_C_refreshes, FD_C_refreshes_unsent
        FD_C_replies_tcp, FD_C_joined_local, FD_C_repeated, FD_C_dropped_short
        FD_C_dropped_response, FD_C_dropped_source, FD_C_formerr, FD_C_notimp, FD_C_badvers
        FD_C_refused, FD_C_servfail, FD_C_truncated, FD_C_rx_truncated, FD_C_lookup_retries
        FD_C_lookup_abandoned, FD_C_pending_full, FD_C_clients_full, FD_C_question_ring_full
        FD_C_answers, FD_C_answers_unmatched, FD_C_deadline_expired, FD_C_send_failed
        FD_C_recovered_packets, FD_C_recovered_clients, FD_C_poisoned, FD_C_wakeups
        FD_C_log_dropped
        FD_C_tcp_accepted, FD_C_tcp_closed_idle, FD_C_tcp_closed_slow, FD_C_tcp_closed_cap
        FD_C_tcp_closed_bad, FD_C_tcp_closed_queries, FD_C_tcp_buffers_full, FD_C_tcp_accept_failed, FD_C_questions
        FD_C_questions_invalid, FD_C_joined, FD_C_found_stored
        FD_C_upstream_udp, FD_C_upstream_tcp, FD_C_upstream_answers, FD_C_upstream_retries
        FD_C_upstream_mismatched, FD_C_upstream_malformed, FD_C_upstream_truncated
        FD_C_upstream_tcp_connects, FD_C_upstream_tcp_broken, FD_C_upstream_tcp_full
        FD_C_upstream_tls_handshakes, FD_C_upstream_tls_resumed, FD_C_upstream_tls_failed
        FD_C_upstream_sockets, FD_C_upstream_send_failed, FD_C_hedges, FD_C_all_down, FD_C_concurrent_full
        FD_C_inflight_full, FD_C_failures, FD_C_answer_ring_full
        FD_C_quarantined, FD_C_changed_full, FD_C_slow_full, FD_C_loops, FD_C_cut_answers, FD_C_cut_questions
        FD_C_stores, FD_C_not_stored, FD_C_store_stale_writer
        FD_C_stale_marks, FD_C_upstreams_back
        FD_C_evicted_bytes, FD_C_evicted_bucket, FD_C_expired, FD_C_outdated, FD_C_rejected_large
        FD_C_scan_dropped, FD_C_scan_kept
        FD_COUNTERS


# Add n to counter `which` of the caller's own block; only its owner may call it.
cdef inline void bump(uint64_t *block, int which, uint64_t n) noexcept nogil:
    fd_store64(&block[which], fd_load64(&block[which]) + n)
