# SPDX-License-Identifier: Apache-2.0
"""Round-trip times of upstreams."""

from libc.stdint cimport uint32_t, uint64_t

from fastdns.coordinator._state cimport upstream_t


cdef inline uint32_t late_step(const upstream_t *upstream) noexcept nogil:
    return max(upstream.srtt_us // LATE_STEPS, <uint32_t>LATE_SHARE)


cdef void upstream_late(upstream_t *upstream) noexcept nogil:
    cdef uint32_t step = late_step(upstream)
    upstream.late_us = min(upstream.late_us + step - step // LATE_SHARE, <uint32_t>WAIT_MAX_MS * 1000)


cdef void upstream_measured(upstream_t *upstream, uint32_t rtt_us, bint noted) noexcept nogil:
    cdef uint32_t error
    rtt_us = max(rtt_us, <uint32_t>1)
    if upstream.srtt_us == 0:
        upstream.srtt_us = rtt_us
        upstream.rttvar_us = rtt_us // 2
        upstream.late_us = 2 * min(rtt_us, <uint32_t>WAIT_MAX_MS * 1000 // 2)
        return
    if rtt_us <= upstream.late_us:
        upstream.late_us -= min(late_step(upstream) // LATE_SHARE, upstream.late_us - 1)
    elif not noted:
        upstream_late(upstream)
    error = upstream.srtt_us - rtt_us if upstream.srtt_us > rtt_us else rtt_us - upstream.srtt_us
    upstream.rttvar_us = <uint32_t>((3 * <uint64_t>upstream.rttvar_us + error) // 4)
    upstream.srtt_us = max(<uint32_t>((7 * <uint64_t>upstream.srtt_us + rtt_us) // 8), <uint32_t>1)


cdef void upstream_checked(upstream_t *upstream, uint32_t rtt_us) noexcept nogil:
    if upstream.srtt_us and rtt_us > upstream.srtt_us:
        upstream.srtt_us = rtt_us
    elif upstream.srtt_us:
        upstream.srtt_us = max((upstream.srtt_us + rtt_us) // 2, <uint32_t>1)
    upstream_measured(upstream, rtt_us, False)


cdef uint32_t upstream_wait_ms(const upstream_t *upstream, uint32_t floor_ms) noexcept nogil:
    cdef uint64_t wait_us
    if upstream.srtt_us == 0:
        return max(<uint32_t>WAIT_FIRST_MS, floor_ms)
    wait_us = upstream.srtt_us + 4 * <uint64_t>upstream.rttvar_us
    return <uint32_t>min(max((wait_us + 999) // 1000, <uint64_t>floor_ms), <uint64_t>WAIT_MAX_MS)


cdef void upstream_inherit(upstream_t *upstream, uint32_t wait_ms) noexcept nogil:
    # As if one round trip had been measured that leads to this wait: srtt + 4 * srtt / 2.
    if wait_ms:
        upstream_measured(upstream, min(wait_ms, <uint32_t>WAIT_MAX_MS) * 1000 // 3, False)


cdef void upstream_answered(upstream_t *upstream) noexcept nogil:
    upstream.silences = 0
    upstream.check.fails = 0
    upstream.owes_ms = 0


cdef void upstream_asked(upstream_t *upstream, uint64_t now_ms) noexcept nogil:
    if upstream.owes_ms == 0:
        upstream.owes_ms = now_ms


cdef uint32_t upstream_takes_us(const upstream_t *upstream, uint64_t now_ms) noexcept nogil:
    if upstream.owes_ms == 0:
        return upstream.srtt_us
    return max(upstream.srtt_us, <uint32_t>min((now_ms - upstream.owes_ms) * 1000, <uint64_t>0x7fffffff))


cdef void upstream_silent(upstream_t *upstream, uint32_t silences) noexcept nogil:
    upstream.silences = min(upstream.silences + silences, <uint32_t>SILENCES)
