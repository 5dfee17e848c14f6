# SPDX-License-Identifier: Apache-2.0
from typing import TypeAlias

from fastdns.coordinator._queue import SlowQueue

Result: TypeAlias = tuple[int, int, int, int, int, int, int, bytes, int, int, bytes, bytes]

class LoopEnd:
    wake: int
    def queue(self) -> SlowQueue: ...
    def put(
        self,
        kind: int,
        flight: int,
        block: int,
        step: int,
        qname: bytes,
        qtype: int = ...,
        qclass: int = ...,
        limit: int = ...,
        message: bytes = ...,
        client: bool = ...,
        key_hash: int = ...,
    ) -> int: ...
    def next(self) -> Result | None: ...
    def in_hand(self) -> tuple[int, bytes]: ...
    def stuck(self, now_ms: int) -> int: ...
    def waiting(self, block: int) -> int: ...
