# SPDX-License-Identifier: Apache-2.0
"""A TCP server without DNS behind it, and its clients: real sockets on loopback, the clock is the tests'."""

import contextlib
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

from fastdns._testing import tcp
from fastdns._testing.tcp import ECHO

# Both ends of 1,024 connections are in this process.
_HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, _HARD), _HARD))

PATIENCE = 10.0  # s; a bound, never waited for when all is well


def message(ident: int, kind: int = ECHO, large: int = 0, size: int = 12) -> bytes:
    return struct.pack("!HBBH", ident, kind, 0, large) + bytes(size - 6)


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(one)) + one for one in messages)


def large_reply(query: bytes) -> bytes:
    size = int.from_bytes(query[4:6], "big")
    return query[:12] + bytes((i & 0xFF) ^ query[1] for i in range(12, size))


def split(octets: bytes) -> list[bytes]:
    """The whole messages in a stream; what is left over fails the test."""
    found = []
    while octets:
        (size,) = struct.unpack_from("!H", octets)
        assert len(octets) >= 2 + size, "the stream ends within a message"
        found.append(octets[2 : 2 + size])
        octets = octets[2 + size :]
    return found


class Client:
    def __init__(self, address: tuple[str, int], receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.got = b""
        self.closed = False  # the server has closed

    def send(self, octets: bytes) -> None:
        assert self.sock.send(octets) == len(octets)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def read(self, most: int = 1 << 20) -> None:
        """Take what is here."""
        try:
            octets = self.sock.recv(most)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.closed = True
            return
        self.got += octets
        self.closed = self.closed or not octets


class World:
    """A server and its clients; at the end nothing may be left of either."""

    def __init__(self, **limits: int) -> None:
        self.listeners = [socket.create_server(("127.0.0.1", 0), backlog=2048) for _ in range(2)]
        for one in self.listeners:
            one.setblocking(False)
        self.listener = self.listeners[0]
        self.server = tcp.Server([one.fileno() for one in self.listeners], **limits)
        self.clients: list[Client] = []

    def connect(self, *, receive_buffer: int = 0, listener: int = 0) -> Client:
        """A client whose connection is accepted."""
        before = self.server.count("accepted")
        client = Client(self.listeners[listener].getsockname(), receive_buffer)
        self.clients.append(client)
        self.until(lambda: self.server.count("accepted") > before)
        return client

    def until(self, done: Callable[[], bool], *readers: Client) -> None:
        """Turn the loop, and let `readers` read, until `done`."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, "it does not come to that"
            if self.server.round(0 if readers else 20) == 0 and readers:
                poll = select.poll()
                for one in readers:
                    poll.register(one.sock, select.POLLIN)
                poll.poll(20)
            for one in readers:
                one.read()

    def turn(self) -> None:
        """Turn the loop as long as there is something to do at once."""
        while self.server.round():
            pass

    def settle(self) -> None:
        """The same, with a little time for the kernel between the two ends."""
        while self.server.round(5):
            pass

    def replies(self, client: Client, count: int) -> list[bytes]:
        """The next `count` replies, all there is."""

        def complete() -> bool:
            at = n = 0
            while n < count and at + 2 <= len(client.got):
                at += 2 + int.from_bytes(client.got[at : at + 2], "big")
                n += 1
            return n == count and at <= len(client.got)

        self.until(complete, client)
        found, client.got = split(client.got), b""
        assert len(found) == count
        return found

    def closed(self, client: Client) -> None:
        self.until(lambda: client.closed, client)

    def close(self) -> None:
        for client in self.clients:
            client.sock.close()
        for one in self.listeners:
            one.close()

    def finish(self) -> None:
        for client in self.clients:
            client.sock.close()
        # Replies to queries that still wait come too late for their clients.
        for connection, use, query in self.server.waiting():
            self.server.reply(connection, use, query)
        self.until(lambda: self.server.open == 0)
        assert self.server.blocks_used == 0
        assert self.server.phases()["free"] > 0
        assert self.server.messages >= 0


@contextlib.contextmanager
def made(**limits: int) -> Iterator[World]:
    it = World(**limits)
    try:
        yield it
        it.finish()
    finally:
        it.close()
