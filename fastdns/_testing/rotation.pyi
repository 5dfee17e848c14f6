# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

class Answer:
    def __init__(
        self,
        qname: bytes,
        qtype: int,
        records: bytes,
        ttl_offsets: Sequence[int],
        counts: tuple[int, int, int],
    ) -> None: ...
    run: tuple[int, int, int]
    def claim(self, off: int, length: int, count: int) -> None: ...
    def parts(self, spin: int, want: int) -> list[tuple[int, int]]: ...
    def reply(self, packet: bytes, spin: int, limit: int = ...) -> bytes: ...

def spins(seed: int, n: int) -> list[int]: ...
