# SPDX-License-Identifier: Apache-2.0
# _send.pxd: replies leave over UDP, whole batches and late ones. nogil.
from libc.stdint cimport uint8_t, uint32_t

from fastdns._shm cimport fd_local_t, mmsghdr, msghdr, sockaddr_in6
from fastdns.worker._state cimport late_t, worker_t

# Send them all. A reply that the kernel refuses (no route, a filter) is counted and left out, a
# full queue is waited for once.
cdef void send_all(worker_t *worker, int fd, mmsghdr *messages, uint32_t n) noexcept nogil

# Make received ancillary data say "send from the address asked".
cdef void answer_from(msghdr *message) noexcept nogil

# The local address in received ancillary data; zeros where there is none.
cdef void received_local(const void *control, uint32_t control_len, fd_local_t *out) noexcept nogil

# Late replies, never while a received batch is in hand: take room (FD_RX_BUFFER octets), write the
# reply there, push it; flush at the end.
cdef late_t *late_open() noexcept nogil
cdef uint8_t *late_room(worker_t *worker, uint32_t listener) noexcept nogil
cdef void late_push(worker_t *worker, const sockaddr_in6 *peer, const fd_local_t *local,
                    uint32_t reply_len) noexcept nogil
cdef void late_flush(worker_t *worker) noexcept nogil
