# SPDX-License-Identifier: Apache-2.0
"""A wrapper for the choice of an upstream: one forward, under a clock of the test's own."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from fastdns._shm cimport (
    FD_POLICY_FASTEST,
    FD_POLICY_RANDOM,
    FD_POLICY_ROUND_ROBIN,
    FD_POLICY_SEQUENTIAL,
    fd_forward_t,
    fd_upstream_t,
)
from fastdns.coordinator._policy cimport policy_first, policy_hedge, policy_hedge_ms, policy_next
from fastdns.coordinator._state cimport NONE, choice_t, coordinator_t, flight_t
from fastdns.coordinator._upstream cimport (
    rtt_measured,
    upstream_answered,
    upstream_asked,
    upstream_silent,
)

_POLICIES = {
    "sequential": FD_POLICY_SEQUENTIAL,
    "random": FD_POLICY_RANDOM,
    "round_robin": FD_POLICY_ROUND_ROBIN,
    "fastest": FD_POLICY_FASTEST,
}


cdef class Choosing:
    """Upstreams 0 to count - 1 of one forward; a question takes one after the other."""

    cdef coordinator_t *c
    cdef choice_t choice
    cdef fd_forward_t forward
    cdef fd_upstream_t config
    cdef flight_t flight

    def __cinit__(self, uint32_t count, str policy="sequential"):
        cdef uint32_t i
        self.c = <coordinator_t *>calloc(1, sizeof(coordinator_t))
        if self.c == NULL:
            raise MemoryError
        self.c.now_ms = 1_000_000
        self.c.choices = &self.choice
        self.c.upstream_count = count
        self.forward.policy = _POLICIES[policy]
        self.forward.upstream_count = <uint8_t>count
        for i in range(count):
            self.forward.upstreams[i] = <uint8_t>i
            self.c.upstreams[i].config = &self.config
        self.flight.forward = &self.forward

    def __dealloc__(self):
        free(self.c)

    def sleep(self, uint64_t ms) -> None:
        self.c.now_ms += ms

    def first(self, uint32_t refused=0) -> int | None:
        self.flight.refused = refused
        index = policy_first(self.c, &self.flight)
        self.flight.upstream = <uint8_t>index
        return None if index == NONE else index

    def next(self, uint32_t refused=0) -> int | None:
        self.flight.refused = refused
        index = policy_next(self.c, &self.flight)
        self.flight.upstream = <uint8_t>index
        return None if index == NONE else index

    def measured(self, uint32_t upstream, uint32_t rtt_us) -> None:
        rtt_measured(&self.c.upstreams[upstream].udp, rtt_us, False)

    def silent(self, uint32_t upstream, uint32_t silences) -> None:
        for _ in range(silences):
            upstream_silent(&self.c.upstreams[upstream])

    def asked(self, uint32_t upstream) -> None:
        upstream_asked(&self.c.upstreams[upstream], self.c.now_ms)

    def answered(self, uint32_t upstream) -> None:
        upstream_answered(&self.c.upstreams[upstream])

    def hedge_ms(self) -> int:
        return policy_hedge_ms(self.c, &self.flight)

    def hedge(self) -> int | None:
        index = policy_hedge(self.c, &self.flight)
        return None if index == NONE else index
