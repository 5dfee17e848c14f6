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
from collections.abc import Callable, Sequence

from fastdns._stats import read_region
from fastdns.control.addresses import Endpoint

_DATAGRAMS = 4  # for each worker
_LEN = 2  # octets: an ID and nothing else; workers count what is under 12 as dropped_short
_ATTEMPTS = 3  # a full queue may lose a round
_WAIT_S = 1.0
_LOOK_S = 0.02
_READY_S = 10.0

Pause = Callable[[float], None]  #: lets that many seconds pass

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def wait_until_serving(regions: Sequence[int], pause: Pause) -> bool:
    """Wait until every worker's heartbeat moves; False if one does not within some seconds."""
    until = time.monotonic() + _READY_S
    first = [read_region(one)["heartbeat"] for one in regions]
    while time.monotonic() < until:
        pause(_LOOK_S)
        now = [read_region(one) for one in regions]
        if all(one["serving"] and one["heartbeat"] != was for one, was in zip(now, first, strict=True)):
            return True
    return False


def each_has_its_share(endpoint: Endpoint, regions: Sequence[int], pause: Pause) -> bool:
    """Whether datagrams for each worker reach it, on this address."""
    for worker in range(len(regions)):
        for _ in range(_ATTEMPTS):
            if _reaches(endpoint, worker, regions, pause):
                break
        else:
            return False
    return True


def _reaches(endpoint: Endpoint, worker: int, regions: Sequence[int], pause: Pause) -> bool:
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
        pause(_LOOK_S)
    return True


def _dropped(region: int) -> int:
    return read_region(region)["counters"]["dropped_short"]
