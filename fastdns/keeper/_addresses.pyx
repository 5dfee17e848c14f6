# SPDX-License-Identifier: Apache-2.0
"""The node's addresses: each has a lifetime of 2 s, and is renewed while a worker moves (node-network.md, 1).

Whether the address is on the node decides everything else: kube-proxy's translation applies to a
query exactly when the address is not local. So nothing has to be done when the keeper, its
container or all workers die: the kernel takes the addresses away. Only heartbeats count. A question to
ourselves that gets no answer may have met a full queue, and giving up for that would take the load of the
node to CoreDNS at the worst moment.

A *trip* is a lifetime that ran out: because no worker moved, or because the keeper itself was held. The
*return* follows as soon as a worker moves, but after the second trip in a minute it waits for some random
seconds, so that a thousand nodes with one illness don't come and go together.
"""

from libc.errno cimport EADDRNOTAVAIL, EIO, ENOBUFS, ENODEV, ENOSPC, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset, strerror

from fastdns._shm cimport FD_MAX_LISTENERS, fd_store32
from fastdns._sys cimport AF_INET, AF_INET6, MSG_DONTWAIT, close
from fastdns.keeper._children cimport log_text

cdef extern from "<sys/socket.h>" nogil:
    int socket(int domain, int kind, int protocol)
    long send(int fd, const void *data, size_t octets, int flags)
    long recv(int fd, void *data, size_t octets, int flags)
    enum:
        AF_NETLINK, SOCK_RAW, SOCK_CLOEXEC

cdef extern from "<sys/random.h>" nogil:
    long getrandom(void *buffer, size_t octets, unsigned int flags)
    enum:
        GRND_NONBLOCK

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *source, char *out, uint32_t size)

cdef extern from "<linux/rtnetlink.h>" nogil:
    struct nlmsghdr:
        uint32_t nlmsg_len
        uint16_t nlmsg_type
        uint16_t nlmsg_flags
        uint32_t nlmsg_seq
    struct nlmsgerr:
        int error
    struct ifaddrmsg:
        uint8_t ifa_family
        uint8_t ifa_prefixlen
        uint8_t ifa_flags
        uint8_t ifa_scope
        uint32_t ifa_index
    struct ifa_cacheinfo:
        uint32_t ifa_prefered
        uint32_t ifa_valid
    struct rtattr:
        uint16_t rta_len
        uint16_t rta_type
    enum:
        NETLINK_ROUTE, RTM_NEWADDR, RTM_DELADDR, NLMSG_ERROR
        NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE
        IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_F_NODAD

cdef enum:
    LIFETIME_MS = 2000           # what an address is given; control says it in seconds
    RENEW_MS = 450               # every fifth tick, 0.5 s, also where one comes a little early
    STEADY_RENEWALS = 10         # addresses without a lifetime: 5 s, in case somebody removed one
    ALIVE_MS = 1000              # a worker has moved within this
    GRACE_MS = 5000              # how long a keeper without CPU time believes that workers have none either
    MINUTE_MS = 60000
    WAIT_MIN_MS = 1000
    WAIT_SPREAD_MS = 9000

cdef enum:
    LINE = 256
    ADDRESS_TEXT = 46            # INET6_ADDRSTRLEN
    FOR_EVER = 0xffffffff        # of a lifetime, in seconds

cdef struct request_t:
    nlmsghdr header
    ifaddrmsg address
    uint8_t attributes[64]       # IFA_LOCAL and IFA_ADDRESS of 20 octets at most, IFA_CACHEINFO of 20

cdef struct acknowledgement_t:
    nlmsghdr header
    nlmsgerr error
    uint8_t rest[256]


cdef size_t octets_of(int family) noexcept nogil:
    return 4 if family == AF_INET else 16


cdef void add_attribute(request_t *request, uint16_t kind, const void *data, size_t octets) noexcept nogil:
    # All lengths are multiples of 4: no padding.
    cdef uint8_t *at = <uint8_t *>request + request.header.nlmsg_len
    cdef rtattr header
    header.rta_len = <uint16_t>(sizeof(rtattr) + octets)
    header.rta_type = kind
    memcpy(at, &header, sizeof(rtattr))
    memcpy(at + sizeof(rtattr), data, octets)
    request.header.nlmsg_len += <uint32_t>(sizeof(rtattr) + octets)


cdef int exchange(addresses_t *addresses, request_t *request) noexcept nogil:
    # Returns 0 or an errno. The kernel has done the work, and acknowledged it, when send returns.
    cdef acknowledgement_t answer
    cdef long octets
    if addresses.netlink < 0:
        addresses.netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
        if addresses.netlink < 0:
            return errno
    addresses.sequence += 1
    request.header.nlmsg_seq = addresses.sequence
    if send(addresses.netlink, request, request.header.nlmsg_len, 0) < 0:
        return errno
    while True:
        octets = recv(addresses.netlink, &answer, sizeof(answer), MSG_DONTWAIT)
        if octets < 0 and errno == ENOBUFS:
            continue             # an answer was lost; what is left is older
        if octets < <long>(sizeof(nlmsghdr) + sizeof(int)):
            return EIO
        if answer.header.nlmsg_type == NLMSG_ERROR and answer.header.nlmsg_seq == addresses.sequence:
            return -answer.error.error


cdef int put(addresses_t *addresses, const address_t *one, bint there) noexcept nogil:
    # Add the address or renew it; with `there` false, remove it.
    cdef request_t request
    cdef ifa_cacheinfo life
    memset(&request, 0, sizeof(request))
    memset(&life, 0, sizeof(life))
    request.header.nlmsg_len = sizeof(nlmsghdr) + sizeof(ifaddrmsg)
    request.header.nlmsg_type = RTM_NEWADDR if there else RTM_DELADDR
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK
    if there:
        request.header.nlmsg_flags |= NLM_F_CREATE | NLM_F_REPLACE
    request.address.ifa_family = <uint8_t>one.family
    request.address.ifa_prefixlen = <uint8_t>(8 * octets_of(one.family))
    request.address.ifa_index = one.interface
    if one.family == AF_INET6:
        request.address.ifa_flags = IFA_F_NODAD      # or nobody could use it for a second
    add_attribute(&request, IFA_LOCAL, one.octets, octets_of(one.family))
    add_attribute(&request, IFA_ADDRESS, one.octets, octets_of(one.family))
    if there:
        life.ifa_valid = one.lifetime_s if one.lifetime_s else <uint32_t>FOR_EVER
        life.ifa_prefered = life.ifa_valid
        add_attribute(&request, IFA_CACHEINFO, &life, sizeof(life))
    return exchange(addresses, &request)


cdef void note(address_t *one, int error) noexcept nogil:
    # A line when it changes, not one each half second.
    cdef char line[LINE]
    cdef char text[ADDRESS_TEXT]
    if error and error != one.error and inet_ntop(one.family, one.octets, text, sizeof(text)) != NULL:
        snprintf(line, LINE, b"[ERROR] address %s on interface %u: %s\n", text, one.interface, strerror(error))
        log_text(line)
    one.error = error


cdef void publish(addresses_t *addresses) noexcept nogil:
    if addresses.board == NULL:
        return
    fd_store32(&addresses.board.addresses, addresses.count)
    fd_store32(&addresses.board.addresses_away, addresses.away)
    fd_store32(&addresses.board.address_trips, addresses.trips)
    fd_store32(&addresses.board.address_returns, addresses.returns)


cdef void renew(addresses_t *addresses, uint64_t now_ms) noexcept nogil:
    cdef uint32_t i
    cdef address_t *one
    for i in range(addresses.count):
        one = &addresses.table[i]
        if one.lifetime_s or one.error or addresses.renewals % STEADY_RENEWALS == 0:
            note(one, put(addresses, one, True))
    addresses.renewals += 1
    addresses.renewed_ms = now_ms


cdef void addresses_init(addresses_t *addresses) noexcept nogil:
    memset(addresses, 0, sizeof(addresses_t))
    addresses.netlink = -1


cdef address_t *find(addresses_t *addresses, int family, const uint8_t *octets) noexcept nogil:
    cdef uint32_t i
    cdef address_t *one
    for i in range(addresses.count):
        one = &addresses.table[i]
        if one.family == family and memcmp(one.octets, octets, octets_of(family)) == 0:
            return one
    return NULL


cdef int address_keep(addresses_t *addresses, int family, uint32_t interface, const uint8_t *octets,
                      uint32_t lifetime_s, uint64_t now_ms) noexcept nogil:
    cdef address_t *one = find(addresses, family, octets)
    if one == NULL:
        if addresses.count >= <uint32_t>FD_MAX_LISTENERS:
            return ENOSPC
        if addresses.count == 0:
            addresses.renewed_ms = now_ms
            addresses.moved_ms = now_ms      # they are only asked for while workers serve
            addresses.grace_ms = now_ms
        one = &addresses.table[addresses.count]
        addresses.count += 1
        memset(one, 0, sizeof(address_t))
        one.family = family
        memcpy(one.octets, octets, octets_of(family))
    one.interface = interface
    one.lifetime_s = lifetime_s
    if not addresses.away or lifetime_s == 0:
        note(one, put(addresses, one, True))
    publish(addresses)
    return one.error


cdef int address_forget(addresses_t *addresses, int family, const uint8_t *octets, bint leave) noexcept nogil:
    cdef address_t *one = find(addresses, family, octets)
    cdef int error
    if one == NULL:
        return 0
    error = 0 if leave else put(addresses, one, False)
    addresses.count -= 1
    one[0] = addresses.table[addresses.count]
    publish(addresses)
    return 0 if error == EADDRNOTAVAIL or error == ENODEV else error


cdef void addresses_clear(addresses_t *addresses) noexcept nogil:
    cdef const address_t *one
    while addresses.count:
        addresses.count -= 1                 # services, which came last, go first
        one = &addresses.table[addresses.count]
        if one.lifetime_s:
            put(addresses, one, False)
    if addresses.netlink >= 0:
        close(addresses.netlink)
        addresses.netlink = -1
    publish(addresses)


cdef uint64_t random_wait_ms() noexcept nogil:
    cdef uint32_t number = 0
    getrandom(&number, sizeof(number), GRND_NONBLOCK)
    return WAIT_MIN_MS + number % <uint32_t>(WAIT_SPREAD_MS + 1)


cdef void trip(addresses_t *addresses, bint moving, uint64_t now_ms) noexcept nogil:
    cdef char line[LINE]
    addresses.again = addresses.tripped_ms != 0 and now_ms - addresses.tripped_ms < <uint64_t>MINUTE_MS
    addresses.tripped_ms = now_ms
    addresses.away = True
    addresses.return_ms = 0
    addresses.trips += 1
    if moving:
        snprintf(line, LINE, b"[ERROR] the node's addresses ran out: the keeper was held for %llu ms (trip %u)\n",
                 <unsigned long long>(now_ms - addresses.renewed_ms), addresses.trips)
    else:
        snprintf(line, LINE, b"[ERROR] the node's addresses were given up: no worker has moved for %llu ms"
                 b" (trip %u)\n", <unsigned long long>(now_ms - addresses.moved_ms), addresses.trips)
    log_text(line)


cdef bint is_due(addresses_t *addresses, uint64_t now_ms) noexcept nogil:
    # Whether the addresses may come back: a worker moves now.
    cdef char line[LINE]
    if not addresses.again:
        return True
    if addresses.return_ms == 0:
        addresses.return_ms = now_ms + random_wait_ms()
        snprintf(line, LINE, b"[WARNING] a second trip within a minute: the node's addresses wait %llu ms\n",
                 <unsigned long long>(addresses.return_ms - now_ms))
        log_text(line)
    return now_ms >= addresses.return_ms


cdef void come_back(addresses_t *addresses, uint64_t now_ms) noexcept nogil:
    cdef char line[LINE]
    addresses.away = False
    addresses.returns += 1
    renew(addresses, now_ms)
    snprintf(line, LINE, b"[WARNING] the node's addresses are back after %llu ms\n",
             <unsigned long long>(now_ms - addresses.tripped_ms))
    log_text(line)
    publish(addresses)


cdef bint addresses_tick(addresses_t *addresses, uint64_t beats, bint late, uint64_t now_ms) noexcept nogil:
    cdef bint moving
    if beats != addresses.beats:
        addresses.beats = beats
        addresses.moved_ms = now_ms
        addresses.grace_ms = now_ms
    elif late and now_ms - addresses.moved_ms < <uint64_t>GRACE_MS:
        addresses.grace_ms = now_ms          # they had no more CPU time than we
    if addresses.exit_after_ms and now_ms - addresses.grace_ms >= addresses.exit_after_ms:
        return True
    if addresses.count == 0:
        return False
    moving = now_ms - addresses.moved_ms < <uint64_t>ALIVE_MS
    if not addresses.away and now_ms - addresses.renewed_ms >= <uint64_t>LIFETIME_MS:
        trip(addresses, moving, now_ms)
        publish(addresses)
    if addresses.away:
        if not moving:
            addresses.return_ms = 0
        elif is_due(addresses, now_ms):
            come_back(addresses, now_ms)
    elif (now_ms - addresses.grace_ms < <uint64_t>ALIVE_MS
          and now_ms - addresses.renewed_ms >= <uint64_t>RENEW_MS):
        renew(addresses, now_ms)
    return False
