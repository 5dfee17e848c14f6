# SPDX-License-Identifier: Apache-2.0
"""The descriptors that come with the keeper's STATE, by name."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segments:
    """Shared memory, opened for reading but for ledger and logs. Open for the life of control."""

    config: int
    board: int
    post: int
    ledger: int  #: control's own
    regions: tuple[int, ...]  #: by worker
    logs: tuple[int, ...]  #: the coordinator's, then by worker; these may be written

    @classmethod
    def of(cls, descriptors: Sequence[int]) -> "Segments":
        """From STATE's descriptors: config, board, post, ledger, n regions, n + 1 logs."""
        config, board, post, ledger, *others = descriptors
        workers = len(others) // 2
        return cls(config, board, post, ledger, tuple(others[:workers]), tuple(others[workers:]))
