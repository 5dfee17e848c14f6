# SPDX-License-Identifier: Apache-2.0
# _sys.pxd: the kernel's calls that the loops make; declarations only.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._shm cimport in6_addr, in_addr, mmsghdr, msghdr

cdef extern from "<sys/socket.h>" nogil:
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    enum:
        AF_INET, AF_INET6, AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    cmsghdr *CMSG_NXTHDR(msghdr *message, cmsghdr *previous)
    uint8_t *CMSG_DATA(cmsghdr *header)
    size_t CMSG_LEN(size_t octets)
    size_t CMSG_SPACE(size_t octets)

cdef extern from "<netinet/in.h>" nogil:
    struct in_pktinfo:
        int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr
    struct in6_pktinfo:
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    enum:
        IPPROTO_IP, IPPROTO_IPV6, IP_PKTINFO, IPV6_PKTINFO

cdef extern from "<sys/epoll.h>" nogil:
    union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int count, int timeout_ms)
    enum:
        EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, EPOLLET

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout_ms)
    enum:
        POLLOUT

cdef extern from "<unistd.h>" nogil:
    int getpid()
    long write(int fd, const void *data, size_t octets)
    int close(int fd)


# Ring an eventfd: whoever polls it returns once.
cdef inline void ring_eventfd(int fd) noexcept nogil:
    cdef uint64_t one = 1
    write(fd, &one, 8)


cdef inline int watch(int epoll, int fd, uint32_t events, uint64_t data) noexcept nogil:
    cdef epoll_event event
    event.events = events
    event.data.u64 = data
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)
