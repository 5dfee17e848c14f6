# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Sequence
from typing import TypeAlias

STEPS: dict[str, int]
CLASSES: dict[str, int]

ErrorRecord: TypeAlias = tuple[int, int, int, int, int, int, bool, str, bytes]

class Texts:
    def __init__(self, types: dict[int, str], classes: dict[int, str], rcodes: dict[int, str]) -> None: ...

class Out:
    def __init__(self, room: int = ...) -> None: ...
    def take(self) -> bytes: ...

class Rule:
    def __init__(self, scopes: Iterable[bytes], classes: int, steps: Sequence[str | int]) -> None: ...

class LogReader:
    invalid: int
    def __init__(self, fd: int, texts: Texts) -> None: ...
    def set_locals(self, listeners: Sequence[str]) -> None: ...

def take(
    readers: list[LogReader],
    rules: Sequence[Sequence[Rule]],
    out: Out,
    errors: list[ErrorRecord],
    most: int,
) -> int: ...
