# SPDX-License-Identifier: Apache-2.0
# _tls.pxd: connections to upstreams that the TLS thread (tls.py) encrypts. For the loop such a one is
# an end of a socketpair, which it treats as it treats a TCP connection; the thread has the other end,
# and the connection to the server. nogil.
#
# For each connection the loop writes one record to a pipe, which the thread reads:
#   uint32 upstream's number, uint32 descriptor of the thread's end
# Before anything else the thread writes one octet to its end:
#   0       the connection stands        255     it stands, and resumed an earlier session
#   other   an errno (those in use are below 134), and the end is closed
# EPROTO is a handshake that failed, EKEYREJECTED a certificate that is not the server's.
from fastdns.coordinator._state cimport ask_rc, coordinator_t, upstream_t

cdef enum:
    TLS_STANDS = 0
    TLS_RESUMED = 255
    CONNECT_GOES_ON = -1

# Take the pipe. Returns the thread's end of it, or -1: no descriptors.
cdef int tls_open(coordinator_t *c) noexcept nogil

# Begin a connection; `fd` is the loop's end. ASK_LATER where the thread is behind with many of them.
cdef ask_rc tls_connect(coordinator_t *c, const upstream_t *upstream, int *fd) noexcept nogil

# What became of it: 0, an errno, or CONNECT_GOES_ON: nothing yet.
cdef int tls_outcome(coordinator_t *c, int fd) noexcept nogil
