# SPDX-License-Identifier: Apache-2.0
"""Sockets to upstreams: from the address that they are to leave from, to where they lead."""

from libc.errno cimport EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EINPROGRESS, errno
from libc.stdint cimport uint32_t

from fastdns._shm cimport fd_at, fd_part_t, sockaddr, sockaddr_in, sockaddr_in6
from fastdns._sys cimport AF_INET, close
from fastdns.coordinator._net cimport SOCK_CLOEXEC, SOCK_NONBLOCK, bind, connect, socket
from fastdns.coordinator._state cimport ASK_LATER, ASK_NOWHERE, ASK_OK, ask_rc, coordinator_t, upstream_t


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
