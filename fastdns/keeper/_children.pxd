# SPDX-License-Identifier: Apache-2.0
# _children.pxd: the keeper's table of children: starts, deaths, back-off, heartbeats. nogil.
# Time is an argument (CLOCK_BOOTTIME, ms). The only system calls are those of a log line.
from libc.stdint cimport int32_t, uint32_t, uint64_t

from fastdns._shm cimport fd_board_t

cdef enum:
    SLOT_CONTROL = 0
    SLOT_COORDINATOR = 1
    SLOT_WORKER = 2              # the first of them

cdef enum:                       # child_t.state
    CHILD_IDLE = 0               # not asked for yet, or left when it was told to
    CHILD_WAITING = 1            # to be started at due_ms
    CHILD_RUNNING = 2
    CHILD_KILLED = 3             # SIGKILL sent, not seen dead yet
    CHILD_DEAD = 4               # not reaped yet

ctypedef struct child_t:
    uint32_t role
    uint32_t index
    uint32_t state
    int pid
    const uint64_t *heartbeat    # in its segment; control's is counted here
    uint64_t seen                # the heartbeat at the last tick
    uint32_t still               # ticks since it moved
    uint32_t limit               # ticks that it may stand still
    bint moved                   # since this start
    uint32_t early               # deaths in a row within EARLY_MS of their start
    uint64_t due_ms
    uint64_t started_ms
    uint64_t died_ms
    uint32_t restarts
    uint32_t stuck
    int32_t last_status          # as wait(2) has it
    uint32_t made                # children_t.roll when it was started
    bint asked                   # told to leave for a successor: its end is no death
    bint revived                 # the next start follows a death

ctypedef struct children_t:
    child_t table[18]            # FD_MAX_WORKERS + 2
    uint32_t count
    uint32_t away                # a bit for each worker that gets no new packets
    uint32_t leaving             # likewise for new connections: it was told to leave
    uint32_t roll                # rolling restarts so far; children started before the last are to be replaced
    int replacing                # the slot that is replaced for being stuck, or -1
    int last_stuck
    uint64_t control_beats
    fd_board_t *board            # NULL until there is one

# Control alone, waiting for its start.
cdef void children_init(children_t *children) noexcept nogil

# Let the coordinator and `workers` workers wait for their start. Their heartbeats are set by the caller.
cdef void children_add(children_t *children, uint32_t workers) noexcept nogil

cdef void child_started(children_t *children, uint32_t slot, int pid, uint64_t now_ms) noexcept nogil

# A fork that failed, by its errno: tried again as after a death.
cdef void child_not_started(children_t *children, uint32_t slot, int error, uint64_t now_ms) noexcept nogil

# The child is dead (not reaped yet); `again`: it is to be started once more.
cdef void child_died(children_t *children, uint32_t slot, int status, bint again,
                     uint64_t now_ms) noexcept nogil

# The child was reaped.
cdef void child_reaped(children_t *children, uint32_t slot) noexcept nogil

# It was told to leave, and a successor is to follow.
cdef void child_asked(children_t *children, uint32_t slot) noexcept nogil

# Its work has begun: no need to wait for a tick to see it.
cdef void child_serves(children_t *children, uint32_t slot) noexcept nogil

# SIGKILL has been sent to it.
cdef void child_killed(children_t *children, uint32_t slot, bint stuck) noexcept nogil

# The keeper's tick. `late`: it came late itself, so nobody's silence counts.
# Returns the slot of a child that is stuck and should be killed, or -1.
cdef int children_tick(children_t *children, bint late) noexcept nogil

# Copy what is known to the board.
cdef void children_publish(children_t *children) noexcept nogil

# One line on stderr; dropped rather than waited for when nobody reads.
cdef void log_text(const char *line) noexcept nogil
