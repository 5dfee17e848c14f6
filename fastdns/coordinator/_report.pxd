# SPDX-License-Identifier: Apache-2.0
# _report.pxd: what the coordinator tells control: lines of `errors`, series of upstreams and blocks.
# nogil, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns.coordinator._state cimport coordinator_t, flight_t, question_t

# A question ends with SERVFAIL, for a reason of FD_ERROR_*. Its line goes to the log where its block
# has `errors`.
cdef void report_failure(coordinator_t *c, const flight_t *flight, uint8_t kind) noexcept nogil

# A question is REFUSED: there are as many under way as its forward's `max_concurrent`.
cdef void report_concurrent(coordinator_t *c, const flight_t *flight) noexcept nogil

# An upstream sends questions of a zone back here; said whatever the block's text has.
cdef void report_loop(coordinator_t *c, uint32_t upstream, uint32_t zone, const question_t *question,
                      const uint8_t *qname) noexcept nogil

# An upstream answered.
cdef void count_exchange(coordinator_t *c, uint32_t upstream, uint32_t time_us, uint16_t rcode) noexcept nogil

# Questions were put to it: over a socket that was there (`reused` of them) or a new one (`dialed`).
cdef void count_sockets(coordinator_t *c, uint32_t upstream, bint tcp, uint32_t reused,
                        uint32_t dialed) noexcept nogil

# A health check failed.
cdef void count_failed_check(coordinator_t *c, uint32_t upstream) noexcept nogil

# Figures of another upstream that had its number begin at 0.
cdef void series_open(coordinator_t *c) noexcept nogil
