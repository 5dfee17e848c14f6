# SPDX-License-Identifier: Apache-2.0
"""Round-trip times of upstreams, and sockets that lead to them."""

from libc.errno cimport EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EINPROGRESS, errno
from libc.stdint cimport uint32_t, uint64_t

from fastdns._shm cimport fd_at, fd_part_t, sockaddr, sockaddr_in, sockaddr_in6
from fastdns._sys cimport AF_INET, close
from fastdns.coordinator._net cimport SOCK_CLOEXEC, SOCK_NONBLOCK, bind, connect, socket
from fastdns.coordinator._state cimport (
    ASK_LATER,
    ASK_NOWHERE,
    ASK_OK,
    ask_rc,
    coordinator_t,
    rtt_t,
    upstream_t,
)


cdef inline uint32_t late_step(const rtt_t *rtt) noexcept nogil:
    return max(rtt.srtt_us // LATE_STEPS, <uint32_t>LATE_SHARE)


cdef void rtt_late(rtt_t *rtt) noexcept nogil:
    cdef uint32_t step = late_step(rtt)
    rtt.late_us = min(rtt.late_us + step - step // LATE_SHARE, <uint32_t>WAIT_MAX_MS * 1000)


cdef void rtt_checked(rtt_t *rtt, uint32_t rtt_us) noexcept nogil:
    if rtt.srtt_us and rtt_us > rtt.srtt_us:
        rtt.srtt_us = rtt_us
    elif rtt.srtt_us:
        rtt.srtt_us = max((rtt.srtt_us + rtt_us) // 2, <uint32_t>1)
    rtt_measured(rtt, rtt_us, False)


cdef void rtt_measured(rtt_t *rtt, uint32_t rtt_us, bint noted) noexcept nogil:
    cdef uint32_t error
    rtt_us = max(rtt_us, <uint32_t>1)
    if rtt.srtt_us == 0:
        rtt.srtt_us = rtt_us
        rtt.rttvar_us = rtt_us // 2
        rtt.late_us = 2 * min(rtt_us, <uint32_t>WAIT_MAX_MS * 1000 // 2)
        return
    if rtt_us <= rtt.late_us:
        rtt.late_us -= min(late_step(rtt) // LATE_SHARE, rtt.late_us - 1)
    elif not noted:
        rtt_late(rtt)
    error = rtt.srtt_us - rtt_us if rtt.srtt_us > rtt_us else rtt_us - rtt.srtt_us
    rtt.rttvar_us = <uint32_t>((3 * <uint64_t>rtt.rttvar_us + error) // 4)
    rtt.srtt_us = max(<uint32_t>((7 * <uint64_t>rtt.srtt_us + rtt_us) // 8), <uint32_t>1)


cdef uint64_t rtt_wait_us(const rtt_t *rtt, uint64_t first_us) noexcept nogil:
    return rtt.srtt_us + 4 * <uint64_t>rtt.rttvar_us if rtt.srtt_us else first_us


cdef uint32_t upstream_wait_ms(const upstream_t *upstream, uint32_t floor_ms) noexcept nogil:
    # The floor is RFC 6298's clock granularity as well: a steady upstream's deviation goes to nothing, and what
    # is a ms late then is not lost.
    cdef uint64_t wait_us = max(rtt_wait_us(&upstream.udp, WAIT_FIRST_MS * 1000),
                                upstream.udp.srtt_us + <uint64_t>floor_ms * 1000)
    return <uint32_t>min((wait_us + 999) // 1000, <uint64_t>WAIT_MAX_MS)


cdef rtt_t *upstream_way(upstream_t *upstream) noexcept nogil:
    return &upstream.tcp if upstream.config.force_tcp else &upstream.udp


cdef uint32_t upstream_takes_us(upstream_t *upstream, uint64_t now_ms) noexcept nogil:
    cdef uint32_t srtt_us = upstream_way(upstream).srtt_us
    if upstream.owes_ms == 0:
        return srtt_us
    return max(srtt_us, <uint32_t>min((now_ms - upstream.owes_ms) * 1000, <uint64_t>0x7fffffff))


cdef void upstream_asked(upstream_t *upstream, uint64_t now_ms) noexcept nogil:
    if upstream.owes_ms == 0:
        upstream.owes_ms = now_ms


cdef void upstream_answered(upstream_t *upstream) noexcept nogil:
    upstream.silences = 0
    upstream.check.fails = 0
    upstream.check.since_ms = 0
    upstream.owes_ms = 0


cdef void upstream_inherit(upstream_t *upstream, uint32_t wait_ms) noexcept nogil:
    # As if one round trip had been measured that leads to this wait: srtt + 4 * srtt / 2.
    if wait_ms:
        rtt_measured(&upstream.udp, min(wait_ms, <uint32_t>WAIT_MAX_MS) * 1000 // 3, False)


cdef void upstream_silent(upstream_t *upstream) noexcept nogil:
    if upstream.silences < SILENCES:
        upstream.silences += 1


cdef void upstream_gone(upstream_t *upstream) noexcept nogil:
    upstream.silences = GONE


# --- sockets ---


cdef int leave_from(coordinator_t *c, const fd_part_t *source, int fd) noexcept nogil:
    # Its port is 0: the kernel chooses one at random, as it does for sockets that are not bound.
    return bind(fd, <const sockaddr *>fd_at(c.config, source.off), source.count) if source.count else 0


cdef ask_rc dial(coordinator_t *c, upstream_t *upstream, int kind, int *fd) noexcept nogil:
    cdef const sockaddr *address = <const sockaddr *>&upstream.config.address
    cdef uint32_t octets = sizeof(sockaddr_in) if address.sa_family == AF_INET else sizeof(sockaddr_in6)
    cdef ask_rc rc = ASK_OK
    fd[0] = socket(address.sa_family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd[0] < 0:
        return ASK_NOWHERE if errno == EAFNOSUPPORT else ASK_LATER
    # Without a port to give bind says EADDRINUSE; its EADDRNOTAVAIL is an address that the node has not got.
    if leave_from(c, &upstream.config.source, fd[0]) != 0:
        rc = ASK_LATER if errno == EADDRINUSE else ASK_NOWHERE
    elif connect(fd[0], address, octets) != 0 and errno != EINPROGRESS:
        rc = ASK_LATER if errno == EAGAIN or errno == EADDRNOTAVAIL else ASK_NOWHERE
    if rc != ASK_OK:
        upstream.error = errno
        close(fd[0])
    return rc
