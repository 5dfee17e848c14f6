# SPDX-License-Identifier: Apache-2.0
"""Does every worker answer on an address? Asked before pods are led to it. Runs in a short-lived child.

The question needs no upstream and no configuration: opcode STATUS, answered NOTIMP by the worker itself.
UDP goes by message ID, so each worker is asked by name; TCP is the kernel's choice, so connections are made
until each worker has counted one.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence

from fastdns._stats import read_region
from fastdns.control.addresses import Endpoint

WITHIN_S = 3.0
_TRY_S = 0.25  #: a full queue may lose a question
_CONNECTIONS = 64  #: for each worker; that one is missed by chance is less likely than 1 in 10^8
_REST = b"\x10\x00\0\1\0\0\0\0\0\0" + b"\0\0\1\0\1"  # STATUS, and a question about the root
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def failure(endpoint: Endpoint, regions: Sequence[int], within_s: float = WITHIN_S) -> str:
    """What is wrong with the answers on this address; "" where every worker answers.

    regions: descriptors of the workers' regions, in order.
    """
    host = _LOOPBACK.get(endpoint.host, endpoint.host)
    target = Endpoint(host, endpoint.port, endpoint.scope_id)
    until = time.monotonic() + within_s
    for worker in range(len(regions)):
        if not _retry(lambda number=worker: _udp(target, number, len(regions)), until):  # type: ignore[misc]
            return f"{target}: worker {worker} gives no answer over UDP"
    counted = [_tcp_queries(one) for one in regions]
    for _ in range(_CONNECTIONS * len(regions)):
        if not _retry(lambda: _tcp(target), until):
            return f"{target}: no answer over TCP"
        missing = [n for n, one in enumerate(regions) if _tcp_queries(one) == counted[n]]
        if not missing:
            return ""
    return f"{target}: workers {missing} get no connection"


def _retry(ask: Callable[[], bool], until: float) -> bool:
    while True:
        try:
            if ask():
                return True
            error = False
        except OSError:
            error = True
        if time.monotonic() >= until:
            return False
        if error:
            time.sleep(0.01)  # refused at once: nobody there yet


def _udp(target: Endpoint, worker: int, workers: int) -> bool:
    number = int.from_bytes(os.urandom(2), "big") // workers * workers + worker
    message_id = (number % 65536).to_bytes(2, "big") if number < 65536 else worker.to_bytes(2, "big")
    with socket.socket(target.family, socket.SOCK_DGRAM) as one:
        one.settimeout(_TRY_S)
        one.connect(target.sockaddr)
        one.send(message_id + _REST)
        return one.recv(512)[:2] == message_id


def _tcp(target: Endpoint) -> bool:
    message = os.urandom(2) + _REST
    with socket.socket(target.family, socket.SOCK_STREAM) as one:
        one.settimeout(_TRY_S * 2)
        one.connect(target.sockaddr)
        one.sendall(len(message).to_bytes(2, "big") + message)
        return one.recv(4)[2:4] == message[:2]


def _tcp_queries(region: int) -> int:
    return read_region(region)["counters"]["tcp_queries"]
