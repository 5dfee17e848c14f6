# SPDX-License-Identifier: Apache-2.0
# _udp.pxd: a worker's UDP sockets: batches in, replies in place, late replies. nogil.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_local_t, sockaddr_in6
from fastdns.worker._state cimport udp_t, worker_t

# Take the private send arrays and put the sockets into the worker's epoll. NULL: no memory.
cdef udp_t *udp_open(worker_t *worker) noexcept nogil

# Receive, answer and send one batch of a listener. Returns datagrams received, 0 when there are none.
cdef uint32_t udp_round(worker_t *worker, uint32_t listener) noexcept nogil

# Answer what a dead predecessor had received; `suspect` (a place in the batch, or FD_BATCH for
# none) first and alone, or not at all if it is to be given up. Returns datagrams taken over.
cdef uint32_t udp_recover(worker_t *worker, uint32_t suspect, bint give_up) noexcept nogil

# Late replies: take room (FD_RX_BUFFER octets), write the reply there, push it; flush at the end.
cdef uint8_t *udp_room(worker_t *worker, uint32_t listener) noexcept nogil
cdef void udp_push(worker_t *worker, const sockaddr_in6 *peer, const fd_local_t *local,
                   uint32_t reply_len) noexcept nogil
cdef void udp_flush(worker_t *worker) noexcept nogil

# The local address in received ancillary data; zeros where there is none.
cdef void udp_local(const void *control, uint32_t control_len, fd_local_t *out) noexcept nogil
