# SPDX-License-Identifier: Apache-2.0
"""Round-trip times of upstreams."""

from libc.stdint cimport uint32_t, uint64_t

from fastdns.coordinator._state cimport upstream_t


cdef void upstream_measured(upstream_t *upstream, uint32_t rtt_us) noexcept nogil:
    cdef uint32_t error
    rtt_us = max(rtt_us, <uint32_t>1)
    if upstream.srtt_us == 0:
        upstream.srtt_us = rtt_us
        upstream.rttvar_us = rtt_us // 2
        return
    error = upstream.srtt_us - rtt_us if upstream.srtt_us > rtt_us else rtt_us - upstream.srtt_us
    upstream.rttvar_us = <uint32_t>((3 * <uint64_t>upstream.rttvar_us + error) // 4)
    upstream.srtt_us = max(<uint32_t>((7 * <uint64_t>upstream.srtt_us + rtt_us) // 8), <uint32_t>1)


cdef uint32_t upstream_wait_ms(const upstream_t *upstream, uint32_t floor_ms) noexcept nogil:
    cdef uint64_t wait_us
    if upstream.srtt_us == 0:
        return max(<uint32_t>WAIT_FIRST_MS, floor_ms)
    wait_us = upstream.srtt_us + 4 * <uint64_t>upstream.rttvar_us
    return <uint32_t>min(max((wait_us + 999) // 1000, <uint64_t>floor_ms), <uint64_t>WAIT_MAX_MS)


cdef void upstream_inherit(upstream_t *upstream, uint32_t wait_ms) noexcept nogil:
    # As if one round trip had been measured that leads to this wait: srtt + 4 * srtt / 2.
    if wait_ms:
        upstream_measured(upstream, min(wait_ms, <uint32_t>WAIT_MAX_MS) * 1000 // 3)


cdef void upstream_answered(upstream_t *upstream) noexcept nogil:
    upstream.silences = 0
    upstream.check.fails = 0


cdef void upstream_silent(upstream_t *upstream, uint32_t silences) noexcept nogil:
    upstream.silences = min(upstream.silences + silences, <uint32_t>SILENCES)
