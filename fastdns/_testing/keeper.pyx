# SPDX-License-Identifier: Apache-2.0
"""The keeper's table of children with a clock and heartbeats of the test's own."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._segments cimport map_segment
from fastdns._shm cimport fd_board_t
from fastdns.keeper._addresses cimport (
    address_forget,
    address_keep,
    addresses_clear,
    addresses_init,
    addresses_t,
    addresses_tick,
)
from fastdns.keeper._mailbox cimport (
    EVENT_FAILED,
    EVENT_RELOAD,
    EVENT_ROLLED,
    EVENT_STOPPING,
    mailbox_done,
    mailbox_forget,
    mailbox_put,
    mailbox_send,
    mailbox_t,
)
from fastdns.keeper._roll cimport (
    ROLL_ASK,
    ROLL_DONE,
    ROLL_FAILED,
    ROLL_HURRY,
    ROLL_KILL,
    ROLL_NEXT,
    ROLL_NOTHING,
    roll_begin,
    roll_death,
    roll_step,
    roll_t,
)
from fastdns.keeper._children cimport (
    CHILD_DEAD,
    CHILD_IDLE,
    CHILD_KILLED,
    CHILD_RUNNING,
    CHILD_WAITING,
    child_died,
    child_killed,
    child_not_started,
    child_reaped,
    child_started,
    child_t,
    children_add,
    children_init,
    children_t,
    children_tick,
)

_STATES = {
    CHILD_IDLE: "idle",
    CHILD_WAITING: "waiting",
    CHILD_RUNNING: "running",
    CHILD_KILLED: "killed",
    CHILD_DEAD: "dead",
}


_STEPS = {
    ROLL_NOTHING: "nothing",
    ROLL_ASK: "ask",
    ROLL_HURRY: "hurry",
    ROLL_KILL: "kill",
    ROLL_NEXT: "next",
    ROLL_DONE: "done",
    ROLL_FAILED: "failed",
}


cdef class Table:
    """Control, the coordinator and some workers, all waiting for their start."""

    cdef children_t children
    cdef uint64_t beats[18]
    cdef roll_t roll

    def __cinit__(self, int workers, int board=-1):
        cdef uint64_t size = 0
        cdef int slot
        memset(self.beats, 0, sizeof(self.beats))
        children_init(&self.children)
        children_add(&self.children, workers)
        for slot in range(1, 2 + workers):
            self.children.table[slot].heartbeat = &self.beats[slot]
        if board >= 0:
            self.children.board = <fd_board_t *>map_segment(board, True, &size)

    def start(self, int slot, int pid, uint64_t now_ms):
        child_started(&self.children, slot, pid, now_ms)

    def fail(self, int slot, int error, uint64_t now_ms):
        child_not_started(&self.children, slot, error, now_ms)

    def die(self, int slot, int status, uint64_t now_ms, bint again=True):
        roll_death(&self.roll, &self.children, &self.children.table[slot], now_ms)
        child_died(&self.children, slot, status, again, now_ms)

    def reap(self, int slot):
        child_reaped(&self.children, slot)

    def kill(self, int slot):
        child_killed(&self.children, slot, True)

    def begin_roll(self):
        roll_begin(&self.roll, &self.children)

    def step(self, bint serves, uint64_t now_ms) -> tuple[str, int]:
        """What a step asks for, and of which slot."""
        cdef uint32_t slot = self.roll.slot
        return _STEPS[roll_step(&self.roll, &self.children, serves, now_ms)], slot

    def facts(self, int slot) -> dict[str, int]:
        cdef const child_t *child = &self.children.table[slot]
        return {"restarts": child.restarts, "early": child.early, "died_ms": child.died_ms}

    @property
    def leaving(self) -> int:
        return self.children.leaving

    def beat(self, *slots):
        for slot in slots:
            if slot == 0:
                self.children.control_beats += 1
            else:
                self.beats[<int>slot] += 1

    def tick(self, bint late=False) -> int:
        return children_tick(&self.children, late)

    def state(self, int slot) -> str:
        return _STATES[self.children.table[slot].state]

    def due_ms(self, int slot) -> int:
        return self.children.table[slot].due_ms

    @property
    def away(self) -> int:
        return self.children.away


cdef class Addresses:
    """The node's addresses, with a clock and heartbeats of the test's own; the kernel is the real one."""

    cdef addresses_t addresses

    def __cinit__(self):
        addresses_init(&self.addresses)

    def __dealloc__(self):
        addresses_clear(&self.addresses)

    def keep(self, int family, uint32_t interface, bytes octets, uint32_t lifetime_s, uint64_t now_ms):
        return address_keep(&self.addresses, family, interface, <const uint8_t *>octets, lifetime_s, now_ms)

    def forget(self, int family, bytes octets, bint leave=False):
        return address_forget(&self.addresses, family, <const uint8_t *>octets, leave)

    def tick(self, uint64_t beats, uint64_t now_ms, bint late=False):
        return addresses_tick(&self.addresses, beats, late, now_ms)

    def clear(self):
        addresses_clear(&self.addresses)

    def exit_after(self, uint32_t milliseconds):
        self.addresses.exit_after_ms = milliseconds

    @property
    def state(self):
        return {
            "count": self.addresses.count,
            "away": bool(self.addresses.away),
            "trips": self.addresses.trips,
            "returns": self.addresses.returns,
            "renewals": self.addresses.renewals,
            "return_ms": self.addresses.return_ms,
        }


cdef class Mailbox:
    """The keeper's events, with readers of the test's own."""

    RELOAD = EVENT_RELOAD
    ROLLED = EVENT_ROLLED
    STOPPING = EVENT_STOPPING
    FAILED = EVENT_FAILED

    cdef mailbox_t mailbox

    def __cinit__(self):
        memset(&self.mailbox, 0, sizeof(self.mailbox))
        self.mailbox.channel = -1

    def read_by(self, int channel):
        self.mailbox.channel = channel
        mailbox_send(&self.mailbox)

    def put(self, uint32_t kind, uint64_t word):
        mailbox_put(&self.mailbox, kind, word)

    def done(self, uint64_t serial):
        mailbox_done(&self.mailbox, serial)

    def forget(self):
        mailbox_forget(&self.mailbox)
