# SPDX-License-Identifier: Apache-2.0
# _upstream.pxd: how an upstream fares, how long to wait for it, and a socket to it. nogil.
from libc.stdint cimport uint32_t, uint64_t

from fastdns.coordinator._state cimport ask_rc, coordinator_t, rtt_t, upstream_t

cdef enum:
    # Silence allowed before anything was measured. RFC 6298 s2.1 has 1 s, for hosts half the world away.
    WAIT_FIRST_MS = 200
    # Between two attempts; RFC 6298 s2.5 has a minute. An upstream that is back is to be found within 1 s.
    WAIT_MAX_MS = 900
    SILENCES = 4                 # in a row make an upstream a silent one;
    GONE = 5                     # more than that: the kernel said that nobody is there
    LATE_SHARE = 20              # one answer of so many is a late one: late_us is the 95th percentile
    LATE_STEPS = 8               # late_us moves by an 8th of srtt at most
    PROBE_MS = 1000              # between two questions to a silent upstream

# An answer came after `rtt_us`: RFC 6298 s2.2, 2.3. Each attempt has its own port and ID, so answers to
# repeated questions count as well (s3 excludes them where they are ambiguous).
#
# late_us is estimated with them, by stochastic approximation: a step up for a late answer, a 19th of it
# down for any other; it stands still where one of 20 is late. `noted`: rtt_late was told of this one.
cdef void rtt_measured(rtt_t *rtt, uint32_t rtt_us, bint noted) noexcept nogil

# An answer is not there after late_us: it counts as a late one now, whether it comes or not. An
# estimate of those that come before another upstream's would sink and sink.
cdef void rtt_late(rtt_t *rtt) noexcept nogil

# A check was answered after `rtt_us`. It asks for what the upstream has at hand: its time is the upstream's
# own, and one of them tells more than an answer that may have been looked for elsewhere.
cdef void rtt_checked(rtt_t *rtt, uint32_t rtt_us) noexcept nogil

# us that an answer may take: srtt + 4 rttvar; `first_us` where nothing was measured.
cdef uint64_t rtt_wait_us(const rtt_t *rtt, uint64_t first_us) noexcept nogil

# ms of silence after which a UDP question is asked again: srtt, and 4 rttvar or `floor_ms`, whichever is
# more; RFC 6298 s2.3.
cdef uint32_t upstream_wait_ms(const upstream_t *upstream, uint32_t floor_ms) noexcept nogil

# The estimate of the way that its questions go by default.
cdef rtt_t *upstream_way(upstream_t *upstream) noexcept nogil

# How long an answer takes on that way: srtt, or the time that one is owed, if that is more. 0: nothing is known.
cdef uint32_t upstream_takes_us(upstream_t *upstream, uint64_t now_ms) noexcept nogil

# A question was put to it.
cdef void upstream_asked(upstream_t *upstream, uint64_t now_ms) noexcept nogil

# An answer came, of whatever kind: somebody is there.
cdef void upstream_answered(upstream_t *upstream) noexcept nogil

# What a predecessor had learned: `wait_ms` as it had it, 0 for nothing.
cdef void upstream_inherit(upstream_t *upstream, uint32_t wait_ms) noexcept nogil

# Silence where an answer should have been.
cdef void upstream_silent(upstream_t *upstream) noexcept nogil

# Nobody is there: port unreachable, connection refused, no route.
cdef void upstream_gone(upstream_t *upstream) noexcept nogil

# A socket of `kind` (SOCK_DGRAM, SOCK_STREAM), connected, or (TCP) about to be: an event will tell. ASK_LATER
# where the kernel has none, or no port, to give now; ASK_NOWHERE where no way leads there, and upstream.error
# says why.
cdef ask_rc dial(coordinator_t *c, upstream_t *upstream, int kind, int *fd) noexcept nogil
