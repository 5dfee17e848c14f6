# SPDX-License-Identifier: Apache-2.0
"""The keeper's loop: signals, ticks of 100 ms and control's messages, without the GIL.

``Loop.wait`` comes back to Python only to fork a child, to join a dead one, to read a message
of control, to close what a finished rolling restart left, or to leave.

A stop: control is told first (the node's rules go before the sockets do) and says when it is ready;
a control that is dead or silent is not waited for. Then the workers finish, then the coordinator and
control are told to leave.
"""

import os

from libc.errno cimport ECHILD, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._segments cimport boottime_ms
from fastdns._shm cimport FD_STOP_DRAIN, FD_STOP_NOW, FD_STOP_ROLL, fd_load64
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
    watch,
)
from fastdns.keeper._addresses cimport (
    address_forget,
    address_keep,
    addresses_clear,
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
    children_tick,
    log_text,
)
from fastdns.keeper._mailbox cimport (
    EVENT_FAILED,
    EVENT_RELOAD,
    EVENT_ROLLED,
    EVENT_STOPPING,
    event_t,
    mailbox_done,
    mailbox_forget,
    mailbox_put,
    mailbox_send,
    mailbox_t,
)
from fastdns.keeper._plane cimport Plane
from fastdns.keeper._posix cimport (
    CLD_EXITED,
    CLOCK_MONOTONIC,
    MSG_DONTWAIT,
    MSG_PEEK,
    MSG_TRUNC,
    P_ALL,
    P_PID,
    SFD_CLOEXEC,
    SFD_NONBLOCK,
    SHUT_RDWR,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    SIG_BLOCK,
    TFD_CLOEXEC,
    TFD_NONBLOCK,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    itimerspec,
    kill,
    read,
    recv,
    shutdown,
    sigaddset,
    sigemptyset,
    siginfo_t,
    signalfd,
    signalfd_siginfo,
    sigprocmask,
    sigset_t,
    timerfd_create,
    timerfd_settime,
    waitid,
    waitpid,
)
from fastdns.keeper._roll cimport (
    ROLL_ASK,
    ROLL_DONE,
    ROLL_FAILED,
    ROLL_HURRY,
    ROLL_KILL,
    ROLL_NOTHING,
    roll_begin,
    roll_death,
    roll_step,
    roll_t,
)

cdef enum:
    TICK_NS = 100 * 1000 * 1000
    LATE_TICKS = 3               # a tick that stands for more than these came late
    ROLL_TURN_MS = 10            # between two looks at a rolling restart
    STOP_IDLE_MS = 2000          # a stop with nothing pending
    STOP_MS = 5000               # any stop, from when the workers were told
    STOP_CONTROL_MS = 2000       # control's first word when it was told of a stop, and its margin
    STOP_PREPARE_MAX_MS = 600000

cdef enum:                       # epoll data
    EVENT_SIGNAL = 0
    EVENT_TICK = 1
    EVENT_CHANNEL = 2

cdef enum:
    KIND_BEAT = 7                # protocol.Kind.BEAT

cdef enum:                       # how far a stop has come
    STOP_NO = 0
    STOP_PREPARE = 1             # control does what comes before; all is served still
    STOP_WORKERS = 2             # they finish what waits; the coordinator still answers them
    STOP_REST = 3
    STOP_KILLED = 4

cdef enum:                       # what `wait` comes back with
    ACTION_NONE = 0
    ACTION_FORK = 1
    ACTION_JOIN = 2
    ACTION_MESSAGE = 3
    ACTION_LEAVE = 4
    ACTION_ROLLED = 5
    ACTION_FAILED = 6

FORK = ACTION_FORK
JOIN = ACTION_JOIN
MESSAGE = ACTION_MESSAGE
LEAVE = ACTION_LEAVE
ROLLED = ACTION_ROLLED
FAILED = ACTION_FAILED
KINDS = {
    "BEAT": KIND_BEAT, "RELOAD": EVENT_RELOAD, "ROLLED": EVENT_ROLLED, "STOPPING": EVENT_STOPPING,
    "FAILED": EVENT_FAILED,
}
EVENT_LEN = sizeof(event_t)


cdef class Loop(Plane):
    """One for the life of the keeper. Children are numbered: control 0, coordinator 1, workers from 2."""

    cdef int epoll, signals, timer, channel
    cdef bint message
    cdef roll_t roll
    cdef uint32_t roll_config    # its number: workers follow when the whole cache agrees with it
    cdef int roll_end            # ROLLED or FAILED, of which Python has not been told yet
    cdef mailbox_t mailbox
    cdef int stop
    cdef uint64_t stop_ms
    cdef int leave_code          # -1: stay
    cdef int leave_later         # once all have left

    def __cinit__(self):
        cdef sigset_t mask
        cdef itimerspec every
        cdef int number
        self.channel = self.mailbox.channel = -1
        self.leave_code = -1
        sigemptyset(&mask)
        for number in (SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2):
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
        """What needs Python next: FORK or JOIN and a child's number, MESSAGE, ROLLED, FAILED, LEAVE and a code."""
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
        mailbox_forget(&self.mailbox)

    def listens(self):
        """Control reads what is sent to it from now on."""
        self.mailbox.channel = self.channel

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

    def begin_roll(self, uint32_t config):
        """Replace the coordinator, then the workers, one by one; then comes ROLLED, or FAILED if they die of it.

        config: its number; workers follow when the whole cache agrees with it.
        """
        self.roll_config = config
        self.roll_end = ACTION_NONE
        roll_begin(&self.roll, &self.children)

    @property
    def rolling(self) -> bool:
        """Whether a rolling restart is under way."""
        return self.roll.on

    def reload_done(self, uint64_t serial):
        """Control is done with a reload that it was told of."""
        mailbox_done(&self.mailbox, serial)

    def tell_rolled(self, uint32_t config):
        """Send control word of a rolling restart that is done."""
        mailbox_put(&self.mailbox, EVENT_ROLLED, config)

    def tell_failed(self, uint32_t config):
        """Send control word of one that was given up."""
        mailbox_put(&self.mailbox, EVENT_FAILED, config)

    def stop_in(self, uint64_t ready_ms, int code):
        """Control's word on a stop: it will be ready in so many ms; 0: now, leave with `code`."""
        cdef uint64_t now_ms = boottime_ms()
        if self.stop > STOP_PREPARE:
            return
        if ready_ms == 0:
            if code:
                self.leave_later = code
            self.begin_stop(now_ms)
        else:
            self.stop = STOP_PREPARE
            self.stop_ms = now_ms + min(ready_ms, <uint64_t>STOP_PREPARE_MAX_MS) + STOP_CONTROL_MS

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
        cdef int end = self.roll_end
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
        if self.stop > STOP_PREPARE:
            return ACTION_NONE
        if end != ACTION_NONE:
            self.roll_end = ACTION_NONE
            return end
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
        if self.roll.on and (timeout_ms < 0 or timeout_ms > ROLL_TURN_MS):
            timeout_ms = ROLL_TURN_MS
        count = epoll_wait(self.epoll, events, 4, timeout_ms)
        now_ms = boottime_ms()
        for i in range(count):
            if events[i].data.u64 == EVENT_SIGNAL:
                self.on_signals(now_ms)
            elif events[i].data.u64 == EVENT_TICK:
                self.on_tick(now_ms)
            elif events[i].data.u64 == EVENT_CHANNEL:
                self.on_channel()
        if self.roll.on and self.stop == STOP_NO:
            self.roll_on(now_ms)
        mailbox_send(&self.mailbox)

    cdef void on_signals(self, uint64_t now_ms) noexcept nogil:
        cdef signalfd_siginfo one
        while read(self.signals, &one, sizeof(one)) == <long>sizeof(one):
            if one.ssi_signo == SIGCHLD:
                self.sweep(now_ms)
            elif one.ssi_signo == SIGHUP or one.ssi_signo == SIGUSR1:
                mailbox_put(&self.mailbox, EVENT_RELOAD, one.ssi_signo)
            elif one.ssi_signo == SIGUSR2:
                log_text(b"[INFO] SIGUSR2 ignored: a new image is started by the DaemonSet\n")
            elif self.stop != STOP_NO:
                self.kill_all(now_ms)
            elif (self.started and self.mailbox.channel >= 0
                    and self.children.table[SLOT_CONTROL].state == CHILD_RUNNING):
                self.stop = STOP_PREPARE
                self.stop_ms = now_ms + STOP_CONTROL_MS
                mailbox_put(&self.mailbox, EVENT_STOPPING, one.ssi_signo)
            else:
                self.begin_stop(now_ms)

    cdef void on_tick(self, uint64_t now_ms) noexcept nogil:
        cdef uint64_t passed = 0
        cdef int slot
        if read(self.timer, &passed, sizeof(passed)) != <long>sizeof(passed):
            return
        slot = children_tick(&self.children, passed > LATE_TICKS)
        if slot >= 0 and self.stop <= STOP_PREPARE:
            # Steered away first, so that nothing more is sent to what won't answer.
            child_killed(&self.children, <uint32_t>slot, True)
            self.steer()
            self.kill_child(<uint32_t>slot, now_ms)
        elif self.unsteered():
            self.steer()
        self.tend_addresses(passed > LATE_TICKS, now_ms)

    cdef void tend_addresses(self, bint late, uint64_t now_ms) noexcept nogil:
        cdef uint64_t beats = 0
        cdef uint32_t i
        if self.stop > STOP_PREPARE:
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

    cdef void roll_on(self, uint64_t now_ms) noexcept nogil:
        cdef uint32_t slot = self.roll.slot
        cdef int step = roll_step(&self.roll, &self.children, self.serves(slot, self.roll_config), now_ms)
        while step != ROLL_NOTHING:
            if step == ROLL_ASK:
                self.tell_child(slot, FD_STOP_ROLL)
            elif step == ROLL_HURRY:
                self.tell_child(slot, FD_STOP_NOW)
            elif step == ROLL_KILL:
                child_killed(&self.children, slot, False)
                self.kill_child(slot, now_ms)
            elif step == ROLL_DONE:
                self.roll_end = ACTION_ROLLED
            elif step == ROLL_FAILED:
                self.roll_end = ACTION_FAILED
            slot = self.roll.slot
            if not self.roll.on:
                break
            step = roll_step(&self.roll, &self.children, self.serves(slot, self.roll_config), now_ms)
        if self.unsteered():
            self.steer()

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
        cdef bint again = self.stop == STOP_NO or (self.stop == STOP_PREPARE and slot != SLOT_CONTROL)
        if slot == SLOT_CONTROL and not self.started and again and status & 0x7f == 0 and status != 0:
            # It has said why nothing can be served.
            self.leave_code = status >> 8
            again = False
        roll_death(&self.roll, &self.children, &self.children.table[slot], now_ms)
        child_died(&self.children, slot, status, again, now_ms)
        if self.unsteered():
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
            self.tell_child(slot, FD_STOP_DRAIN)

    cdef void kill_child(self, uint32_t slot, uint64_t now_ms) noexcept nogil:
        if kill(self.children.table[slot].pid, SIGKILL) != 0:
            self.sweep(now_ms)       # there is nobody: no signal will tell

    cdef void kill_all(self, uint64_t now_ms) noexcept nogil:
        self.stop = STOP_KILLED
        self.kill_from(SLOT_CONTROL, now_ms)

    cdef void kill_from(self, uint32_t first, uint64_t now_ms) noexcept nogil:
        cdef uint32_t slot
        for slot in range(first, self.children.count):
            if self.children.table[slot].state == CHILD_RUNNING:
                child_killed(&self.children, slot, False)
                self.kill_child(slot, now_ms)

    cdef void stop_on(self, uint64_t now_ms) noexcept nogil:
        cdef uint64_t passed_ms
        if self.stop == STOP_PREPARE:
            if self.children.table[SLOT_CONTROL].state == CHILD_RUNNING and now_ms < self.stop_ms:
                return
            self.begin_stop(now_ms)
        passed_ms = now_ms - self.stop_ms
        if not self.any_alive(0):
            if self.leave_code < 0:
                self.leave_code = self.leave_later
            return
        if self.stop == STOP_WORKERS and not self.any_alive(SLOT_WORKER):
            self.stop = STOP_REST
            addresses_clear(&self.addresses)     # nobody is behind them any more
            if self.started:
                self.tell_child(SLOT_COORDINATOR, FD_STOP_NOW)   # nobody waits for an answer
            if self.channel >= 0:
                shutdown(self.channel, SHUT_RDWR)
            self.stop_ms = now_ms
        elif self.stop == STOP_REST and passed_ms >= STOP_IDLE_MS:
            self.kill_all(now_ms)
        elif self.stop == STOP_WORKERS and (passed_ms >= STOP_MS
                                            or (passed_ms >= STOP_IDLE_MS and not self.any_pending())):
            self.kill_from(SLOT_WORKER, now_ms)
