# SPDX-License-Identifier: Apache-2.0
# _queue.pxd: the queues between the loop and the coordinator's Python thread. One ring in each
# direction, in private memory; the loop never waits for the thread, and never takes the GIL.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._ring cimport ring_t
from fastdns._shm cimport fd_question_in_hand_t, fd_record_t, fd_ring_t, sockaddr_in6

cdef enum:
    SLOW_RING = 256 * 1024       # octets; a record is half of it at most: any message fits
    SLOW_BLOCKS = 128            # FD_MAX_BLOCKS
    SLOW_STUCK_MS = 5000         # on one question: its key is quarantined, the coordinator replaced

cdef enum:                       # fd_record_t.kind of a job; not those of _layout.h
    SLOW_ASK = 32                # a question has come to a step
    SLOW_ANSWER = 33             # the answer to what the step asked

cdef enum:                       # fd_record_t.kind of a result
    SLOW_GO = 40                 # on to the steps behind this one, with the question in the record
    SLOW_SELF = 41               # ask the server itself the question in the record
    SLOW_DONE = 42               # the message in the record is the answer
    SLOW_FAIL = 43               # an answer without records

cdef enum:                       # slow_result_t.flags
    SLOW_BACK = 1                # SLOW_GO: the answer is to come back to this step
    SLOW_PASSING = 2             # SLOW_DONE: never stored
    SLOW_TOLD = 4                # SLOW_DONE: the step's EDNS option goes out with it
    SLOW_TRANSLATED = 8          # SLOW_DONE: dns64 made it of A records

# Who asked, where a step wants to know.
ctypedef struct slow_client_t:
    sockaddr_in6 peer            # family 0: not known
    sockaddr_in6 local
    uint8_t tcp

ctypedef struct slow_job_t:
    fd_record_t record
    uint64_t key_hash            # of the client's question, for the quarantine
    uint32_t serial
    uint16_t flight
    uint16_t block
    uint16_t step
    uint16_t qtype
    uint16_t qclass
    uint8_t key_flags
    uint8_t variant              # 4 or 6 where answers differ by the client's family
    uint8_t flags                # FD_Q_*
    uint8_t qname_len            # lower case, wire: behind this struct, then the message
    uint32_t message_len         # SLOW_ANSWER
    slow_client_t client

ctypedef struct slow_result_t:
    fd_record_t record
    uint32_t serial
    uint16_t flight
    uint16_t block
    uint16_t step
    uint16_t qtype
    uint16_t qclass
    uint16_t rcode               # SLOW_FAIL
    uint16_t options_len         # SLOW_GO: EDNS options for the query upstream, behind the name
    uint8_t flags
    uint8_t plugin               # SLOW_DONE: FD_PLUGIN_*, what made it
    uint8_t qname_len            # behind this struct; then options, then the message or the error's text
    uint32_t message_len

ctypedef struct slow_t:
    fd_ring_t jobs_shared
    fd_ring_t results_shared
    ring_t jobs                  # the loop's end
    ring_t results
    uint8_t *jobs_data
    uint8_t *results_data
    int wake_thread
    int wake_loop
    uint32_t serial
    bint put                     # since the thread was last woken
    uint16_t waiting[SLOW_BLOCKS]    # jobs of each block under way
    uint64_t busy_since_ms       # thread: when it began with the job in hand, 0: none
    fd_question_in_hand_t *hand  # thread: that job's question, where a successor finds it
    bint closed                  # the coordinator leaves: the thread takes nothing in hand any more; under the GIL

# Take the memory. wake_loop: rung when a result was put. NULL: no memory, no descriptors.
cdef slow_t *slow_open(int wake_loop, fd_question_in_hand_t *hand) noexcept nogil

# Put a job: fill in all but record, serial and the lengths behind it. Returns its serial, 0 when
# the queue is full or the block has `limit` jobs under way.
cdef uint32_t slow_put(slow_t *slow, uint8_t kind, const slow_job_t *job, uint32_t limit, const uint8_t *qname,
                       const uint8_t *message, uint32_t message_len) noexcept nogil

# Wake the thread if something was put.
cdef void slow_flush(slow_t *slow) noexcept nogil

# The next result, checked, or NULL. It stays until slow_release.
cdef const slow_result_t *slow_next(slow_t *slow) noexcept nogil
cdef void slow_release(slow_t *slow) noexcept nogil
cdef const uint8_t *slow_result_qname(const slow_result_t *result) noexcept nogil
cdef const uint8_t *slow_result_options(const slow_result_t *result) noexcept nogil
cdef const uint8_t *slow_result_message(const slow_result_t *result) noexcept nogil

# The key hash of a question that the thread has hung on for SLOW_STUCK_MS, or 0.
cdef uint64_t slow_stuck(const slow_t *slow, uint64_t now_ms) noexcept nogil

# The thread's end, from Python.
cdef class SlowQueue:
    cdef slow_t *slow
    cdef ring_t jobs
    cdef ring_t results

    @staticmethod
    cdef SlowQueue of(slow_t *slow)
