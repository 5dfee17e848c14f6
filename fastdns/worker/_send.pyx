# SPDX-License-Identifier: Apache-2.0
"""Replies leave over UDP: whole batches, and late ones one by one.

A reply leaves from the address its query came to. Sockets bound to one address do that by
themselves; for a wildcard the received ancillary data is turned round (IP_PKTINFO, IPV6_PKTINFO).
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastdns._memory cimport fd_take
from fastdns._shm cimport (
    FD_BATCH,
    FD_CONTROL_BUFFER,
    fd_local_t,
    iovec,
    mmsghdr,
    msghdr,
    sockaddr_in,
    sockaddr_in6,
)
from fastdns._stats cimport FD_C_replies_udp, FD_C_send_failed, bump
from fastdns._sys cimport (
    AF_INET,
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_LEN,
    CMSG_NXTHDR,
    CMSG_SPACE,
    IP_PKTINFO,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLOUT,
    cmsghdr,
    in6_pktinfo,
    in_pktinfo,
    poll,
    pollfd,
    sendmmsg,
)
from fastdns.worker._state cimport worker_t

cdef enum:
    SEND_PATIENCE_MS = 1         # wait for a full send queue once this long, then count a loss

# Replies to clients that had to wait, gathered until a batch is full or the round is over. They are
# written into the batch's buffers: nothing received is in hand while answers are taken.
cdef struct late_t:
    mmsghdr messages[FD_BATCH]
    iovec vectors[FD_BATCH]
    sockaddr_in6 peers[FD_BATCH]
    uint8_t control[FD_BATCH][FD_CONTROL_BUFFER]
    uint32_t count
    uint32_t listener            # of all that are gathered


cdef late_t *late_open() noexcept nogil:
    return <late_t *>fd_take(sizeof(late_t), 0)


# Make received ancillary data say "send from the address asked": the interface is left to
# routing, but for link-local addresses, which mean nothing without it.
cdef void answer_from(msghdr *message) noexcept nogil:
    cdef cmsghdr *header = CMSG_FIRSTHDR(message)
    cdef in6_pktinfo *info6
    while header != NULL:
        if header.cmsg_level == IPPROTO_IP and header.cmsg_type == IP_PKTINFO:
            (<in_pktinfo *>CMSG_DATA(header)).ipi_ifindex = 0
        elif header.cmsg_level == IPPROTO_IPV6 and header.cmsg_type == IPV6_PKTINFO:
            info6 = <in6_pktinfo *>CMSG_DATA(header)
            if not is_link_local(info6.ipi6_addr.s6_addr):
                info6.ipi6_ifindex = 0
        header = CMSG_NXTHDR(message, header)


cdef inline bint is_link_local(const uint8_t *address) noexcept nogil:
    return address[0] == 0xfe and (address[1] & 0xc0) == 0x80      # fe80::/10, RFC 4291 s2.5.6


# Send them all: a reply that the kernel refuses (no route, a filter) is counted and left out,
# a full queue is waited for once.
cdef void send_all(worker_t *worker, int fd, mmsghdr *messages, uint32_t n) noexcept nogil:
    cdef uint32_t done = 0
    cdef bint waited = False
    cdef int sent
    cdef pollfd full
    while done < n:
        sent = sendmmsg(fd, messages + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent > 0:
            done += <uint32_t>sent
            bump(worker.counters, FD_C_replies_udp, <uint64_t>sent)
        elif errno == EINTR:
            continue
        elif errno == EAGAIN and not waited:
            waited = True
            full.fd = fd
            full.events = POLLOUT
            poll(&full, 1, SEND_PATIENCE_MS)
        else:
            bump(worker.counters, FD_C_send_failed, 1)
            done += 1


# ------------------------------------------------------------------------- late replies ----

cdef uint8_t *late_room(worker_t *worker, uint32_t listener) noexcept nogil:
    cdef late_t *late = worker.late
    if late.count == FD_BATCH or (late.count and late.listener != listener):
        late_flush(worker)
    late.listener = listener
    return worker.batch.buffers[late.count]


cdef void late_push(worker_t *worker, const sockaddr_in6 *peer, const fd_local_t *local,
                    uint32_t reply_len) noexcept nogil:
    cdef late_t *late = worker.late
    cdef uint32_t i = late.count
    cdef msghdr *header = &late.messages[i].msg_hdr
    late.peers[i] = peer[0]
    late.vectors[i].iov_base = worker.batch.buffers[i]
    late.vectors[i].iov_len = reply_len
    header.msg_name = &late.peers[i]
    header.msg_namelen = sizeof(sockaddr_in) if peer.sin6_family == AF_INET else sizeof(sockaddr_in6)
    header.msg_iov = &late.vectors[i]
    header.msg_iovlen = 1
    header.msg_control = late.control[i]
    header.msg_controllen = 0
    if worker.config.listeners[late.listener].wildcard:
        header.msg_controllen = write_local(header, peer.sin6_family, local)
    late.count = i + 1


cdef void late_flush(worker_t *worker) noexcept nogil:
    cdef late_t *late = worker.late
    cdef uint32_t n = late.count
    late.count = 0
    if n:
        send_all(worker, worker.udp_fds[late.listener], late.messages, n)


cdef void received_local(const void *control, uint32_t control_len, fd_local_t *out) noexcept nogil:
    cdef msghdr message
    cdef cmsghdr *header
    memset(out, 0, sizeof(fd_local_t))
    if control == NULL or control_len == 0:
        return
    message.msg_control = <void *>control
    message.msg_controllen = control_len
    header = CMSG_FIRSTHDR(&message)
    while header != NULL:
        if header.cmsg_level == IPPROTO_IP and header.cmsg_type == IP_PKTINFO:
            memcpy(out.address, &(<in_pktinfo *>CMSG_DATA(header)).ipi_spec_dst, 4)
        elif header.cmsg_level == IPPROTO_IPV6 and header.cmsg_type == IPV6_PKTINFO:
            memcpy(out.address, &(<in6_pktinfo *>CMSG_DATA(header)).ipi6_addr, 16)
            if is_link_local(out.address):
                out.ifindex = (<in6_pktinfo *>CMSG_DATA(header)).ipi6_ifindex
        header = CMSG_NXTHDR(&message, header)


# Ancillary data that makes a late reply leave from `local`; returns its length.
cdef size_t write_local(msghdr *message, uint16_t family, const fd_local_t *local) noexcept nogil:
    cdef cmsghdr *header
    cdef in_pktinfo *info4
    cdef in6_pktinfo *info6
    cdef size_t octets = sizeof(in_pktinfo) if family == AF_INET else sizeof(in6_pktinfo)
    memset(message.msg_control, 0, FD_CONTROL_BUFFER)
    message.msg_controllen = FD_CONTROL_BUFFER
    header = CMSG_FIRSTHDR(message)
    header.cmsg_len = CMSG_LEN(octets)
    if family == AF_INET:
        header.cmsg_level = IPPROTO_IP
        header.cmsg_type = IP_PKTINFO
        info4 = <in_pktinfo *>CMSG_DATA(header)
        memcpy(&info4.ipi_spec_dst, local.address, 4)
    else:
        header.cmsg_level = IPPROTO_IPV6
        header.cmsg_type = IPV6_PKTINFO
        info6 = <in6_pktinfo *>CMSG_DATA(header)
        memcpy(&info6.ipi6_addr, local.address, 16)
        info6.ipi6_ifindex = local.ifindex
    return CMSG_SPACE(octets)
