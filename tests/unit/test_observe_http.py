# SPDX-License-Identifier: Apache-2.0
"""Control's HTTP server: what is served, what is refused, and that nobody can hold it up."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.control.observe import http
from fastdns.control.observe.http import BadRequest, Listener, Request, Response, parse_head, resolve
from fastdns.control.observe.listen import bind
from fastdns.errors import ListenError

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def listening(**routes: http.Handler) -> AsyncIterator[Listener]:
    sock = bind(("127.0.0.1", 0), shared=True)
    listener = Listener(sock, {f"/{path}": handler for path, handler in routes.items()})
    await listener.start()
    try:
        yield listener
    finally:
        await listener.close()


def ok(_: Request) -> Response:
    return Response(200, b"OK")


async def until(what: Callable[[], bool]) -> None:
    """Let the server's tasks run until it is so."""
    async with asyncio.timeout(5.0):
        while not what():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.001)


async def talk(listener: Listener, *pieces: bytes, wait_s: float = 0.0) -> bytes:
    """Send, and read until the server closes."""
    reader, writer = await asyncio.open_connection(*listener.address)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(wait_s)
        return await asyncio.wait_for(reader.read(), 5.0)
    finally:
        writer.close()


def status(reply: bytes) -> int:
    return int(reply.split(b" ")[1])


def test_health_to_the_octet() -> None:
    """corefile.md section 4: 200, `text/plain; charset=utf-8`, two octets and no newline."""

    async def run() -> bytes:
        async with listening(health=ok) as listener:
            return await talk(listener, b"GET /health HTTP/1.0\r\n\r\n")

    reply = asyncio.run(run())
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; charset=utf-8" in head
    assert b"Content-Length: 2" in head
    assert body == b"OK"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"POST /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),  # any method
        (b"GET /health?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /health/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /ready HTTP/1.0\r\n\r\n", 404),
        (b"GET /broken HTTP/1.0\r\n\r\n", 500),
        (b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /health\r\n\r\n", 400),
        (b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),  # no Host, RFC 9112 s3.2
        (b"GET /health HTTP/2.0\r\n\r\n", 505),
        (b"GET /health GOPHER\r\n\r\n", 400),
        (b"GET /h\xc3\xa4lth HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00" * 2000, 431),
    ],
)
def test_requests(request_: bytes, expected: int) -> None:
    def broken(_: Request) -> Response:
        raise RuntimeError("broken")

    async def run() -> bytes:
        async with listening(health=ok, broken=broken) as listener:
            return await talk(listener, request_)

    assert status(asyncio.run(run())) == expected


def test_a_connection_stays() -> None:
    async def run() -> bytes:
        async with listening(health=ok) as listener:
            return await talk(
                listener, GET + GET, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )

    assert asyncio.run(run()).count(b"\r\n\r\nOK") == 3


def test_a_request_in_pieces() -> None:
    async def run() -> bytes:
        async with listening(health=ok) as listener:
            pieces = [bytes([octet]) for octet in b"GET /health HTTP/1.0\r\n\r\n"]
            return await talk(listener, *pieces, wait_s=0.001)

    assert status(asyncio.run(run())) == 200


def test_head_has_no_body() -> None:
    async def run() -> bytes:
        async with listening(health=ok) as listener:
            return await talk(listener, b"HEAD /health HTTP/1.0\r\n\r\n")

    reply = asyncio.run(run())
    assert b"Content-Length: 2" in reply
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=1.0", True),
        ("*", True),
        ("gzip;q=0", False),
        ("br", False),
        ("", False),
    ],
)
def test_gzip_where_asked_for(accepted: str, packed: bool) -> None:
    body = b"metric 1\n" * 1000

    def metrics(request: Request) -> Response:
        return Response(200, gzip.compress(body) if request.takes_gzip else body, gzipped=request.takes_gzip)

    async def run() -> bytes:
        async with listening(metrics=metrics) as listener:
            asked = f"GET /metrics HTTP/1.0\r\nAccept-Encoding: {accepted}\r\n\r\n"
            return await talk(listener, asked.encode())

    head, _, got = asyncio.run(run()).partition(b"\r\n\r\n")
    assert (b"Content-Encoding: gzip" in head) == packed
    assert (gzip.decompress(got) if packed else got) == body


@pytest.mark.parametrize("first", [b"", b"GET /health HT", GET])
def test_the_slow_are_cut(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, inside and between requests."""
    monkeypatch.setattr(http, "READ_S", 0.1)

    async def run() -> bytes:
        async with listening(health=ok) as listener:
            reader, writer = await asyncio.open_connection(*listener.address)
            writer.write(first)
            try:
                return await asyncio.wait_for(reader.read(), 5.0)  # until the server closes
            finally:
                writer.close()

    assert asyncio.run(run()).endswith(b"OK" if first == GET else b"")


def test_who_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WRITE_S", 0.1)
    body = bytes(1 << 24)

    async def run() -> bool:
        async with listening(metrics=lambda _: Response(200, body)) as listener:
            reader, writer = await asyncio.open_connection(*listener.address, limit=1024)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: bool(listener._connections))  # begun
            await until(lambda: not listener._connections)  # cut
            writer.close()
            return len(await reader.read(1)) == 1

    assert asyncio.run(run())


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 3)

    async def run() -> tuple[bytes, bytes]:
        async with listening(health=ok) as listener:
            held = [await asyncio.open_connection(*listener.address) for _ in range(3)]
            await until(lambda: len(listener._connections) == 3)
            refused = await talk(listener)
            for _, writer in held:
                writer.close()
            await until(lambda: not listener._connections)
            return refused, await talk(listener, b"GET /health HTTP/1.0\r\n\r\n")

    refused, after = asyncio.run(run())
    assert refused == b""
    assert status(after) == 200


def test_an_address_that_is_taken() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(
            ListenError, match=rf"listen tcp 127\.0\.0\.1:{port}: bind: address already in use"
        ):
            bind(("127.0.0.1", port), shared=False)


def test_an_address_that_is_not_here() -> None:
    """corefile.md section 4, as observed; the node's own addresses may come later."""
    with pytest.raises(
        ListenError, match=r"listen tcp 192\.0\.2\.1:8080: bind: cannot assign requested address"
    ):
        bind(("192.0.2.1", 8080), shared=True)
    bind(("192.0.2.1", 8080), shared=True, arriving=True).close()


def test_all_addresses() -> None:
    """`:8080` is IPv4 and IPv6, as Go has it."""
    with bind(("", 0), shared=True) as sock:
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), 1.0):
                pass


def test_names_are_resolved() -> None:
    async def run() -> list[tuple[str, int]]:
        found = [await resolve((host, 1)) for host in ("localhost", "", "::1", "10.0.0.1")]
        with pytest.raises(ListenError):
            await resolve(("no-such-host.invalid", 1))
        return found

    assert asyncio.run(run()) == [("127.0.0.1", 1), ("", 1), ("::1", 1), ("10.0.0.1", 1)]


@given(st.binary(max_size=300))
def test_any_octets(head: bytes) -> None:
    """A request or a BadRequest, nothing else."""
    with suppress(BadRequest):
        parse_head(head + b"\r\n\r\n")
