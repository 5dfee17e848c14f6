# SPDX-License-Identifier: Apache-2.0
# _net.pxd: the kernel's calls for sockets to upstreams, beside those of _sys.pxd; declarations only.
from libc.stdint cimport uint32_t

from fastdns._shm cimport sockaddr

cdef extern from "<sys/socket.h>" nogil:
    int socket(int family, int kind, int protocol)
    int socketpair(int family, int kind, int protocol, int *ends)
    int bind(int fd, const sockaddr *address, uint32_t octets)
    int connect(int fd, const sockaddr *address, uint32_t octets)
    int setsockopt(int fd, int level, int option, const void *value, uint32_t octets)
    int getsockopt(int fd, int level, int option, void *value, uint32_t *octets)
    long send(int fd, const void *data, size_t octets, int flags)
    long recv(int fd, void *data, size_t octets, int flags)
    enum:
        SOCK_STREAM, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_CLOEXEC
        SOL_SOCKET, SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF, SO_ERROR

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLL_CTL_MOD

cdef extern from "<unistd.h>" nogil:
    int pipe2(int *ends, int flags)

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    enum:
        F_SETPIPE_SZ, O_NONBLOCK, O_CLOEXEC

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, int *value)

cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ                 # octets that the peer has not acknowledged

cdef extern from "<sys/random.h>" nogil:
    long getrandom(void *out, size_t octets, unsigned int flags)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    int nanosleep(const timespec *duration, timespec *rest)
    enum:
        CLOCK_BOOTTIME

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
    enum:
        PR_SET_TIMERSLACK
