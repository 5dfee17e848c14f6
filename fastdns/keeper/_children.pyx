# SPDX-License-Identifier: Apache-2.0
"""The keeper's table of children: when to start one, and when one is stuck (design, "Deaths")."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset, strerror, strlen

from fastdns._shm cimport (
    FD_CHILD_NONE,
    FD_CHILD_RUNNING,
    FD_CHILD_STOPPED,
    FD_CHILD_WAITING,
    FD_MAX_WORKERS,
    FD_ROLE_CONTROL,
    FD_ROLE_COORDINATOR,
    FD_ROLE_WORKER,
    fd_child_t,
    fd_load64,
    fd_store32,
    fd_store64,
)
from fastdns._sys cimport POLLOUT, poll, pollfd, write

cdef enum:
    TICK_MS = 100
    EARLY_MS = 1000              # a death within this of the start counts for the back-off
    BACKOFF_FREE = 2             # that many early deaths cost nothing
    BACKOFF_FIRST_MS = 50
    BACKOFF_MAX_MS = 2000
    STUCK_TICKS = 15             # workers and coordinator: their loops never sleep longer than 100 ms
    STUCK_START_TICKS = 50       # until the first move: a start reads files and touches memory
    STUCK_CONTROL_TICKS = 150    # Python, on a node that may be short of CPU

cdef enum:
    LINE = 256                   # octets of a log line; a pipe takes it whole (PIPE_BUF)

cdef const char *ROLE_NAMES[4]
ROLE_NAMES[0] = b"?"
ROLE_NAMES[1] = b"control"
ROLE_NAMES[2] = b"coordinator"
ROLE_NAMES[3] = b"worker"


cdef void log_text(const char *line) noexcept nogil:
    # A keeper that waits for a reader of its log keeps nobody: what can't be written now is lost.
    cdef pollfd ready
    ready.fd = 2
    ready.events = POLLOUT
    ready.revents = 0
    if poll(&ready, 1, 0) == 1 and ready.revents & POLLOUT:
        write(2, line, strlen(line))


cdef int name_of(const child_t *child, char *out, size_t size) noexcept nogil:
    if child.role == <uint32_t>FD_ROLE_WORKER:
        return snprintf(out, size, b"worker %u", child.index)
    return snprintf(out, size, b"%s", ROLE_NAMES[child.role & 3])


cdef void children_init(children_t *children) noexcept nogil:
    memset(children, 0, sizeof(children_t))
    children.count = 1
    children.replacing = -1
    children.last_stuck = -1
    children.table[SLOT_CONTROL].role = FD_ROLE_CONTROL
    children.table[SLOT_CONTROL].limit = STUCK_CONTROL_TICKS
    children.table[SLOT_CONTROL].heartbeat = &children.control_beats
    children.table[SLOT_CONTROL].state = CHILD_WAITING


cdef void children_add(children_t *children, uint32_t workers) noexcept nogil:
    cdef uint32_t slot
    if workers > <uint32_t>FD_MAX_WORKERS:
        workers = FD_MAX_WORKERS
    children.count = SLOT_WORKER + workers
    for slot in range(SLOT_COORDINATOR, children.count):
        memset(&children.table[slot], 0, sizeof(child_t))
        children.table[slot].role = FD_ROLE_COORDINATOR if slot == SLOT_COORDINATOR else FD_ROLE_WORKER
        children.table[slot].index = slot - SLOT_WORKER if slot >= SLOT_WORKER else 0
        children.table[slot].limit = STUCK_TICKS
        children.table[slot].state = CHILD_WAITING


cdef void steer_from(children_t *children, const child_t *child, bint away) noexcept nogil:
    cdef uint32_t bit
    if child.role != <uint32_t>FD_ROLE_WORKER:
        return
    bit = <uint32_t>1 << child.index
    children.away = children.away | bit if away else children.away & ~bit


cdef void child_started(children_t *children, uint32_t slot, int pid, uint64_t now_ms) noexcept nogil:
    cdef child_t *child = &children.table[slot]
    child.state = CHILD_RUNNING
    child.pid = pid
    child.started_ms = now_ms
    child.seen = fd_load64(child.heartbeat) if child.heartbeat != NULL else 0
    child.still = 0
    child.moved = False
    child.made = children.roll
    child.asked = False
    if child.role == <uint32_t>FD_ROLE_WORKER:
        children.leaving &= ~(<uint32_t>1 << child.index)
    if child.revived:
        child.restarts += 1
        child.revived = False
    children_publish(children)


cdef uint32_t backoff_ms(uint32_t early) noexcept nogil:
    # 0, 0, 50 ms, doubling to 2 s.
    if early <= <uint32_t>BACKOFF_FREE:
        return 0
    early -= BACKOFF_FREE + 1
    if early > 5:                # 50 << 6 is past the most
        return BACKOFF_MAX_MS
    return <uint32_t>BACKOFF_FIRST_MS << early


cdef void child_not_started(children_t *children, uint32_t slot, int error, uint64_t now_ms) noexcept nogil:
    cdef child_t *child = &children.table[slot]
    cdef char name[32]
    cdef char line[LINE]
    cdef uint32_t delay
    child.early += 1
    delay = backoff_ms(child.early)
    if delay < <uint32_t>BACKOFF_FIRST_MS:
        delay = BACKOFF_FIRST_MS     # what the machine lacks it won't have at once
    child.state = CHILD_WAITING
    child.due_ms = now_ms + delay
    name_of(child, name, sizeof(name))
    snprintf(line, LINE, b"[ERROR] %s: fork failed (%s); again in %u ms\n",
             name, strerror(error), delay)
    log_text(line)
    children_publish(children)


cdef void log_death(const child_t *child, int status, uint64_t lived_ms, uint32_t delay) noexcept nogil:
    cdef char name[32]
    cdef char how[48]
    cdef char line[LINE]
    cdef int number = status & 0x7f
    name_of(child, name, sizeof(name))
    if number:
        snprintf(how, sizeof(how), b"killed by signal %d", number)
    else:
        snprintf(how, sizeof(how), b"left with code %d", (status >> 8) & 0xff)
    snprintf(line, LINE, b"[WARNING] %s (pid %d) %s after %llu ms; restart %u in %u ms\n",
             name, child.pid, how, <unsigned long long>lived_ms, child.restarts + 1, delay)
    log_text(line)


cdef void child_died(children_t *children, uint32_t slot, int status, bint again,
                     uint64_t now_ms) noexcept nogil:
    cdef child_t *child = &children.table[slot]
    cdef uint64_t lived_ms = now_ms - child.started_ms
    cdef uint32_t delay
    child.state = CHILD_DEAD
    child.due_ms = 0
    steer_from(children, child, True)
    if child.asked and again and status == 0:
        child.due_ms = now_ms
        children_publish(children)
        return
    child.died_ms = now_ms
    child.last_status = status
    if again:
        child.revived = True
        child.early = child.early + 1 if lived_ms < <uint64_t>EARLY_MS else 0
        delay = backoff_ms(child.early)
        child.due_ms = now_ms + delay
        log_death(child, status, lived_ms, delay)
    children_publish(children)


cdef void child_reaped(children_t *children, uint32_t slot) noexcept nogil:
    cdef child_t *child = &children.table[slot]
    child.pid = 0
    child.state = CHILD_WAITING if child.due_ms else CHILD_IDLE
    children_publish(children)


cdef void child_asked(children_t *children, uint32_t slot) noexcept nogil:
    cdef child_t *child = &children.table[slot]
    child.asked = True
    if child.role == <uint32_t>FD_ROLE_WORKER:
        children.leaving |= <uint32_t>1 << child.index


cdef void child_serves(children_t *children, uint32_t slot) noexcept nogil:
    cdef child_t *child = &children.table[slot]
    child.moved = True
    steer_from(children, child, False)


cdef void child_killed(children_t *children, uint32_t slot, bint stuck) noexcept nogil:
    cdef child_t *child = &children.table[slot]
    cdef char name[32]
    cdef char line[LINE]
    child.state = CHILD_KILLED
    steer_from(children, child, True)
    name_of(child, name, sizeof(name))
    if stuck:
        child.stuck += 1
        children.replacing = <int>slot
        children.last_stuck = <int>slot
        snprintf(line, LINE, b"[ERROR] %s (pid %d) stood still for %u ms; killed\n",
                 name, child.pid, child.still * TICK_MS)
        log_text(line)
    children_publish(children)


cdef void look(children_t *children, uint32_t slot, bint late) noexcept nogil:
    # Compare the heartbeat with the last tick's.
    cdef child_t *child = &children.table[slot]
    cdef uint64_t beat
    if child.state != CHILD_RUNNING or child.heartbeat == NULL:
        return
    beat = fd_load64(child.heartbeat)
    if beat != child.seen:
        child.seen = beat
        child.still = 0
        if not child.moved:
            child.moved = True
            steer_from(children, child, False)
        if children.replacing == <int>slot:
            children.replacing = -1
    elif late:
        child.still = 0
    else:
        child.still += 1


cdef bint is_stuck(const child_t *child) noexcept nogil:
    cdef uint32_t limit = child.limit
    if not child.moved and limit < <uint32_t>STUCK_START_TICKS:
        limit = STUCK_START_TICKS
    return child.state == CHILD_RUNNING and child.still >= limit


cdef int children_tick(children_t *children, bint late) noexcept nogil:
    cdef uint32_t i, slot
    if children.board != NULL:
        fd_store64(&children.board.ticks, fd_load64(&children.board.ticks) + 1)
        if late:
            fd_store64(&children.board.late_ticks, fd_load64(&children.board.late_ticks) + 1)
    for slot in range(children.count):
        look(children, slot, late)
    # One at a time: when all stand still it is the machine, and killing them all helps nobody.
    # A successor that doesn't move either makes room for the next in turn.
    if children.replacing >= 0 and not is_stuck(&children.table[children.replacing]):
        return -1
    for i in range(children.count):
        slot = (<uint32_t>(children.last_stuck + 1) + i) % children.count
        if is_stuck(&children.table[slot]):
            return <int>slot
    return -1


cdef void children_publish(children_t *children) noexcept nogil:
    cdef uint32_t slot, state
    cdef const child_t *child
    cdef fd_child_t *out
    if children.board == NULL:
        return
    for slot in range(children.count):
        child = &children.table[slot]
        out = &children.board.children[slot]
        if child.state == CHILD_RUNNING or child.state == CHILD_KILLED:
            state = FD_CHILD_RUNNING
        elif child.due_ms or child.state == CHILD_WAITING:
            state = FD_CHILD_WAITING
        else:
            state = FD_CHILD_STOPPED if child.died_ms else FD_CHILD_NONE
        fd_store32(&out.state, state)
        fd_store32(&out.pid, <uint32_t>child.pid if state == <uint32_t>FD_CHILD_RUNNING else 0)
        fd_store32(&out.restarts, child.restarts)
        fd_store32(&out.stuck, child.stuck)
        fd_store64(&out.started_ms, child.started_ms)
        fd_store64(&out.died_ms, child.died_ms)
        fd_store32(&out.last_status, <uint32_t>child.last_status)
