# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Sequence
from typing import Any

def fill_cache(
    fd: int,
    answers: Iterable[tuple[bytes, int, bytes, Sequence[int], tuple[int, int, int]]],
    ttl_s: int = ...,
) -> int: ...

class CoordinatorEnd:
    def __init__(self, fd: int) -> None: ...
    def sleep(self) -> None: ...
    def take(self) -> dict[str, Any] | None: ...
    def answer(
        self,
        question: dict[str, Any],
        records: bytes = ...,
        ttl_offsets: Sequence[int] = ...,
        counts: tuple[int, int, int] = ...,
        ttl_s: int = ...,
        msg_flags: int = ...,
        ticket: int | None = ...,
        qname: bytes | None = ...,
    ) -> bool: ...
    def fail(self, question: dict[str, Any], ede: int) -> bool: ...
    def generation(self, value: int) -> None: ...
    def stop(self, word: int) -> None: ...
    def overflow(self) -> None: ...
    answers_empty: bool
    heartbeat: int
    serving: int
    pending: int
    clients: int
    in_hand: dict[str, int]
    def died_on_tcp(self, message: bytes) -> None: ...
    def counters(self) -> list[int]: ...
