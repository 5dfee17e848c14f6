# SPDX-License-Identifier: Apache-2.0
"""Connections to upstreams that the TLS thread encrypts, as the loop sees them: begun, and standing or not."""

from libc.errno cimport EAGAIN, ECONNRESET, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t

from fastdns._stats cimport (
    FD_C_upstream_tls_failed,
    FD_C_upstream_tls_handshakes,
    FD_C_upstream_tls_resumed,
    bump,
)
from fastdns._sys cimport AF_UNIX, MSG_DONTWAIT, close, write
from fastdns.coordinator._net cimport (
    F_SETPIPE_SZ,
    O_CLOEXEC,
    O_NONBLOCK,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    fcntl,
    pipe2,
    recv,
    socketpair,
)
from fastdns.coordinator._state cimport ASK_LATER, ASK_OK, ask_rc, coordinator_t, upstream_t

cdef enum:
    PIPE_ROOM = 4096             # 512 connections that the thread has not yet begun with


cdef int tls_open(coordinator_t *c) noexcept nogil:
    cdef int ends[2]
    if pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0:
        return -1
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_ROOM)
    c.tls_requests = ends[1]
    return ends[0]


cdef ask_rc tls_connect(coordinator_t *c, const upstream_t *upstream, int *fd) noexcept nogil:
    cdef int ends[2]
    cdef uint32_t record[2]
    if socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0:
        return ASK_LATER
    record[0] = <uint32_t>(upstream - &c.upstreams[0])
    record[1] = <uint32_t>ends[1]
    # The thread sleeps in epoll: the octets wake it. So few are written whole or not at all.
    if write(c.tls_requests, record, sizeof(record)) != sizeof(record):
        close(ends[0])
        close(ends[1])
        return ASK_LATER
    fd[0] = ends[0]
    return ASK_OK


cdef int tls_outcome(coordinator_t *c, int fd) noexcept nogil:
    cdef uint8_t outcome = 0
    cdef long got = recv(fd, &outcome, 1, MSG_DONTWAIT)
    if got < 0 and (errno == EAGAIN or errno == EINTR):
        return CONNECT_GOES_ON
    if got != 1 or (outcome != TLS_STANDS and outcome != TLS_RESUMED):
        bump(c.counters, FD_C_upstream_tls_failed, 1)
        return outcome if got == 1 else ECONNRESET
    bump(c.counters, FD_C_upstream_tls_handshakes, 1)
    if outcome == TLS_RESUMED:
        bump(c.counters, FD_C_upstream_tls_resumed, 1)
    return 0
