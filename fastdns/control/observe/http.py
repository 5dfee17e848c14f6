# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server for probes and scrapes, on asyncio's streams.

It answers requests without a body for a handful of paths; nothing that it takes from a client is ever as
large as 8 KiB, and nobody holds a connection for longer than some seconds without using it.
"""

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fastdns import log
from fastdns.control.lean_asyncio import asyncio
from fastdns.control.observe.listen import Address, numeric
from fastdns.errors import ListenError

HEAD_MAX = 8192  #: octets of request line and headers
READ_S = 5.0  #: for a whole request, and for the next one on a connection, as CoreDNS's /metrics has it
WRITE_S = 5.0
CONNECTIONS_MAX = 64  #: of one listener

TEXT = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 413: "Content Too Large",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for."""

    method: str
    path: str  #: without the query
    headers: Mapping[str, str] = field(default_factory=dict)  #: names in lower case

    @property
    def takes_gzip(self) -> bool:
        """Whether the client accepts that content coding (RFC 9110 s12.5.3)."""
        for one in self.headers.get("accept-encoding", "").split(","):
            coding, _, parameter = one.partition(";")
            if coding.strip().lower() in ("gzip", "*"):
                return parameter.replace(" ", "") not in ("q=0", "q=0.0")
        return False


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets."""

    status: int = 200
    body: bytes = b""
    content_type: str = TEXT
    gzipped: bool = False  #: the body is; for a request that takes it


Handler = Callable[[Request], Response | Awaitable[Response]]
Routes = Mapping[str, Handler]  #: by path; anything else is 404

NOT_FOUND = Response(404, b"404 page not found\n")


class BadRequest(Exception):
    """Not what HTTP looks like; the connection ends after the reply."""

    def __init__(self, status: int) -> None:
        super().__init__(_REASONS[status])
        self.status = status


def parse_head(head: bytes) -> tuple[Request, bool]:
    """A request's lines up to the empty one, and whether the connection stays. Raises BadRequest.

    RFC 9112 s3, s5: a line folded or without a colon, a blank before the colon, and octets outside of ASCII
    in the request line are refused.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not first.isascii() or not words[0].isalpha():
        raise BadRequest(400)
    method, target, version = (word.decode() for word in words)
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(505 if version.startswith("HTTP/") else 400)
    if not target.startswith("/") and target != "*":
        raise BadRequest(400)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400)
        headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    if version == "HTTP/1.1" and "host" not in headers:
        raise BadRequest(400)
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequest(413)  # no path here takes a body
    option = headers.get("connection", "").lower()
    stays = option != "close" if version == "HTTP/1.1" else option == "keep-alive"
    return Request(method, target.partition("?")[0], headers), stays


def encode(response: Response, request: Request | None, stays: bool) -> bytes:
    """A response as it goes on the wire."""
    extra = "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n" if response.gzipped else ""
    head = (
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Other')}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n{extra}"
        f"Connection: {'keep-alive' if stays else 'close'}\r\n\r\n"
    )
    return head.encode() + (b"" if request is not None and request.method == "HEAD" else response.body)


class Listener:
    """One address, with what is answered there. ``routes`` may be changed while it listens."""

    def __init__(self, sock: socket.socket, routes: Routes) -> None:
        self.routes = routes
        self.socket = sock
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> Address:
        """Where it listens, the port that the kernel chose included."""
        host, port, *_ = self.socket.getsockname()
        return host, port

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._serve, sock=self.socket, limit=HEAD_MAX)

    async def close(self) -> None:
        """Take no more, and end those there are."""
        if self._server is not None:
            self._server.close()
        self.socket.close()
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=1.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= CONNECTIONS_MAX:
                await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # gone, or too slow: what it asked for is not ours to wait for
        finally:
            self._connections.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stays = True
        while stays:
            request = None
            try:
                async with asyncio.timeout(READ_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                request, stays = parse_head(head)
                response = await self._answer(request)
            except asyncio.LimitOverrunError:
                response, stays = _refusal(431), False
            except BadRequest as bad:
                response, stays = _refusal(bad.status), False
            writer.write(encode(response, request, stays))
            async with asyncio.timeout(WRITE_S):
                await writer.drain()

    async def _answer(self, request: Request) -> Response:
        handler = self.routes.get(request.path)
        if handler is None:
            return NOT_FOUND
        try:
            found = handler(request)
            return found if isinstance(found, Response) else await found
        except Exception as error:
            log.error(f"http: {request.path}: {error!r}")
            return _refusal(500)


def _refusal(status: int) -> Response:
    return Response(status, f"{status} {_REASONS[status]}\n".encode())


async def resolve(address: Address) -> Address:
    """The address with its host as a number; Go's net.Listen takes names, and prefers IPv4.

    Raises ListenError.
    """
    host, port = address
    if not host or numeric(host):
        return numeric(host), port
    try:
        async with asyncio.timeout(READ_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        raise ListenError(f"listen tcp: lookup {host}: {error or 'no answer'}") from None
    best = min(found, key=lambda one: one[0] != socket.AF_INET)
    return str(best[4][0]), port
