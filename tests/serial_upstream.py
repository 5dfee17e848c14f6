# SPDX-License-Identifier: Apache-2.0
"""A TCP upstream that works as CoreDNS does: the questions of one connection one after another.

Every answer is NOERROR with 192.0.2.1. It looks at as little of a message as possible, so that thousands of
questions at once are no load for a test.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable, Iterator

_ANSWER = b"\xc0\x0c\x00\x01\x00\x01" + struct.pack("!IH", 300, 4) + bytes((192, 0, 2, 1))
_HEADER = 12  # octets

Pace = Callable[[bytes], float]
"""From the name asked for (wire) to the seconds that its answer takes."""


class SerialUpstream:
    """What the server's thread and the test share."""

    def __init__(self, pace: Pace, gather: int) -> None:
        self.pace = pace
        self.gather = gather
        self.server = ("127.0.0.1", 0)
        self.names: set[bytes] = set()
        self.questions = 0
        self.connections = 0  #: open now
        self.connections_most = 0  #: at once
        self.connections_ever = 0
        self.ready = threading.Event()
        self.gathered = asyncio.Event()

    async def serve(self, stop: asyncio.Event) -> None:
        listener = await asyncio.start_server(self._connection, *self.server, backlog=128)
        self.server = listener.sockets[0].getsockname()[:2]
        async with listener:
            self.ready.set()
            await stop.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.connections_ever += 1
        self.connections_most = max(self.connections_most, self.connections)
        waiting: asyncio.Queue[bytes] = asyncio.Queue()
        answering = asyncio.create_task(self._answer(waiting, writer))
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    query = await reader.readexactly(length)
                    self.questions += 1
                    self.names.add(_question(query))
                    if len(self.names) >= self.gather:
                        self.gathered.set()
                    waiting.put_nowait(query)
        finally:
            self.connections -= 1
            answering.cancel()
            writer.close()

    async def _answer(self, waiting: "asyncio.Queue[bytes]", writer: asyncio.StreamWriter) -> None:
        while True:
            query = await waiting.get()
            await self.gathered.wait()
            question = _question(query)
            if seconds := self.pace(question):
                await asyncio.sleep(seconds)
            reply = query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + question + _ANSWER
            writer.write(struct.pack("!H", len(reply)) + reply)


def _question(query: bytes) -> bytes:
    """The question section of a query with one question."""
    return query[_HEADER : query.index(b"\0", _HEADER) + 5]


@contextlib.contextmanager
def serial_upstream(
    pace: Pace = lambda _question: 0.0, gather: int = 0, server: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[SerialUpstream]:
    """Serve until the end of the block. Nothing is answered before `gather` different names were asked."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    upstream = SerialUpstream(pace, gather)
    upstream.server = server
    if gather == 0:
        upstream.gathered.set()
    thread = threading.Thread(target=loop.run_until_complete, args=(upstream.serve(stop),))
    thread.start()
    try:
        assert upstream.ready.wait(5), "no upstream"
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
