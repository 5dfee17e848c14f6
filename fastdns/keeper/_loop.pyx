# SPDX-License-Identifier: Apache-2.0
"""The keeper's loop: signals, ticks of 100 ms and control's messages, without the GIL.

``Loop.wait`` comes back to Python only to fork a child, to join a dead one, to read a message
of control's set-up, or to leave.
"""

import os

from libc.errno cimport ECHILD, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._segments cimport boottime_ms
from fastdns._shm cimport (
    FD_MAGIC_BOARD,
    FD_MAGIC_POST,
    FD_MAGIC_REGION,
    FD_MAX_LISTENERS,
    FD_MAX_WORKERS,
    FD_PAGE,
    fd_board_t,
    fd_load32,
    fd_load64,
    fd_post_t,
    fd_region_t,
    fd_store32,
)
from fastdns._sys cimport (
    AF_INET,
    AF_INET6,
    EPOLL_CLOEXEC,
    EPOLL_CTL_DEL,
    EPOLLIN,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    ring_eventfd,
    watch,
)
from fastdns.keeper._addresses cimport (
    address_forget,
    address_keep,
    addresses_clear,
    addresses_init,
    addresses_t,
    addresses_tick,
)
from fastdns.keeper._children cimport (
    CHILD_DEAD,
    CHILD_IDLE,
    CHILD_KILLED,
    CHILD_RUNNING,
    CHILD_WAITING,
    SLOT_CONTROL,
    SLOT_COORDINATOR,
    SLOT_WORKER,
    child_died,
    child_killed,
    child_not_started,
    child_reaped,
    child_started,
    child_t,
    children_add,
    children_init,
    children_publish,
    children_t,
    children_tick,
    log_text,
)
from fastdns.keeper._groups cimport Group, group_steer, group_t

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef struct siginfo_t:
        int si_pid
        int si_code
        int si_status
    int sigemptyset(sigset_t *mask)
    int sigaddset(sigset_t *mask, int number)
    int sigprocmask(int how, const sigset_t *mask, sigset_t *old)
    int kill(int pid, int number)
    enum:
        SIG_BLOCK, SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGKILL, CLD_EXITED

cdef extern from "<sys/signalfd.h>" nogil:
    struct signalfd_siginfo:
        uint32_t ssi_signo
    int signalfd(int fd, const sigset_t *mask, int flags)
    enum:
        SFD_CLOEXEC, SFD_NONBLOCK

cdef extern from "<sys/timerfd.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)
    enum:
        CLOCK_MONOTONIC, TFD_CLOEXEC, TFD_NONBLOCK

cdef extern from "<sys/wait.h>" nogil:
    int waitid(int kind, int pid, siginfo_t *info, int options)
    int waitpid(int pid, int *status, int options)
    enum:
        P_ALL, P_PID, WEXITED, WNOHANG, WNOWAIT

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int madvise(void *addr, size_t length, int advice)
    enum:
        PROT_READ, PROT_WRITE, MAP_SHARED, MADV_DONTFORK
    void *MAP_FAILED

cdef extern from "<sys/socket.h>" nogil:
    long recv(int fd, void *data, size_t octets, int flags)
    int shutdown(int fd, int how)
    enum:
        MSG_PEEK, MSG_DONTWAIT, MSG_TRUNC, SHUT_RDWR

cdef extern from "<unistd.h>" nogil:
    long read(int fd, void *data, size_t octets)

cdef enum:
    TICK_NS = 100 * 1000 * 1000
    LATE_TICKS = 3               # a tick that stands for more than these came late
    STOP_IDLE_MS = 2000          # a stop with nothing pending
    STOP_MS = 5000               # any stop

cdef enum:                       # epoll data
    EVENT_SIGNAL = 0
    EVENT_TICK = 1
    EVENT_CHANNEL = 2

cdef enum:
    KIND_BEAT = 7                # protocol.Kind.BEAT; test_keeper_protocol compares them

cdef enum:                       # how far a stop has come
    STOP_NO = 0
    STOP_WORKERS = 1             # they finish what waits; the coordinator still answers them
    STOP_REST = 2
    STOP_KILLED = 3

cdef enum:                       # what `wait` comes back with
    ACTION_NONE = 0
    ACTION_FORK = 1
    ACTION_JOIN = 2
    ACTION_MESSAGE = 3
    ACTION_LEAVE = 4

FORK = ACTION_FORK
JOIN = ACTION_JOIN
MESSAGE = ACTION_MESSAGE
LEAVE = ACTION_LEAVE
BEAT = KIND_BEAT


cdef void *map_header(int fd, size_t size) noexcept nogil:
    # The first pages of a segment, for the keeper alone: a fork does not inherit them.
    cdef size_t octets = (size + FD_PAGE - 1) // FD_PAGE * FD_PAGE
    cdef void *base = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if base == MAP_FAILED or madvise(base, octets, MADV_DONTFORK) != 0:
        return NULL
    return base


cdef class Loop:
    """One for the life of the keeper. Children are numbered: control 0, coordinator 1, workers from 2."""

    cdef children_t children
    cdef addresses_t addresses
    cdef int epoll, signals, timer, channel
    cdef fd_post_t *post
    cdef fd_region_t *regions[16]
    cdef int wakes[17]           # the coordinator's, then the workers'
    cdef group_t *groups[64]
    cdef uint32_t group_count
    cdef uint32_t steered        # the `away` that the programs were made for
    cdef bint started
    cdef bint message
    cdef int stop
    cdef uint64_t stop_ms
    cdef int leave_code          # -1: stay
    cdef object held             # the groups, so that they live as long as their pointers

    def __cinit__(self):
        cdef sigset_t mask
        cdef itimerspec every
        cdef int number
        children_init(&self.children)
        addresses_init(&self.addresses)
        self.channel = -1
        self.leave_code = -1
        sigemptyset(&mask)
        for number in (SIGCHLD, SIGTERM, SIGINT, SIGHUP):
            sigaddset(&mask, number)
        sigprocmask(SIG_BLOCK, &mask, NULL)
        every.it_interval.tv_sec = every.it_value.tv_sec = 0
        every.it_interval.tv_nsec = every.it_value.tv_nsec = TICK_NS
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        self.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK)
        self.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
        if (self.epoll < 0 or self.signals < 0 or self.timer < 0
                or timerfd_settime(self.timer, 0, &every, NULL) != 0
                or watch(self.epoll, self.signals, EPOLLIN, EVENT_SIGNAL) != 0
                or watch(self.epoll, self.timer, EPOLLIN, EVENT_TICK) != 0):
            raise OSError(errno, f"the keeper's loop: {os.strerror(errno)}")

    # ------------------------------------------------------------------ asked by process.py

    def wait(self) -> tuple[int, int]:
        """What needs Python next: FORK or JOIN and a child's number, MESSAGE, or LEAVE and an exit code."""
        cdef int action, number = 0
        cdef uint64_t now_ms
        with nogil:
            while True:
                now_ms = boottime_ms()
                action = self.next_action(now_ms, &number)
                if action != ACTION_NONE:
                    break
                self.turn(now_ms)
        return action, number

    def set_channel(self, int channel):
        """The keeper's end of the pair with a control that is about to start. The caller owns it."""
        self.channel = channel
        self.message = False
        if watch(self.epoll, channel, EPOLLIN, EVENT_CHANNEL) != 0:
            raise OSError(errno, f"control's channel: {os.strerror(errno)}")

    def drop_channel(self):
        """Forget the channel, before it is closed."""
        if self.channel >= 0:
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, self.channel, NULL)
        self.channel = -1
        self.message = False

    def start(self, int board, int post, list regions, list wakes, list groups):
        """Take up the coordinator and a worker for each region; they are asked for by FORK.

        wakes: eventfds, the coordinator's first. groups: UDP and TCP of each listener.
        Raises OSError, ValueError; nothing is changed then.
        """
        cdef fd_board_t *board_base = <fd_board_t *>map_header(board, sizeof(fd_board_t))
        cdef fd_post_t *post_base = <fd_post_t *>map_header(post, sizeof(fd_post_t))
        cdef void *base
        cdef int i
        cdef Group group
        if board_base == NULL or post_base == NULL:
            raise OSError(errno, f"mmap of a segment's header: {os.strerror(errno)}")
        if board_base.magic != FD_MAGIC_BOARD or post_base.magic != FD_MAGIC_POST:
            raise ValueError("a segment is not what its name says")
        if self.started or not 1 <= len(regions) <= FD_MAX_WORKERS or len(wakes) != len(regions) + 1:
            raise ValueError("expected one start, with a region and an eventfd for each worker")
        if len(groups) > 2 * FD_MAX_LISTENERS:
            raise ValueError(f"{len(groups)} groups: expected {2 * FD_MAX_LISTENERS} at most")
        for i, region in enumerate(regions):
            base = map_header(region, sizeof(fd_region_t))
            if base == NULL:
                raise OSError(errno, f"mmap of a region's header: {os.strerror(errno)}")
            if (<fd_region_t *>base).magic != FD_MAGIC_REGION:
                raise ValueError("a region is not what its name says")
            self.regions[i] = <fd_region_t *>base
        for i, wake in enumerate(wakes):
            self.wakes[i] = wake
        for i, group in enumerate(groups):
            self.groups[i] = &group.state
        self.held = groups
        self.group_count = len(groups)
        self.post = post_base
        children_add(&self.children, len(regions))
        self.children.board = board_base
        self.addresses.board = board_base
        self.children.table[SLOT_COORDINATOR].heartbeat = &post_base.heartbeat
        for i in range(len(regions)):
            self.children.table[SLOT_WORKER + i].heartbeat = &self.regions[i].heartbeat
        children_publish(&self.children)
        self.started = True
        self.steer()

    def leave_to_kernel(self, int listener, bint plain):
        """Whether the kernel's choice is used for a listener's sockets instead of our program."""
        cdef Group group
        if not 0 <= 2 * listener + 1 < <int>self.group_count:
            raise ValueError(f"listener {listener}: there are {self.group_count // 2}")
        for group in self.held[2 * listener:2 * listener + 2]:
            group.state.plain = plain
        self.steer()

    def keep_address(self, int family, uint32_t interface, bytes octets, uint32_t lifetime_s):
        """Put an address on an interface now, and renew it while a worker moves; lifetime 0: for good.

        Raises OSError, ValueError.
        """
        cdef const uint8_t *data = octets
        cdef int error
        if len(octets) != {AF_INET: 4, AF_INET6: 16}.get(family):
            raise ValueError(f"an address of family {family} with {len(octets)} octets")
        error = address_keep(&self.addresses, family, interface, data, lifetime_s, boottime_ms())
        if error:
            raise OSError(error, os.strerror(error))

    def forget_address(self, int family, bytes octets, bint leave):
        """Renew an address no more, and take it from the node unless ``leave``. Raises OSError, ValueError."""
        cdef const uint8_t *data = octets
        cdef int error
        if len(octets) != {AF_INET: 4, AF_INET6: 16}.get(family):
            raise ValueError(f"an address of family {family} with {len(octets)} octets")
        error = address_forget(&self.addresses, family, data, leave)
        if error:
            raise OSError(error, os.strerror(error))

    def exit_after(self, uint32_t milliseconds):
        """Leave, with exit code 1, when no worker has moved for so long; 0: stay."""
        self.addresses.exit_after_ms = milliseconds

    def starting(self, uint32_t child):
        """Before the fork: count it in the child's segment, where it reads which start it is."""
        if child == SLOT_COORDINATOR:
            fd_store32(&self.post.starts, fd_load32(&self.post.starts) + 1)
        elif child >= SLOT_WORKER:
            fd_store32(&self.regions[child - SLOT_WORKER].starts,
                       fd_load32(&self.regions[child - SLOT_WORKER].starts) + 1)

    def has_started(self, uint32_t child, int pid):
        """The fork went well. Its death may have been signalled before we could know its PID."""
        child_started(&self.children, child, pid, boottime_ms())
        self.sweep(boottime_ms())

    def has_not_started(self, uint32_t child, int error):
        """The fork failed; it is asked for again after a while."""
        child_not_started(&self.children, child, error, boottime_ms())

    def has_joined(self, uint32_t child):
        """A dead child was reaped; others, and orphans, may have waited behind it."""
        child_reaped(&self.children, child)
        self.sweep(boottime_ms())

    # ------------------------------------------------------------------------ nogil

    cdef int next_action(self, uint64_t now_ms, int *number) noexcept nogil:
        cdef uint32_t slot
        cdef const child_t *child
        for slot in range(self.children.count):
            if self.children.table[slot].state == CHILD_DEAD:
                number[0] = <int>slot
                return ACTION_JOIN
        if self.stop != STOP_NO:
            self.stop_on(now_ms)
        if self.leave_code >= 0:
            addresses_clear(&self.addresses)     # at once, not when their lifetime is over
            number[0] = self.leave_code
            return ACTION_LEAVE
        if self.message:
            self.message = False
            return ACTION_MESSAGE
        if self.stop != STOP_NO:
            return ACTION_NONE
        for slot in range(self.children.count):
            child = &self.children.table[slot]
            if child.state == CHILD_WAITING and child.due_ms <= now_ms:
                number[0] = <int>slot
                return ACTION_FORK
        return ACTION_NONE

    cdef void turn(self, uint64_t now_ms) noexcept nogil:
        # Wait for the next event, but not past a child's due time. The ticks end any wait.
        cdef epoll_event events[4]
        cdef int i, count, timeout_ms = -1
        cdef uint32_t slot
        cdef const child_t *child
        for slot in range(self.children.count):
            child = &self.children.table[slot]
            if child.state != CHILD_WAITING:
                continue
            if timeout_ms < 0 or child.due_ms < now_ms + <uint64_t>timeout_ms:
                timeout_ms = <int>(child.due_ms - now_ms)
        count = epoll_wait(self.epoll, events, 4, timeout_ms)
        now_ms = boottime_ms()
        for i in range(count):
            if events[i].data.u64 == EVENT_SIGNAL:
                self.on_signals(now_ms)
            elif events[i].data.u64 == EVENT_TICK:
                self.on_tick(now_ms)
            elif events[i].data.u64 == EVENT_CHANNEL:
                self.on_channel()

    cdef void on_signals(self, uint64_t now_ms) noexcept nogil:
        cdef signalfd_siginfo one
        while read(self.signals, &one, sizeof(one)) == <long>sizeof(one):
            if one.ssi_signo == SIGCHLD:
                self.sweep(now_ms)
            elif one.ssi_signo == SIGHUP:
                log_text(b"[INFO] SIGHUP ignored: the options of this server can't change while it runs\n")
            elif self.stop == STOP_NO:
                self.begin_stop(now_ms)
            else:
                self.kill_all(now_ms)

    cdef void on_tick(self, uint64_t now_ms) noexcept nogil:
        cdef uint64_t passed = 0
        cdef int slot
        if read(self.timer, &passed, sizeof(passed)) != <long>sizeof(passed):
            return
        slot = children_tick(&self.children, passed > LATE_TICKS)
        if slot >= 0 and self.stop == STOP_NO:
            # Steered away first, so that nothing more is sent to what won't answer.
            child_killed(&self.children, <uint32_t>slot, True)
            self.steer()
            self.kill_child(<uint32_t>slot, now_ms)
        elif self.children.away != self.steered:
            self.steer()
        self.tend_addresses(passed > LATE_TICKS, now_ms)

    cdef void tend_addresses(self, bint late, uint64_t now_ms) noexcept nogil:
        cdef uint64_t beats = 0
        cdef uint32_t i
        if self.stop != STOP_NO:
            # Pending questions are answered from these addresses; a stop has a bound of its own.
            beats = self.addresses.beats + 1
        else:
            for i in range(self.children.count - SLOT_WORKER if self.started else 0):
                beats += fd_load64(&self.regions[i].heartbeat)
        if self.started and addresses_tick(&self.addresses, beats, late, now_ms):
            log_text(b"[ERROR] no worker moves, and nothing else would lead clients elsewhere: leaving\n")
            self.kill_all(now_ms)
            self.leave_code = 1

    cdef void on_channel(self) noexcept nogil:
        cdef uint32_t kind = 0
        cdef long octets = recv(self.channel, &kind, sizeof(kind), MSG_PEEK | MSG_DONTWAIT)
        if octets == <long>sizeof(kind) and kind == KIND_BEAT:
            recv(self.channel, &kind, sizeof(kind), MSG_DONTWAIT | MSG_TRUNC)
            self.children.control_beats += 1
        elif octets > 0:
            self.message = True
        elif octets == 0:
            # Closed at the other end: its death will follow, or its heartbeat will be missed.
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, self.channel, NULL)

    cdef void steer(self) noexcept nogil:
        # A program that is refused leaves the former one: a dead worker's packets wait for its successor.
        cdef uint32_t i
        for i in range(self.group_count):
            group_steer(self.groups[i], ~self.children.away)
        self.steered = self.children.away

    cdef void sweep(self, uint64_t now_ms) noexcept nogil:
        # See who has died. Ours stay zombies until Python joins them, so that multiprocess knows;
        # orphans that were given to us are reaped here.
        cdef siginfo_t info
        cdef uint32_t slot
        cdef child_t *child
        cdef int status
        for slot in range(self.children.count):
            child = &self.children.table[slot]
            if child.state != CHILD_RUNNING and child.state != CHILD_KILLED:
                continue
            memset(&info, 0, sizeof(info))
            if waitid(P_PID, child.pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0:
                if errno == ECHILD:
                    self.on_death(slot, 0, now_ms)   # reaped behind our back: gone all the same
            elif info.si_pid == child.pid:
                status = info.si_status << 8 if info.si_code == CLD_EXITED else info.si_status & 0x7f
                self.on_death(slot, status, now_ms)
        while True:
            memset(&info, 0, sizeof(info))
            if waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 or info.si_pid == 0:
                return
            for slot in range(self.children.count):
                if self.children.table[slot].pid == info.si_pid:
                    return       # joined by Python, which calls us again
            if waitpid(info.si_pid, NULL, WNOHANG) != info.si_pid:
                return

    cdef void on_death(self, uint32_t slot, int status, uint64_t now_ms) noexcept nogil:
        cdef bint again = self.stop == STOP_NO
        if slot == SLOT_CONTROL and not self.started and again and status & 0x7f == 0 and status != 0:
            # It has said why nothing can be served.
            self.leave_code = status >> 8
            again = False
        child_died(&self.children, slot, status, again, now_ms)
        if self.children.away != self.steered:
            self.steer()

    # ------------------------------------------------------------------------- stopping

    cdef void begin_stop(self, uint64_t now_ms) noexcept nogil:
        cdef uint32_t slot
        self.stop = STOP_WORKERS
        self.stop_ms = now_ms
        for slot in range(self.children.count):
            if self.children.table[slot].state == CHILD_WAITING:
                self.children.table[slot].state = CHILD_IDLE
        for slot in range(SLOT_WORKER, self.children.count):
            fd_store32(&self.regions[slot - SLOT_WORKER].stop, 1)
            ring_eventfd(self.wakes[1 + slot - SLOT_WORKER])

    cdef bint any_alive(self, uint32_t first) noexcept nogil:
        cdef uint32_t slot
        for slot in range(first, self.children.count):
            if self.children.table[slot].pid != 0:
                return True
        return False

    cdef bint any_pending(self) noexcept nogil:
        cdef uint32_t slot
        for slot in range(SLOT_WORKER, self.children.count):
            if self.children.table[slot].pid == 0:
                continue
            if fd_load32(&self.regions[slot - SLOT_WORKER].pending_used):
                return True
        return False

    cdef void kill_child(self, uint32_t slot, uint64_t now_ms) noexcept nogil:
        if kill(self.children.table[slot].pid, SIGKILL) != 0:
            self.sweep(now_ms)       # there is nobody: no signal will tell

    cdef void kill_all(self, uint64_t now_ms) noexcept nogil:
        cdef uint32_t slot
        self.stop = STOP_KILLED
        for slot in range(self.children.count):
            if self.children.table[slot].state == CHILD_RUNNING:
                child_killed(&self.children, slot, False)
                self.kill_child(slot, now_ms)

    cdef void stop_on(self, uint64_t now_ms) noexcept nogil:
        cdef uint64_t passed_ms = now_ms - self.stop_ms
        if not self.any_alive(0):
            if self.leave_code < 0:
                self.leave_code = 0
            return
        if self.stop == STOP_WORKERS and not self.any_alive(SLOT_WORKER):
            self.stop = STOP_REST
            if self.started:
                fd_store32(&self.post.stop, 1)
                ring_eventfd(self.wakes[0])
            if self.channel >= 0:
                shutdown(self.channel, SHUT_RDWR)
        if self.stop != STOP_KILLED and (passed_ms >= STOP_MS
                                         or (passed_ms >= STOP_IDLE_MS and not self.any_pending())):
            self.kill_all(now_ms)
