# SPDX-License-Identifier: Apache-2.0
"""Which worker gets a packet: the reuseport groups' order and their programs.

Sockets bound to one address and port with SO_REUSEPORT form a group. By itself the kernel
chooses by a hash of both addresses and ports, so a few busy client sockets can starve all
workers but one. A classic BPF program chooses instead; its result is an index into the
group's sockets, whose order the kernel does not tell: it is the order of binding (for TCP, of
listen), and closing one moves the last into its place. That bookkeeping is what stands here.

UDP   by message ID, the first two octets that the program sees: resolvers choose them at random.
TCP   the kernel's choice while all workers live, since a SYN has no payload; while one does not,
      a random one of those who do.

An index out of range makes the kernel fall back to its hash, so a stale program loses nothing.
"""

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._shm cimport FD_MAX_WORKERS

cdef extern from "<linux/filter.h>" nogil:
    struct sock_filter:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k
    struct sock_fprog:
        unsigned short len
        sock_filter *filter
    enum:
        BPF_LD, BPF_H, BPF_W, BPF_ABS, BPF_ALU, BPF_MOD, BPF_K, BPF_JMP, BPF_JEQ, BPF_RET, BPF_A
        SKF_AD_OFF, SKF_AD_RANDOM

cdef extern from "<sys/socket.h>" nogil:
    int setsockopt(int socket, int level, int name, const void *value, unsigned int len)
    enum:
        SOL_SOCKET
        SO_ATTACH_REUSEPORT_CBPF

cdef extern from *:
    """
    #ifndef SO_DETACH_REUSEPORT_BPF    /* Linux 5.3; glibc 2.31 does not name it everywhere */
    #define SO_DETACH_REUSEPORT_BPF 68
    #endif
    """
    enum:
        SO_DETACH_REUSEPORT_BPF


cdef sock_filter statement(uint16_t code, uint32_t k) noexcept nogil:
    cdef sock_filter one
    one.code = code
    one.jt = 0
    one.jf = 0
    one.k = k
    return one


cdef int attach(group_t *group, const uint32_t *members, uint32_t count) noexcept nogil:
    # ld key; mod count; then the key-th of `members`. All members of an unchanged group are
    # 0, 1, 2..: the remainder itself is the index.
    cdef sock_filter code[2 * 16 + 4]
    cdef sock_fprog program
    cdef uint32_t i, n = 0
    cdef bint straight = True
    if group.stream:
        code[n] = statement(BPF_LD | BPF_W | BPF_ABS, <uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM))
    else:
        code[n] = statement(BPF_LD | BPF_H | BPF_ABS, 0)
    n += 1
    code[n] = statement(BPF_ALU | BPF_MOD | BPF_K, count)
    n += 1
    for i in range(count):
        straight = straight and members[i] == i
    if straight:
        code[n] = statement(BPF_RET | BPF_A, 0)
        n += 1
    else:
        for i in range(count - 1):
            code[n] = statement(BPF_JMP | BPF_JEQ | BPF_K, i)
            code[n].jf = 1
            n += 1
            code[n] = statement(BPF_RET | BPF_K, members[i])
            n += 1
        code[n] = statement(BPF_RET | BPF_K, members[count - 1])
        n += 1
    program.len = <unsigned short>n
    program.filter = code
    if setsockopt(group.sockets[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) != 0:
        return errno
    group.programmed = True
    return 0


cdef int detach(group_t *group) noexcept nogil:
    cdef int unused = 0
    if not group.programmed:
        return 0
    if setsockopt(group.sockets[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof(unused)) != 0:
        return errno
    group.programmed = False
    return 0


cdef int group_steer(group_t *group, uint32_t live) noexcept nogil:
    cdef uint32_t members[16]
    cdef uint32_t i, count = 0
    for i in range(group.count):
        if live & (<uint32_t>1 << group.workers[i]):
            members[count] = i
            count += 1
    if count == 0:
        for i in range(group.count):
            members[i] = i
        count = group.count
    if group.plain or group.count < 2 or (group.stream and count == group.count):
        return detach(group)
    return attach(group, members, count)


cdef class Group:
    """The sockets of one address and port and one protocol, one a worker.

    The descriptors are the caller's and stay open as long as they are members.
    """

    def __cinit__(self, *, bint stream):
        self.state.stream = stream

    def add(self, int descriptor, int worker):
        """Note a socket that has just been bound (TCP: that listens now)."""
        if not 0 <= worker < FD_MAX_WORKERS:
            raise ValueError(f"worker {worker}: expected 0 to {FD_MAX_WORKERS - 1}")
        if self.state.count >= <uint32_t>FD_MAX_WORKERS:
            raise ValueError(f"a group of more than {FD_MAX_WORKERS} sockets")
        self.state.sockets[self.state.count] = descriptor
        self.state.workers[self.state.count] = <uint8_t>worker
        self.state.count += 1

    def remove(self, int descriptor):
        """Note a socket that leaves the group: it is closed in every process. Install anew after it."""
        cdef uint32_t i, last = self.state.count
        for i in range(self.state.count):
            if self.state.sockets[i] == descriptor:
                last -= 1
                self.state.sockets[i] = self.state.sockets[last]
                self.state.workers[i] = self.state.workers[last]
                self.state.count = last
                return
        raise ValueError(f"descriptor {descriptor} is not in the group")

    def order(self) -> list[int]:
        """The workers, in the kernel's order of their sockets."""
        return [self.state.workers[i] for i in range(self.state.count)]

    def steer(self, uint32_t live):
        """Share the traffic among the workers whose bit is set in ``live`` (none: all). Raises OSError."""
        cdef int error = group_steer(&self.state, live) if self.state.count else 0
        if error:
            raise OSError(error, "the program of a reuseport group was refused")

    def leave_to_kernel(self, bint plain):
        """Whether the kernel's own choice is to be used. Takes effect with the next ``steer``."""
        self.state.plain = plain
