# SPDX-License-Identifier: Apache-2.0
# _prefer.pxd: `loadbalance { prefer }`: which addresses of an answer come first. nogil, no allocation.
from libc.stdint cimport uint32_t

from fastdns._shm cimport fd_entry_t, fd_network_t

# Put the addresses of a finished entry's run (_rotation.pxd) in the order of the networks that they
# lie in, those that lie in none last. Within the entry: records of a run may change places. What a
# worker turns is then the first of these sets that has two addresses or more; none: nothing turns.
#   networks   the first that holds an address counts; bounded by FD_MAX_PREFERRED
cdef void prefer_order(fd_entry_t *entry, const fd_network_t *networks, uint32_t count) noexcept nogil
