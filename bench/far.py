# SPDX-License-Identifier: Apache-2.0
"""A resolver far away that can bear thousands of questions/s: an address for every name, with a TTL by name.

with far_resolver(delay_s=0.02, ttl_s=lambda qname: 30) as resolver:
    ...
    resolver.asked            # (when it came, qname in wire form), in order
"""

import collections
import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from tests.mock_upstream import RECEIVE_BUFFER

_HEADER_LEN = 12
_FLAGS = 0x8180  # QR, RD, RA
_RECORD = struct.Struct("!HHHIH4s")
_POINTER = 0xC000 | _HEADER_LEN  # to the question's name; RFC 1035 s4.1.4
_IDLE_S = 0.1


class FarResolver:
    """UDP only; a thread of its own. One A record and no OPT in each answer."""

    def __init__(self, sock: socket.socket, delay_s: float, ttl_s: Callable[[bytes], int]) -> None:
        self.server: tuple[str, int] = sock.getsockname()[:2]
        self.asked: list[tuple[float, bytes]] = []
        self._sock, self._delay_s, self._ttl_s = sock, delay_s, ttl_s
        self._waiting: collections.deque[tuple[float, bytes, tuple[str, int]]] = collections.deque()
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, reply, peer = self._waiting.popleft()
                self._sock.sendto(reply, peer)
            wait_s = self._waiting[0][0] - now if self._waiting else _IDLE_S
            if select.select([self._sock], [], [], max(0.0, wait_s))[0]:
                self._receive()

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                query, peer = self._sock.recvfrom(4096)
                at = time.monotonic()
                end = query.index(b"\0", _HEADER_LEN) + 1
                qname = query[_HEADER_LEN:end].lower()
                self.asked.append((at, qname))
                reply = b"".join(
                    (
                        query[:2],
                        struct.pack("!5H", _FLAGS, 1, 1, 0, 0),
                        query[_HEADER_LEN : end + 4],
                        _RECORD.pack(_POINTER, 1, 1, self._ttl_s(qname), 4, b"\xc6\x12\0\1"),
                    )
                )
                self._waiting.append((at + self._delay_s, reply, peer))


@contextlib.contextmanager
def far_resolver(delay_s: float, ttl_s: Callable[[bytes], int]) -> Iterator[FarResolver]:
    """Serve on loopback until the end of the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        resolver = FarResolver(sock, delay_s, ttl_s)
        thread = threading.Thread(target=resolver.run, name="far resolver")
        thread.start()
        try:
            yield resolver
        finally:
            resolver.stop()
            thread.join()
