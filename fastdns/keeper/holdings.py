# SPDX-License-Identifier: Apache-2.0
"""What the keeper holds for its children: sockets, eventfds and shared memory.

Plain descriptors, no socket or file objects: a child closes what is not its own by number, and
an object that is collected there later would close a number that has another meaning by then.
"""

import os
from dataclasses import dataclass, field

from fastdns import _segments
from fastdns.handles import CoordinatorHandles, WorkerHandles
from fastdns.keeper._groups import Group
from fastdns.protocol import MAX_HTTP, MAX_LISTENERS, Geometry, close_all


@dataclass(slots=True)
class Listener:
    """The sockets of one address, one a worker, and the order of their binding."""

    udp: list[int]
    tcp: list[int]
    udp_group: Group = field(default_factory=lambda: Group(stream=False))
    tcp_group: Group = field(default_factory=lambda: Group(stream=True))
    retired: bool = False  #: children get it no more

    def __post_init__(self) -> None:
        for group, sockets in ((self.udp_group, self.udp), (self.tcp_group, self.tcp)):
            for worker, descriptor in enumerate(sockets):
                group.add(descriptor, worker)


class Holdings:
    """Gathered by control's requests, complete before the start; gone with the keeper.

    Listeners have slots, whose numbers the configuration uses: None is an empty one.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.workers = 0
        self.config = -1
        self.former = -1  #: the configuration before it, until all children have the new one
        self.board = -1
        self.post = -1
        self.ledger = -1
        self.cache = -1
        self.cache_reader = -1  #: the same cache, O_RDONLY: what workers get
        self.regions: list[int] = []
        self.logs: list[int] = []  #: the coordinator's, then the workers'
        self.wakes: list[int] = []  #: the coordinator's, then the workers'
        self.listeners: list[Listener | None] = []
        self.http: dict[int, int] = {}  #: control's own listening sockets, by number

    def allocate(self, geometry: Geometry) -> None:
        """Make and touch the segments. Raises OSError, ValueError; nothing is held then."""
        if self.workers:
            raise ValueError("allocated twice")
        try:
            self._allocate(geometry)
        except (OSError, ValueError, OverflowError):
            self.close()
            raise
        self.workers = geometry.workers

    def _allocate(self, geometry: Geometry) -> None:
        self.board = _segments.create_board(geometry.workers)
        self.post = _segments.create_post()
        self.ledger = _segments.create_ledger()
        self.cache = _segments.create_cache(geometry.cache)
        self.cache_reader = _segments.reopen_read_only(self.cache)
        slots = _segments.cache_slots(geometry.cache)
        for index in range(geometry.workers):
            self.regions.append(
                _segments.create_region(
                    index,
                    questions=geometry.questions,
                    answers=geometry.answers,
                    pending=geometry.pending,
                    clients=geometry.clients,
                    slots=slots,
                    tcp=geometry.tcp,
                    series=geometry.series,
                )
            )
        for name in ("coordinator", *(f"worker-{index}" for index in range(geometry.workers))):
            self.logs.append(_segments.create_log(name, geometry.log))
        for _ in range(geometry.workers + 1):
            self.wakes.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def add_listener(self, number: int, descriptors: tuple[int, ...]) -> None:
        """Take over a listener's sockets. Raises ValueError; they are closed then."""
        taken = number < len(self.listeners) and self.listeners[number] is not None
        if number >= MAX_LISTENERS or taken or not self.workers or len(descriptors) != 2 * self.workers:
            close_all(descriptors)
            raise ValueError(f"listener {number} with {len(descriptors)} sockets")
        self.listeners += [None] * (number + 1 - len(self.listeners))
        self.listeners[number] = Listener(
            list(descriptors[: self.workers]), list(descriptors[self.workers :])
        )

    def retire_listener(self, number: int) -> None:
        """Children that start from now on don't get it. Raises ValueError."""
        listener = self.listeners[number] if number < len(self.listeners) else None
        if listener is None or listener.retired:
            raise ValueError(f"listener {number} is not there")
        listener.retired = True

    def restore_listener(self, number: int) -> None:
        """Children that start from now on get it again. Raises ValueError."""
        listener = self.listeners[number] if number < len(self.listeners) else None
        if listener is None or not listener.retired:
            raise ValueError(f"listener {number} was not retired")
        listener.retired = False

    def slots(self) -> int:
        """A bit for each listener that children get."""
        return sum(1 << i for i, one in enumerate(self.listeners) if one is not None and not one.retired)

    def settle(self) -> None:
        """All children have the configuration: close what none of them has any more.

        Of a listener these are the last descriptors, so that its group is gone.
        """
        if self.former >= 0:
            os.close(self.former)
            self.former = -1
        for number, listener in enumerate(self.listeners):
            if listener is not None and listener.retired:
                close_all(listener.udp + listener.tcp)
                self.listeners[number] = None

    def set_config(self, descriptors: tuple[int, ...]) -> None:
        """Take over a configuration's segment. Raises ValueError.

        The one before is kept until it is settled, those in between are not.
        """
        if len(descriptors) != 1:
            close_all(descriptors)
            raise ValueError(f"a configuration with {len(descriptors)} descriptors")
        if self.former < 0:
            self.former = self.config
        else:
            os.close(self.config)
        self.config = descriptors[0]

    def hold_http(self, number: int, descriptors: tuple[int, ...]) -> None:
        """Hold a listening socket of control's in place of the one before, if there is one.

        Raises ValueError; it is closed then.
        """
        if number >= MAX_HTTP or len(descriptors) > 1:
            close_all(descriptors)
            raise ValueError(f"HTTP {number} with {len(descriptors)} sockets")
        if number in self.http:
            os.close(self.http.pop(number))
        if descriptors:
            self.http[number] = descriptors[0]

    def complete(self) -> bool:
        return self.workers > 0 and self.config >= 0 and any(self.listeners)

    def groups(self) -> list[Group | None]:
        """UDP and TCP of each listener's slot, in order."""
        found: list[Group | None] = []
        for one in self.listeners:
            found += [one.udp_group, one.tcp_group] if one is not None else [None, None]
        return found

    def coordinator_handles(self) -> CoordinatorHandles:
        return CoordinatorHandles(
            config=self.config,
            cache=self.cache,
            post=self.post,
            wake=self.wakes[0],
            log=self.logs[0],
            regions=list(self.regions),
            wake_workers=self.wakes[1:],
        )

    def worker_handles(self, index: int) -> WorkerHandles:
        return WorkerHandles(
            index=index,
            config=self.config,
            cache=self.cache_reader,
            region=self.regions[index],
            wake=self.wakes[1 + index],
            wake_coordinator=self.wakes[0],
            log=self.logs[1 + index],
            udp=[-1 if one is None or one.retired else one.udp[index] for one in self.listeners],
            tcp=[-1 if one is None or one.retired else one.tcp[index] for one in self.listeners],
        )

    def readers(self) -> list[int]:
        """Config, board, post, ledger, regions, logs, the former config if there is one, control's sockets.

        The caller closes them. Ledger and logs may be written. Raises OSError.
        """
        opened: list[int] = []
        try:
            for one in (self.config, self.board, self.post, self.ledger, *self.regions, *self.logs):
                writable = one == self.ledger or one in self.logs
                opened.append(os.dup(one) if writable else _segments.reopen_read_only(one))
            if self.former >= 0:
                opened.append(_segments.reopen_read_only(self.former))
            opened += (os.dup(one) for _, one in sorted(self.http.items()))
        except OSError:
            close_all(opened)
            raise
        return opened

    def close(self) -> None:
        """Let go of everything: what was asked for can't be had, or its control died before the start."""
        held = [self.config, self.former, self.board, self.post, self.ledger, self.cache, self.cache_reader]
        held += self.regions + self.logs + self.wakes + list(self.http.values())
        for one in self.listeners:
            held += one.udp + one.tcp if one is not None else []
        for descriptor in held:
            if descriptor >= 0:
                os.close(descriptor)
        self._forget()
