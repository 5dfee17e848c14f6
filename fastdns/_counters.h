/* SPDX-License-Identifier: Apache-2.0
 *
 * _counters.h: every counter of the data and upstream planes, declared once. X(name, help).
 * Each process that has counters owns one block of FD_COUNTERS words and is its only writer;
 * readers sum blocks. Names become `fastdns stats` keys and, later, metric names.
 */
#ifndef FASTDNS_COUNTERS_H
#define FASTDNS_COUNTERS_H

#define FD_COUNTER_LIST(X) \
    /* worker: what came in */ \
    X(udp_queries, "UDP datagrams received") \
    X(tcp_queries, "messages received over TCP") \
    X(hits, "answered from the cache at once") \
    X(misses, "questions that found no usable entry") \
    X(stale_answers, "replies from an expired entry (RFC 8767)") \
    X(refreshes, "expired entries that were answered first and asked for behind that") \
    X(refreshes_unsent, "refreshes left to the next client because the question ring was full") \
    X(replies_udp, "replies sent over UDP") \
    X(replies_tcp, "replies sent over TCP") \
    X(joined_local, "clients chained to a question already pending in the same worker") \
    X(repeated, "clients that repeated a pending query and took their own place again") \
    X(dropped_short, "packets under 12 octets, dropped") \
    X(dropped_response, "packets with QR=1, dropped") \
    X(dropped_source, "packets from port 0 or from a listener's own address and port, dropped") \
    X(formerr, "FORMERR sent") \
    X(notimp, "NOTIMP sent") \
    X(badvers, "BADVERS sent") \
    X(refused, "REFUSED sent") \
    X(servfail, "SERVFAIL sent") \
    X(truncated, "replies sent with TC") \
    X(rx_truncated, "datagrams longer than the receive buffer") \
    X(lookup_retries, "cache reads begun again because the writer was at work") \
    X(lookup_abandoned, "cache reads given up as a miss after too many retries") \
    X(pending_full, "questions refused because the pending table was full") \
    X(clients_full, "clients refused because all client places were taken") \
    X(question_ring_full, "questions that had to wait because the question ring was full") \
    X(answers, "answer records taken from the ring") \
    X(answers_unmatched, "answer records whose ticket or question was not pending any more") \
    X(deadline_expired, "clients answered SERVFAIL because their time was over") \
    X(send_failed, "replies that the kernel refused to send") \
    X(recovered_packets, "packets answered on behalf of a worker that died") \
    X(recovered_clients, "waiting clients taken over from a worker that died") \
    X(poisoned, "packets or records given up because two processes died on them") \
    X(log_dropped, "log lines dropped because the ring to control was full") \
    X(wakeups, "returns from a wait in the kernel") \
    X(tcp_accepted, "TCP connections accepted") \
    X(tcp_accept_failed, "times that TCP connections could not be accepted (descriptors or memory short)") \
    X(tcp_closed_idle, "TCP connections closed after idle time") \
    X(tcp_closed_slow, "TCP connections closed because the client did not read or finish") \
    X(tcp_closed_cap, "TCP connections closed to make room for another") \
    X(tcp_closed_queries, "TCP connections that got as many queries as `maxtcpqueries` allows") \
    X(tcp_closed_bad, "TCP connections closed after an impossible message length") \
    X(tcp_buffers_full, "TCP connections closed because the buffer pool was empty") \
    /* coordinator: questions and upstream */ \
    X(questions, "question records taken from the rings") \
    X(questions_invalid, "question records that made no sense, dropped") \
    X(joined, "questions joined to one that another worker had asked") \
    X(found_stored, "questions whose answer had been stored since the worker looked") \
    X(upstream_udp, "questions sent upstream over UDP") \
    X(upstream_tcp, "questions sent upstream over TCP") \
    X(upstream_answers, "usable responses from upstream") \
    X(upstream_retries, "questions asked again after silence") \
    X(upstream_mismatched, "responses with an unknown ID or another question, ignored") \
    X(upstream_malformed, "responses that could not be parsed, ignored") \
    X(upstream_truncated, "responses with TC, asked again over TCP") \
    X(upstream_tcp_connects, "TCP connections opened to upstreams") \
    X(upstream_tcp_broken, "TCP connections to upstreams lost with questions in flight") \
    X(upstream_tcp_full, "TCP connections to upstreams closed because parts of too many answers were waiting") \
    X(upstream_tls_handshakes, "TLS connections made to upstreams, resumed ones included") \
    X(upstream_tls_resumed, "TLS connections to upstreams that resumed an earlier session") \
    X(upstream_tls_failed, "TLS connections to upstreams that were refused, or whose certificate was") \
    X(upstream_sockets, "UDP sockets opened to upstreams") \
    X(upstream_send_failed, "questions that the kernel refused to send upstream") \
    X(hedges, "questions put to a second upstream because the first was late") \
    X(all_down, "questions for which all upstreams were down") \
    X(concurrent_full, "questions refused because of `max_concurrent`") \
    X(inflight_full, "questions refused because the in-flight table was full") \
    X(failures, "questions ended by a failure (SERVFAIL to the clients)") \
    X(answer_ring_full, "answer records dropped because the ring was full") \
    X(quarantined, "questions refused because two coordinators died on them") \
    X(changed_full, "questions refused because no place was left for what a table made of them") \
    X(slow_full, "questions refused because too many of their block waited for the Python thread") \
    X(loops, "own questions that came back from an upstream") \
    X(cut_answers, "NXDOMAIN answered without asking because an ancestor of the name does not exist") \
    X(cut_questions, "questions put to find out which ancestor of a name does not exist") \
    /* coordinator: the cache */ \
    X(stores, "entries stored") \
    X(not_stored, "answers handed on and not stored") \
    X(stale_marks, "expired entries that were marked to be answered at once after a failed refresh") \
    X(upstreams_back, "times that a silent upstream was back, and stale marks and failures of its time became void") \
    X(store_stale_writer, "answers not stored because this process is not the writer any more") \
    X(evicted_bytes, "entries evicted to make room for octets, or in a block at its capacity") \
    X(evicted_bucket, "entries evicted because their bucket was full") \
    X(expired, "entries removed after their time") \
    X(outdated, "entries dropped because another configuration made them") \
    X(rejected_large, "answers over 4 KiB not stored because of their quota") \
    X(scan_dropped, "entries that the scan at attach found damaged and dropped") \
    X(scan_kept, "entries that the scan at attach found whole")

enum {
#define FD_X(name, help) FD_C_##name,
    FD_COUNTER_LIST(FD_X)
#undef FD_X
    FD_COUNTERS
};

#endif
