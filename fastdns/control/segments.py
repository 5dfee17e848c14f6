# SPDX-License-Identifier: Apache-2.0
"""The descriptors that come with the keeper's STATE, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastdns.protocol import State


@dataclass(frozen=True, slots=True)
class Segments:
    """Shared memory, opened for reading but for ledger and logs. Open for the life of control."""

    config: int
    board: int
    post: int
    ledger: int  #: control's own
    regions: tuple[int, ...]  #: by worker
    logs: tuple[int, ...]  #: the coordinator's, then by worker; these may be written


@dataclass(frozen=True, slots=True)
class Inheritance:
    """All that comes with STATE."""

    segments: Segments
    former: int  #: the configuration before, for the reader to close; -1: all children have the one there
    http: Mapping[int, int]  #: control's listening sockets, by number

    @classmethod
    def of(cls, state: State, descriptors: Sequence[int]) -> "Inheritance":
        """From STATE's descriptors: config, board, post, ledger, n regions, n + 1 logs, former, sockets.

        The last two are there where the state says so.
        """
        config, board, post, ledger, *others = descriptors
        numbers = [number for number in range(state.http.bit_length()) if state.http >> number & 1]
        sockets = [others.pop() for _ in numbers][::-1]
        former = others.pop() if state.former else -1
        workers = len(others) // 2
        regions, logs = tuple(others[:workers]), tuple(others[workers:])
        return cls(
            Segments(config, board, post, ledger, regions, logs),
            former,
            dict(zip(numbers, sockets, strict=True)),
        )
