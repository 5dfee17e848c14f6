# SPDX-License-Identifier: Apache-2.0
"""Does each worker get its own share? (design, "Sockets")

A socket of somebody else on the same address and port (an old pod, a second server) stands in
the same reuseport group: it takes a share, and it shifts the order that the keeper's programs
count on. Nothing tells us, so it is measured: datagrams too short for DNS, with an ID that is
one worker's, must be counted by that worker as dropped.
"""

import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from fastdns import log
from fastdns._stats import read_region
from fastdns.control.addresses import Endpoint
from fastdns.control.lean_asyncio import asyncio
from fastdns.control.link import KeeperLink

_DATAGRAMS = 4  # for each worker
_LEN = 2  # octets: an ID and nothing else; workers count what is under 12 as dropped_short
_ATTEMPTS = 3  # a full queue may lose a round
_WAIT_S = 1.0
_LOOK_S = 0.02
_READY_S = 10.0

_AGAIN_S = 600.0  # while all is well
_AGAIN_FOREIGN_S = 60.0  # while somebody else seems to be there

Pause = Callable[[float], Awaitable[None]]  #: lets that many seconds pass

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class ShareWatch:
    """Leaves the choice between the workers to the kernel where our program does not work."""

    def __init__(self, link: KeeperLink, listeners: Mapping[int, Endpoint], regions: Sequence[int]) -> None:
        """listeners: by slot; may be set anew after a reload. regions: descriptors, by worker."""
        self.listeners = listeners
        self._link = link
        self._regions = regions
        self._foreign: set[Endpoint] = set()  #: those that are left to the kernel

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(await self.check())

    async def check(self) -> float:
        """Look at each listener. Returns the seconds until it should be done again."""
        self._foreign &= set(self.listeners.values())
        if len(self._regions) > 1:  # one worker has no shares
            for number, endpoint in list(self.listeners.items()):
                await self._check_one(number, endpoint)
        return _AGAIN_FOREIGN_S if self._foreign else _AGAIN_S

    async def _check_one(self, number: int, endpoint: Endpoint) -> None:
        before = _starts(self._regions)
        if not await wait_until_serving(self._regions, asyncio.sleep):
            return  # a worker that doesn't come up is in the keeper's log
        if self.listeners.get(number) != endpoint:
            return  # a reload has taken it away meanwhile
        # Our program is what is looked at, also where it was of no use the last time.
        self._link.use_program(number, True)
        if await each_has_its_share(endpoint, self._regions, asyncio.sleep):
            if endpoint in self._foreign:
                self._foreign.discard(endpoint)
                log.info(f"{endpoint}: each worker gets its share again")
            return
        if _starts(self._regions) != before or self.listeners.get(number) != endpoint:
            return  # one died meanwhile, or was restarted: that is no foreign socket
        self._link.use_program(number, False)
        if endpoint not in self._foreign:
            self._foreign.add(endpoint)
            log.warning(
                f"{endpoint}: a worker does not get its share, so another process seems to listen there, too;"
                " the kernel chooses between the workers now"
            )


def _starts(regions: Sequence[int]) -> list[int]:
    return [read_region(one)["starts"] for one in regions]


async def wait_until_serving(regions: Sequence[int], pause: Pause) -> bool:
    """Wait until every worker's heartbeat moves; False if one does not within some seconds."""
    until = time.monotonic() + _READY_S
    first = [read_region(one)["heartbeat"] for one in regions]
    while time.monotonic() < until:
        await pause(_LOOK_S)
        now = [read_region(one) for one in regions]
        if all(one["serving"] and one["heartbeat"] != was for one, was in zip(now, first, strict=True)):
            return True
    return False


async def each_has_its_share(endpoint: Endpoint, regions: Sequence[int], pause: Pause) -> bool:
    """Whether datagrams for each worker reach it, on this address."""
    for worker in range(len(regions)):
        for _ in range(_ATTEMPTS):
            if await _reaches(endpoint, worker, regions, pause):
                break
        else:
            return False
    return True


async def _reaches(endpoint: Endpoint, worker: int, regions: Sequence[int], pause: Pause) -> bool:
    before = _dropped(regions[worker])
    target = Endpoint(_LOOPBACK.get(endpoint.host, endpoint.host), endpoint.port, endpoint.scope_id)
    with socket.socket(endpoint.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        for number in range(_DATAGRAMS):
            with contextlib.suppress(OSError):  # counted as lost
                message_id = worker + number * len(regions)
                sender.sendto(message_id.to_bytes(_LEN, "big"), target.sockaddr)
    until = time.monotonic() + _WAIT_S
    while _dropped(regions[worker]) - before < _DATAGRAMS:
        if time.monotonic() > until:
            return False
        await pause(_LOOK_S)
    return True


def _dropped(region: int) -> int:
    return read_region(region)["counters"]["dropped_short"]
