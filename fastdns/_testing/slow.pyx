# SPDX-License-Identifier: Apache-2.0
"""The loop's end of the queues to the Python thread."""

import os

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastdns._shm cimport fd_question_in_hand_t, sockaddr_in
from fastdns.coordinator._queue cimport (
    SlowQueue,
    slow_flush,
    slow_job_t,
    slow_next,
    slow_open,
    slow_put,
    slow_release,
    slow_result_message,
    slow_result_options,
    slow_result_qname,
    slow_result_t,
    slow_stuck,
    slow_t,
)
from fastdns._sys cimport AF_INET


cdef class LoopEnd:
    """Puts jobs, takes results."""

    cdef slow_t *slow
    cdef fd_question_in_hand_t hand
    cdef readonly int wake

    def __init__(self):
        self.wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.slow = slow_open(self.wake, &self.hand)
        assert self.slow != NULL

    def queue(self):
        return SlowQueue.of(self.slow)

    def put(self, int kind, int flight, int block, int step, bytes qname, int qtype=1, int qclass=1,
            int limit=64, bytes message=b"", bint client=False, uint64_t key_hash=7) -> int:
        cdef slow_job_t job
        cdef uint32_t serial
        memset(&job, 0, sizeof(job))
        job.key_hash = key_hash
        job.flight = <uint16_t>flight
        job.block = <uint16_t>block
        job.step = <uint16_t>step
        job.qtype = <uint16_t>qtype
        job.qclass = <uint16_t>qclass
        job.qname_len = <uint8_t>len(qname)
        if client:
            (<sockaddr_in *>&job.client.peer).sin_family = AF_INET
            (<sockaddr_in *>&job.client.peer).sin_port = 0x3500      # 53
            (<sockaddr_in *>&job.client.peer).sin_addr.s_addr = 0x0100007f
        serial = slow_put(self.slow, <uint8_t>kind, &job, limit, <const uint8_t *>qname,
                          <const uint8_t *>message, len(message))
        slow_flush(self.slow)
        return serial

    def next(self):
        """(kind, flight, serial, block, step, flags, rcode, qname, qtype, qclass, options, message), or None."""
        cdef const slow_result_t *result = slow_next(self.slow)
        cdef tuple found
        if result == NULL:
            return None
        found = (
            result.record.kind, result.flight, result.serial, result.block, result.step, result.flags,
            result.rcode, <bytes>slow_result_qname(result)[:result.qname_len], result.qtype, result.qclass,
            <bytes>slow_result_options(result)[:result.options_len],
            <bytes>slow_result_message(result)[:result.message_len],
        )
        slow_release(self.slow)
        return found

    def in_hand(self) -> tuple[int, bytes]:
        """Key hash and name of the job that the thread works on."""
        return self.hand.hash, (<const uint8_t *>self.hand.qname)[:self.hand.qname_len]

    def stuck(self, uint64_t now_ms) -> int:
        return slow_stuck(self.slow, now_ms)

    def waiting(self, int block) -> int:
        return self.slow.waiting[block]
