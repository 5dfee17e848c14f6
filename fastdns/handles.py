# SPDX-License-Identifier: Apache-2.0
"""What the keeper hands to a child at its birth: file descriptors and numbers, nothing else."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorkerHandles:
    """Descriptors of one worker; all others are closed as its first act."""

    index: int
    config: int  #: sealed memfd with an fd_config_t
    cache: int  #: the cache, opened O_RDONLY
    region: int  #: its own region, read and write
    wake: int  #: its eventfd
    wake_coordinator: int
    log: int  #: its log ring, read and write
    udp: list[int] = field(default_factory=list)  #: one a listener, in the config's order
    tcp: list[int] = field(default_factory=list)

    def descriptors(self) -> set[int]:
        """All descriptors that this child keeps open."""
        own = {self.config, self.cache, self.region, self.wake, self.wake_coordinator, self.log}
        return {*own, *self.udp, *self.tcp}


@dataclass(frozen=True, slots=True)
class CoordinatorHandles:
    """Descriptors of the coordinator."""

    config: int
    cache: int  #: the cache, read and write
    post: int
    wake: int
    log: int  #: its log ring, read and write
    regions: list[int] = field(default_factory=list)  #: one a worker
    wake_workers: list[int] = field(default_factory=list)

    def descriptors(self) -> set[int]:
        """All descriptors that this child keeps open."""
        own = {self.config, self.cache, self.post, self.wake, self.log}
        return {*own, *self.regions, *self.wake_workers}
