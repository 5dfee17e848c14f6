# SPDX-License-Identifier: Apache-2.0
"""The queues between the loop and the coordinator's Python thread.

The loop's side is nogil and never waits: what finds the queue full is refused. The thread's side
is a class; it sleeps in poll without the GIL.
"""

import socket

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastdns._memory cimport fd_reserve, fd_take
from fastdns._name cimport name_length
from fastdns._ring cimport (
    ring_commit,
    ring_empty,
    ring_next,
    ring_open,
    ring_release,
    ring_reserve,
)
from fastdns._segments cimport boottime_ms
from fastdns._shm cimport (
    fd_announce_sleep,
    fd_load64,
    fd_must_wake,
    fd_question_in_hand_t,
    fd_record_t,
    fd_store32,
    fd_store64,
    sockaddr_in,
    sockaddr_in6,
)
from fastdns._sys cimport AF_INET, ring_eventfd
from fastdns.coordinator._hand cimport hand_clear, hand_take

cdef extern from "_crash.h" nogil:
    void fd_debug_crash(const char *label, const uint8_t *qname, uint32_t qname_len) noexcept

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int count, int flags)
    enum:
        EFD_NONBLOCK, EFD_CLOEXEC

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    enum:
        POLLIN

cdef extern from "<unistd.h>" nogil:
    long read(int fd, void *data, size_t octets)

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t ntohs(uint16_t value)


cdef slow_t *slow_open(int wake_loop, fd_question_in_hand_t *hand) noexcept nogil:
    cdef slow_t *slow = <slow_t *>fd_take(sizeof(slow_t), 0)
    if slow == NULL:
        return NULL
    slow.jobs_data = <uint8_t *>fd_reserve(SLOW_RING)
    slow.results_data = <uint8_t *>fd_reserve(SLOW_RING)
    slow.wake_thread = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    slow.wake_loop = wake_loop
    slow.hand = hand
    if slow.jobs_data == NULL or slow.results_data == NULL or slow.wake_thread < 0:
        free(slow.jobs_data)
        free(slow.results_data)
        free(slow)
        return NULL
    ring_open(&slow.jobs, &slow.jobs_shared, slow.jobs_data, SLOW_RING)
    ring_open(&slow.results, &slow.results_shared, slow.results_data, SLOW_RING)
    return slow


cdef uint32_t slow_put(slow_t *slow, uint8_t kind, const slow_job_t *job, uint32_t limit, const uint8_t *qname,
                       const uint8_t *message, uint32_t message_len) noexcept nogil:
    cdef uint32_t octets = <uint32_t>sizeof(slow_job_t) + job.qname_len + message_len
    cdef slow_job_t *put
    cdef uint32_t length
    if slow.waiting[job.block] >= limit:
        return 0
    put = <slow_job_t *>ring_reserve(&slow.jobs, octets)
    if put == NULL:
        return 0
    length = put.record.len
    memcpy(put, job, sizeof(slow_job_t))
    put.record.len = length
    put.record.kind = kind
    put.record.flags = 0
    put.message_len = message_len
    slow.serial = slow.serial + 1 if slow.serial != <uint32_t>0xffffffff else 1
    put.serial = slow.serial
    memcpy(<uint8_t *>put + sizeof(slow_job_t), qname, job.qname_len)
    if message_len:
        memcpy(<uint8_t *>put + sizeof(slow_job_t) + job.qname_len, message, message_len)
    ring_commit(&slow.jobs)
    slow.waiting[job.block] += 1
    slow.put = True
    return slow.serial


cdef void slow_flush(slow_t *slow) noexcept nogil:
    if slow.put and fd_must_wake(&slow.jobs_shared.sleeping):
        ring_eventfd(slow.wake_thread)
    slow.put = False


cdef const slow_result_t *slow_next(slow_t *slow) noexcept nogil:
    cdef const slow_result_t *result = <const slow_result_t *>ring_next(&slow.results)
    if result != NULL and slow.waiting[result.block]:
        slow.waiting[result.block] -= 1
    return result


cdef void slow_release(slow_t *slow) noexcept nogil:
    ring_release(&slow.results)


cdef const uint8_t *slow_result_qname(const slow_result_t *result) noexcept nogil:
    return <const uint8_t *>result + sizeof(slow_result_t)


cdef const uint8_t *slow_result_options(const slow_result_t *result) noexcept nogil:
    return slow_result_qname(result) + result.qname_len


cdef const uint8_t *slow_result_message(const slow_result_t *result) noexcept nogil:
    return slow_result_options(result) + result.options_len


cdef uint64_t slow_stuck(const slow_t *slow, uint64_t now_ms) noexcept nogil:
    cdef uint64_t since = fd_load64(&slow.busy_since_ms)
    if since == 0 or now_ms < since + SLOW_STUCK_MS:
        return 0
    return fd_load64(&slow.hand.hash)


cdef tuple _address_of(const sockaddr_in6 *address):
    cdef const sockaddr_in *inet = <const sockaddr_in *>address
    cdef const uint8_t *octets
    if address.sin6_family == 0:
        return "", 0
    if address.sin6_family == <uint16_t>AF_INET:
        octets = <const uint8_t *>&inet.sin_addr
        return socket.inet_ntop(socket.AF_INET, octets[:4]), ntohs(inet.sin_port)
    octets = <const uint8_t *>&address.sin6_addr
    return socket.inet_ntop(socket.AF_INET6, octets[:16]), ntohs(address.sin6_port)


cdef class SlowQueue:
    """The thread's end: takes jobs, puts results. One thread uses it."""

    @staticmethod
    cdef SlowQueue of(slow_t *slow):
        cdef SlowQueue queue = SlowQueue.__new__(SlowQueue)
        queue.slow = slow
        ring_open(&queue.jobs, &slow.jobs_shared, slow.jobs_data, SLOW_RING)
        ring_open(&queue.results, &slow.results_shared, slow.results_data, SLOW_RING)
        return queue

    def wait(self, int timeout_ms) -> bool:
        """Sleep until there is a job, ``timeout_ms`` at most; whether there is one."""
        cdef pollfd one
        cdef uint64_t count
        with nogil:
            fd_announce_sleep(&self.slow.jobs_shared.sleeping)
            if ring_empty(&self.jobs):
                one.fd = self.slow.wake_thread
                one.events = POLLIN
                poll(&one, 1, timeout_ms)
                read(self.slow.wake_thread, &count, sizeof(count))
            fd_store32(&self.slow.jobs_shared.sleeping, 0)
        return not ring_empty(&self.jobs)

    def wake(self) -> None:
        """End a wait of the thread's from another one."""
        ring_eventfd(self.slow.wake_thread)

    def take(self):
        """The next job, or None: kind, flight, serial, block, step, qname, qtype, qclass, key_flags,
        variant, flags, client, message.

        client: None, or (address, port, server's address, server's port, over TCP). The thread has
        this job in hand until it puts the result.
        """
        cdef fd_record_t *record = ring_next(&self.jobs)
        cdef const slow_job_t *job = <const slow_job_t *>record
        cdef const uint8_t *behind
        cdef object client = None
        cdef tuple taken
        if record == NULL or self.slow.closed:
            return None
        behind = <const uint8_t *>record + sizeof(slow_job_t)
        if job.client.peer.sin6_family:
            client = (*_address_of(&job.client.peer), *_address_of(&job.client.local), bool(job.client.tcp))
        taken = (
            record.kind, job.flight, job.serial, job.block, job.step, <bytes>behind[:job.qname_len], job.qtype,
            job.qclass, job.key_flags, job.variant, job.flags, client,
            <bytes>behind[job.qname_len:job.qname_len + job.message_len],
        )
        hand_take(self.slow.hand, job.key_hash, behind, job.qname_len)
        fd_store64(&self.slow.busy_since_ms, boottime_ms())
        fd_debug_crash("thread", behind, job.qname_len)
        ring_release(&self.jobs)
        return taken

    def put(self, int kind, tuple job, bytes qname=b"", int qtype=0, int qclass=0, int rcode=0, bytes options=b"",
            int flags=0, int plugin=0, bytes message=b"") -> bool:
        """The result of the job in hand; False while there is no room for it.

        Raises ValueError for what no record can hold.
        """
        cdef slow_result_t *result
        cdef uint8_t *behind
        cdef uint32_t length
        cdef bytes part
        cdef uint32_t octets = sizeof(slow_result_t) + len(qname) + len(options) + len(message)
        if octets > SLOW_RING // 2 or len(options) > 512:
            raise ValueError(f"a result of {octets} octets")
        if qname and name_length(<const uint8_t *>qname, len(qname)) != <uint32_t>len(qname):
            raise ValueError(f"{qname!r} is no name")
        result = <slow_result_t *>ring_reserve(&self.results, octets)
        if result == NULL:
            return False
        length = result.record.len
        memset(result, 0, sizeof(slow_result_t))
        result.record.len = length
        result.record.kind = <uint8_t>kind
        result.flight = job[1]
        result.serial = job[2]
        result.block = job[3]
        result.step = job[4]
        result.qtype = <uint16_t>qtype
        result.qclass = <uint16_t>qclass
        result.rcode = <uint16_t>rcode
        result.flags = <uint8_t>flags
        result.plugin = <uint8_t>plugin
        result.qname_len = <uint8_t>len(qname)
        result.options_len = <uint16_t>len(options)
        result.message_len = <uint32_t>len(message)
        behind = <uint8_t *>result + sizeof(slow_result_t)
        for part in (qname, options, message):
            memcpy(behind, <const uint8_t *>part, len(part))
            behind += len(part)
        fd_store64(&self.slow.busy_since_ms, 0)
        hand_clear(self.slow.hand)
        ring_commit(&self.results)
        ring_eventfd(self.slow.wake_loop)
        return True
