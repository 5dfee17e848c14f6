# SPDX-License-Identifier: Apache-2.0
"""What the keeper sees of coordinator and workers: their segments' headers, their sockets, their stop words.

``_loop`` decides; what it decides upon, and how it is done, stands here.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport uint32_t
from libc.string cimport memset

from fastdns._shm cimport (
    FD_MAGIC_BOARD,
    FD_MAGIC_POST,
    FD_MAGIC_REGION,
    FD_MAX_LISTENERS,
    FD_MAX_WORKERS,
    FD_PAGE,
    FD_STOP_NO,
    FD_STOP_NOW,
    FD_STOP_ROLL,
    fd_board_t,
    fd_load32,
    fd_post_t,
    fd_region_t,
    fd_store32,
)
from fastdns._sys cimport ring_eventfd
from fastdns.keeper._addresses cimport addresses_init
from fastdns.keeper._children cimport (
    SLOT_COORDINATOR,
    SLOT_WORKER,
    child_t,
    children_add,
    children_init,
    children_publish,
)
from fastdns.keeper._groups cimport Group, group_steer
from fastdns.keeper._posix cimport (
    MADV_DONTFORK,
    MAP_FAILED,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    madvise,
    mmap,
)


cdef void *map_header(int fd, size_t size) noexcept nogil:
    # The first pages of a segment, for the keeper alone: a fork does not inherit them.
    cdef size_t octets = (size + FD_PAGE - 1) // FD_PAGE * FD_PAGE
    cdef void *base = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if base == MAP_FAILED or madvise(base, octets, MADV_DONTFORK) != 0:
        return NULL
    return base


cdef class Plane:
    """The data plane, none before ``start``. Children are numbered: control 0, coordinator 1, workers from 2."""

    def __cinit__(self):
        children_init(&self.children)
        addresses_init(&self.addresses)

    def start(self, int board, int post, list regions, list wakes, list groups):
        """Take up the coordinator and a worker for each region; they are asked for by FORK.

        wakes: eventfds, the coordinator's first. groups: as set_groups has them.
        Raises OSError, ValueError; nothing is changed then.
        """
        cdef fd_board_t *board_base = <fd_board_t *>map_header(board, sizeof(fd_board_t))
        cdef fd_post_t *post_base = <fd_post_t *>map_header(post, sizeof(fd_post_t))
        cdef void *base
        cdef int i
        if board_base == NULL or post_base == NULL:
            raise OSError(errno, f"mmap of a segment's header: {os.strerror(errno)}")
        if board_base.magic != FD_MAGIC_BOARD or post_base.magic != FD_MAGIC_POST:
            raise ValueError("a segment is not what its name says")
        if self.started or not 1 <= len(regions) <= FD_MAX_WORKERS or len(wakes) != len(regions) + 1:
            raise ValueError("expected one start, with a region and an eventfd for each worker")
        for i, region in enumerate(regions):
            base = map_header(region, sizeof(fd_region_t))
            if base == NULL:
                raise OSError(errno, f"mmap of a region's header: {os.strerror(errno)}")
            if (<fd_region_t *>base).magic != FD_MAGIC_REGION:
                raise ValueError("a region is not what its name says")
            self.regions[i] = <fd_region_t *>base
        for i, wake in enumerate(wakes):
            self.wakes[i] = wake
        self.set_groups(groups)
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

    def set_groups(self, list groups):
        """The groups of sockets: UDP and TCP of each listener's slot, None for an empty one. Raises ValueError."""
        cdef Group group
        cdef int i
        if len(groups) > 2 * FD_MAX_LISTENERS:
            raise ValueError(f"{len(groups)} groups: expected {2 * FD_MAX_LISTENERS} at most")
        memset(self.groups, 0, sizeof(self.groups))
        for i, one in enumerate(groups):
            if one is not None:
                group = one
                self.groups[i] = &group.state
        self.held = groups
        if self.started:
            self.steer()

    def leave_to_kernel(self, int listener, bint plain):
        """Whether the kernel's choice is used for a listener's sockets instead of our program. Raises ValueError."""
        if not 0 <= listener < FD_MAX_LISTENERS or self.groups[2 * listener] == NULL:
            raise ValueError(f"listener {listener}: there is none")
        self.groups[2 * listener].plain = self.groups[2 * listener + 1].plain = plain
        self.steer()

    def starting(self, uint32_t child):
        """Before the fork: count it in the child's segment, and take back what its predecessor was told and said."""
        cdef fd_region_t *region
        if child == SLOT_COORDINATOR:
            fd_store32(&self.post.starts, fd_load32(&self.post.starts) + 1)
            fd_store32(&self.post.stop, FD_STOP_NO)
            fd_store32(&self.post.serving, 0)
        elif child >= SLOT_WORKER:
            region = self.regions[child - SLOT_WORKER]
            fd_store32(&region.starts, fd_load32(&region.starts) + 1)
            fd_store32(&region.stop, FD_STOP_NO)
            fd_store32(&region.serving, 0)

    # ------------------------------------------------------------------------ nogil

    cdef bint serves(self, uint32_t slot, uint32_t config) noexcept nogil:
        cdef const child_t *child = &self.children.table[slot]
        cdef const fd_region_t *region
        if slot == SLOT_COORDINATOR:
            return (fd_load32(&self.post.serving) != 0 and fd_load32(&self.post.pid) == <uint32_t>child.pid
                    and fd_load32(&self.post.swept) == config)
        region = self.regions[slot - SLOT_WORKER]
        return fd_load32(&region.serving) != 0 and fd_load32(&region.pid) == <uint32_t>child.pid

    cdef void tell_child(self, uint32_t slot, uint32_t word) noexcept nogil:
        if slot == SLOT_COORDINATOR:
            fd_store32(&self.post.stop, FD_STOP_NOW if word == FD_STOP_ROLL else word)
        else:
            fd_store32(&self.regions[slot - SLOT_WORKER].stop, word)
        ring_eventfd(self.wakes[slot - SLOT_COORDINATOR])

    cdef bint unsteered(self) noexcept nogil:
        return (self.children.away != self.steered
                or self.children.away | self.children.leaving != self.steered_tcp)

    cdef void steer(self) noexcept nogil:
        # A program that is refused leaves the former one: a dead worker's packets wait for its successor.
        cdef uint32_t away = self.children.away
        cdef uint32_t i
        self.steered = away
        self.steered_tcp = away | self.children.leaving
        for i in range(<uint32_t>FD_MAX_LISTENERS):
            if self.groups[2 * i] != NULL:
                group_steer(self.groups[2 * i], ~self.steered)
                group_steer(self.groups[2 * i + 1], ~self.steered_tcp)

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
