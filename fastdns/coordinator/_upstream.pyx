# SPDX-License-Identifier: Apache-2.0
"""Round-trip times of upstreams."""

from libc.stdint cimport uint32_t, uint64_t

from fastdns.coordinator._state cimport rtt_t, upstream_t


cdef void rtt_measured(rtt_t *rtt, uint32_t rtt_us) noexcept nogil:
    cdef uint32_t error
    rtt_us = max(rtt_us, <uint32_t>1)
    if rtt.srtt_us == 0:
        rtt.srtt_us = rtt_us
        rtt.rttvar_us = rtt_us // 2
        return
    error = rtt.srtt_us - rtt_us if rtt.srtt_us > rtt_us else rtt_us - rtt.srtt_us
    rtt.rttvar_us = <uint32_t>((3 * <uint64_t>rtt.rttvar_us + error) // 4)
    rtt.srtt_us = max(<uint32_t>((7 * <uint64_t>rtt.srtt_us + rtt_us) // 8), <uint32_t>1)


cdef uint64_t rtt_wait_us(const rtt_t *rtt, uint64_t first_us) noexcept nogil:
    return rtt.srtt_us + 4 * <uint64_t>rtt.rttvar_us if rtt.srtt_us else first_us


cdef uint32_t upstream_wait_ms(const upstream_t *upstream, uint32_t floor_ms) noexcept nogil:
    cdef uint64_t wait_us = rtt_wait_us(&upstream.udp, WAIT_FIRST_MS * 1000)
    return <uint32_t>min(max((wait_us + 999) // 1000, <uint64_t>floor_ms), <uint64_t>WAIT_MAX_MS)


cdef uint32_t upstream_rtt_us(const upstream_t *upstream) noexcept nogil:
    return upstream.tcp.srtt_us if upstream.config.force_tcp else upstream.udp.srtt_us


cdef void upstream_inherit(upstream_t *upstream, uint32_t wait_ms) noexcept nogil:
    # As if one round trip had been measured that leads to this wait: srtt + 4 * srtt / 2.
    if wait_ms:
        rtt_measured(&upstream.udp, min(wait_ms, <uint32_t>WAIT_MAX_MS) * 1000 // 3)


cdef void upstream_silent(upstream_t *upstream, uint32_t silences) noexcept nogil:
    upstream.silences = min(upstream.silences + silences, <uint32_t>SILENCES)
