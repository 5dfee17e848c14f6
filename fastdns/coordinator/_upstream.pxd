# SPDX-License-Identifier: Apache-2.0
# _upstream.pxd: how an upstream fares, and how long to wait for it. nogil.
from libc.stdint cimport uint32_t, uint64_t

from fastdns.coordinator._state cimport rtt_t, upstream_t

cdef enum:
    # Silence allowed before anything was measured. RFC 6298 s2.1 has 1 s, for hosts half the world away.
    WAIT_FIRST_MS = 200
    # Between two attempts; RFC 6298 s2.5 has a minute. An upstream that is back is to be found within 1 s.
    WAIT_MAX_MS = 900
    SILENCES = 4                 # in a row make an upstream a silent one
    PROBE_MS = 1000              # between two questions to a silent upstream

# An answer came after `rtt_us`: RFC 6298 s2.2, 2.3. Each attempt has its own port and ID, so answers to
# repeated questions count as well (s3 excludes them where they are ambiguous).
cdef void rtt_measured(rtt_t *rtt, uint32_t rtt_us) noexcept nogil

# us that an answer may take: srtt + 4 rttvar; `first_us` where nothing was measured.
cdef uint64_t rtt_wait_us(const rtt_t *rtt, uint64_t first_us) noexcept nogil

# ms of silence after which a UDP question is asked again: srtt + 4 rttvar, `floor_ms` at least.
cdef uint32_t upstream_wait_ms(const upstream_t *upstream, uint32_t floor_ms) noexcept nogil

# What an answer takes by the way its questions go by default; 0: nothing measured yet.
cdef uint32_t upstream_rtt_us(const upstream_t *upstream) noexcept nogil

# What a predecessor had learned: `wait_ms` as it had it, 0 for nothing.
cdef void upstream_inherit(upstream_t *upstream, uint32_t wait_ms) noexcept nogil

# Silence where an answer should have been; or nobody there, which is as good as SILENCES of them.
cdef void upstream_silent(upstream_t *upstream, uint32_t silences) noexcept nogil
