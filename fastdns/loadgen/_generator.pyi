# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from typing import TypedDict

class Totals(TypedDict):
    sent: int
    answered: int
    timeouts: int
    late: int
    stray: int
    mismatched: int
    truncated: int
    refused: int
    send_errors: int
    held_back: int
    in_flight: int
    octets_in: int
    latency_sum_ns: int
    latency_min_ns: int
    latency_max_ns: int
    busy_ns: int
    rcodes: list[int]
    histogram: list[int]

def histogram_bounds(index: int) -> tuple[int, int]: ...

class Generator:
    def __init__(
        self,
        fds: Sequence[int],
        queries: Sequence[bytes],
        *,
        unique: bool = False,
        random_order: bool = False,
        verify: bool = True,
        wait: int = 0,
        window: int = 1024,
        rate: float = 0.0,
        count: int = 0,
        timeout_s: float = 1.0,
        seed: int = 1,
    ) -> None: ...
    def step(self, seconds: float, sending: bool = True) -> bool: ...
    def totals(self) -> Totals: ...
