# SPDX-License-Identifier: Apache-2.0
# _addresses.pxd: the node's addresses, which stay for 2 s at a time (node-network.md, 1). nogil.
# Time is an argument (CLOCK_BOOTTIME, ms). System calls: rtnetlink, and a log line when something changes.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._shm cimport fd_board_t

ctypedef struct address_t:
    int family                   # AF_INET, AF_INET6
    uint32_t interface           # its number
    uint32_t lifetime_s          # 0: for good (-skipteardown)
    uint8_t octets[16]           # 4 of them for AF_INET
    int error                    # errno of the last attempt; 0: it is on the node

ctypedef struct addresses_t:
    address_t table[32]          # FD_MAX_LISTENERS
    uint32_t count
    int netlink                  # -1 until there is an address
    uint32_t sequence            # of netlink messages
    uint64_t beats               # the sum of all workers' heartbeats when it last moved
    uint64_t moved_ms            # when that was
    uint64_t grace_ms            # the same, moved on while the keeper itself gets no CPU time
    uint64_t renewed_ms
    uint32_t renewals
    bint away                    # given up: no address with a lifetime is on the node
    uint64_t tripped_ms          # the last trip; 0: none yet
    bint again                   # it was the second one within a minute
    uint64_t return_ms           # when that one's return is due; 0: no worker moves yet
    uint32_t exit_after_ms       # leave when no worker has moved for so long; 0: never
    uint32_t trips
    uint32_t returns
    fd_board_t *board            # NULL until there is one

cdef void addresses_init(addresses_t *addresses) noexcept nogil

# Put an address on an interface, or renew it there, and keep it from now on. `octets` has 4 or 16.
# Returns 0, or an errno; it is kept, and tried again, all the same, but for ENOSPC (the table is full).
cdef int address_keep(addresses_t *addresses, int family, uint32_t interface, const uint8_t *octets,
                      uint32_t lifetime_s, uint64_t now_ms) noexcept nogil

# Renew an address no more, and take it from its interface; `leave`: somebody else serves on it.
# Returns 0 or an errno; 0 where it isn't kept.
cdef int address_forget(addresses_t *addresses, int family, const uint8_t *octets, bint leave) noexcept nogil

# Take all addresses that have a lifetime from the node: nobody serves them any more.
cdef void addresses_clear(addresses_t *addresses) noexcept nogil

# The keeper's tick: `beats` is the sum of all workers' heartbeats, `late` that the tick itself came late.
# Returns whether the server should leave, since nobody serves.
cdef bint addresses_tick(addresses_t *addresses, uint64_t beats, bint late, uint64_t now_ms) noexcept nogil
