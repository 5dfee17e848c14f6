# SPDX-License-Identifier: Apache-2.0
# _udp.pxd: a worker's UDP sockets: batches in, replies in place. nogil.
from libc.stdint cimport uint32_t

from fastdns.worker._state cimport udp_t, worker_t

# Take the private send array and put the sockets into the worker's epoll. NULL: no memory.
cdef udp_t *udp_open(worker_t *worker) noexcept nogil

# Receive, answer and send one batch of a listener. Returns datagrams received, 0 when there are none.
cdef uint32_t udp_round(worker_t *worker, uint32_t listener) noexcept nogil

# Watch the sockets no more: what comes is the successor's.
cdef void udp_drain(worker_t *worker) noexcept nogil

# Answer what a dead predecessor had received; `suspect` (a place in the batch, or FD_BATCH for
# none) first and alone, or not at all if it is to be dropped. Returns datagrams taken over.
cdef uint32_t udp_recover(worker_t *worker, uint32_t suspect, bint drop) noexcept nogil
