# SPDX-License-Identifier: Apache-2.0
"""The TLS thread: connections to upstreams that the loop uses as if they were plain TCP (RFC 7858).

The loop asks for a connection through a pipe, with one end of a socketpair (``_tls.pxd`` has the form); what
it writes to the other end comes out at the server encrypted, and answers come back the same way. All that is
known of questions and answers, IDs, silence, age and health is the loop's. A connection that the loop has
closed is closed here, so nothing here has a time of its own.

Octets wait in one place for each direction of a connection, a TLS record at most, and nothing is read behind
them: a server that does not read fills the loop's socket, and then the loop knows.
"""

import contextlib
import errno
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastdns import log
from fastdns.tlscontext import client_context

_CHUNK: Final = 16 * 1024  #: the plain text of one record at most: nothing stays in OpenSSL, unseen by epoll
_STANDS, _RESUMED = b"\0", b"\xff"
_ERRNO_MAX: Final = 254
_REQUEST: Final = struct.Struct("=II")  #: number of the upstream, descriptor
_REQUESTS: Final = 4096  #: octets that the pipe holds
_SEND_QUEUE: Final = 64 * 1024  #: octets in the kernel, as for TCP
_UNACKNOWLEDGED_MS: Final = 2000  #: the loop can't see what a dead server's kernel has not taken
_TOLD_AGAIN_S: Final = 60.0
_REASONS: Final = 16  #: that are remembered of a server
_SWITCH_S: Final = 0.001  #: longest wait for the GIL beside a busy step of the other thread
_GONE: Final = select.EPOLLHUP | select.EPOLLERR


class Server:
    """An upstream with TLS: where it is, whom its certificate has to name, the session to resume.

    address, source: as connect and bind take them; no source: the kernel chooses. The others as
    ``control.model.Tls`` has them.
    """

    def __init__(
        self,
        address: Sequence[Any],
        name: str = "",
        ca: str = "",
        cert: str = "",
        key: str = "",
        source: Sequence[Any] = (),
    ) -> None:
        self.address = tuple(address)
        self.source = tuple(source)
        self.family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        self.name = name or str(address[0])
        self.session: ssl.SSLSession | None = None
        self.context: ssl.SSLContext | None = None
        self.unusable = ""
        self._told: dict[str, float] = {}  #: why connections failed: when it was said
        try:
            self.context = client_context(Path(ca) if ca else None, (Path(cert), Path(key)) if cert else None)
        except OSError as error:
            self.unusable = f"its certificate files can't be used: {error}"

    def __str__(self) -> str:
        host = str(self.address[0])
        name = "" if self.name == host else f"%{self.name}"
        return (
            f"tls://[{host}]:{self.address[1]}{name}"
            if ":" in host
            else f"tls://{host}:{self.address[1]}{name}"
        )

    def failed(self, why: str) -> None:
        """Say so; the same again once a minute at most, also where two servers at one address take turns."""
        now_s = time.monotonic()
        if now_s - self._told.get(why, -_TOLD_AGAIN_S) < _TOLD_AGAIN_S:
            return
        if len(self._told) == _REASONS:
            del self._told[min(self._told, key=self._told.__getitem__)]
        self._told[why] = now_s
        log.error(f"coordinator: upstream {self}: {why}")

    def answers(self) -> None:
        """An answer came: only now it is sure that our certificate was taken, too."""
        if self._told:
            self._told.clear()
            log.info(f"coordinator: upstream {self}: answers again")


class Tunnel:
    """One connection: `inner` leads to the loop, `outer` to the server."""

    def __init__(self, poll: select.epoll, server: Server, descriptor: int) -> None:
        self._poll = poll
        self._server = server
        self._inner = socket.socket(fileno=descriptor)
        self._inner.setblocking(False)
        self._outer = socket.socket(server.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.descriptors = (descriptor, self._outer.fileno())
        self._masks = [select.EPOLLIN, select.EPOLLOUT]
        self._tls: ssl.SSLSocket | None = None  # `outer` once it is connected
        self.closed = False
        self._standing = False
        self._answered = False
        self._to_server = b""  # read and not yet written
        self._to_loop = b""
        for fd, mask in zip(self.descriptors, self._masks, strict=True):
            poll.register(fd, mask)

    def begin(self) -> None:
        """Connect. Whatever goes wrong, here and later, is told to the loop, and closes it."""
        try:
            self._outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
            self._outer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_QUEUE)
            if self._server.source:
                self._outer.bind(self._server.source)
            code = self._outer.connect_ex(self._server.address)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError as error:
            self._lost(error)

    def event(self, descriptor: int, events: int) -> None:
        """What epoll says of one of its descriptors."""
        try:
            if descriptor == self.descriptors[0]:
                self._on_loop(events)
            elif self._standing:
                self._on_server(events)
            else:
                self._shake_hands()
        except OSError as error:  # ssl.SSLError is one
            self._lost(error)
        except Exception as error:  # whatever a server makes the library do, the others' connections stand
            self._lost(OSError(errno.EPROTO, repr(error)))
        if not self.closed:
            self._watch()

    def close(self) -> None:
        """Also the loop's end will be closed: it asks the questions on it again."""
        self.closed = True
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()  # says goodbye; the server's own is not waited for
            self._tls.close()
        self._outer.close()
        self._inner.close()

    # ---- until it stands

    def _shake_hands(self) -> None:
        if self._tls is None:
            code = self._outer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            if self._server.context is None:
                raise OSError(errno.EPROTO, self._server.unusable)
            self._tls = self._server.context.wrap_socket(
                self._outer,
                # As octets: for a str Python would load its IDNA tables, and its files are not ours to read.
                server_hostname=self._server.name.encode("ascii", "replace"),
                session=self._server.session,
                do_handshake_on_connect=False,
            )
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._masks[1] = self._modify(1, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._masks[1] = self._modify(1, select.EPOLLOUT)
        else:
            self._standing = True
            self._inner.send(_RESUMED if self._tls.session_reused else _STANDS)

    def _lost(self, error: OSError) -> None:
        if not self._standing:
            self._server.failed(_reason(error))
            with contextlib.suppress(OSError):
                self._inner.send(bytes([_code(error)]))
        elif isinstance(error, ssl.SSLError) and not self._answered:
            # In TLS 1.3 a server that refuses our certificate says so after the handshake.
            self._server.failed(_reason(error))
        self.close()

    # ---- octets

    def _on_loop(self, events: int) -> None:
        if events & _GONE:
            if not self._standing:
                self._server.failed("no connection within the time that questions have")
            self.close()  # nobody is left for the answers
            return
        if events & select.EPOLLOUT:
            self._to_loop = self._give_loop(self._to_loop)
        if events & select.EPOLLIN and not self._to_server:
            self._to_server = self._give_server(self._inner.recv(_CHUNK))

    def _on_server(self, events: int) -> None:
        assert self._tls is not None
        if self._to_server:
            self._to_server = self._give_server(self._to_server)
        if self._to_loop:
            if events & _GONE:
                self.close()
            return
        try:
            data = self._tls.recv(_CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not data:
            self.close()
            return
        if not self._answered:
            self._answered = True
            self._server.answers()
            self._server.session = self._tls.session  # its tickets came with the first answer at the latest
        self._to_loop = self._give_loop(data)

    def _give_server(self, data: bytes) -> bytes:
        """Returns what has to wait."""
        assert self._tls is not None
        try:
            return data[self._tls.send(data) :]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return data

    def _give_loop(self, data: bytes) -> bytes:
        try:
            return data[self._inner.send(data) :]
        except BlockingIOError:
            return data

    # ---- what is waited for

    def _watch(self) -> None:
        """Nothing is read that could not be handed on."""
        if not self._standing:
            return
        for side, (held, waiting) in enumerate(
            ((self._to_server, self._to_loop), (self._to_loop, self._to_server))
        ):
            mask = (0 if held else select.EPOLLIN) | (select.EPOLLOUT if waiting else 0)
            self._masks[side] = self._modify(side, mask)

    def _modify(self, side: int, mask: int) -> int:
        if mask != self._masks[side]:
            self._poll.modify(self.descriptors[side], mask)
        return mask


def _code(error: OSError) -> int:
    """As ``_tls.pxd`` has it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return errno.EKEYREJECTED
    if isinstance(error, ssl.SSLError):
        return errno.EPROTO
    return min(error.errno or errno.ECONNRESET, _ERRNO_MAX)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        text = error.reason.lower().replace("_", " ") if error.reason else str(error.args[-1])
        return f"no TLS connection: {text}"
    return f"no connection: {error.strerror or error}"


class TlsThread(threading.Thread):
    """One for the life of the coordinator. requests: the thread's end of the pipe."""

    def __init__(self, requests: int, servers: Mapping[int, Server]) -> None:
        super().__init__(name="tls", daemon=True)
        self._requests = requests
        self._servers = servers
        self._poll = select.epoll()
        self._poll.register(requests, select.EPOLLIN)
        self._tunnels: dict[int, Tunnel] = {}  # by each of their descriptors

    def run(self) -> None:
        sys.setswitchinterval(_SWITCH_S)
        try:
            while True:
                self._turn()
        except BaseException as error:  # the next coordinator has another thread
            log.error(f"coordinator: TLS thread: {error!r}")
            os._exit(1)

    def _turn(self) -> None:
        asked = False
        for descriptor, events in self._poll.poll():
            if descriptor == self._requests:
                asked = True
                continue
            tunnel = self._tunnels.get(descriptor)
            if tunnel is not None:  # or it was closed by an earlier event of this turn
                tunnel.event(descriptor, events)
                self._forget_closed(tunnel)
        # Last: a new tunnel gets the descriptors of a closed one, whose events are all seen now.
        if asked:
            for number, descriptor in _REQUEST.iter_unpack(os.read(self._requests, _REQUESTS)):
                self._begin(self._servers[number], descriptor)

    def _begin(self, server: Server, descriptor: int) -> None:
        try:
            tunnel = Tunnel(self._poll, server, descriptor)
        except OSError as error:  # no descriptors: the loop sees its end closed
            server.failed(_reason(error))
            return
        self._tunnels |= dict.fromkeys(tunnel.descriptors, tunnel)
        tunnel.begin()
        self._forget_closed(tunnel)

    def _forget_closed(self, tunnel: Tunnel) -> None:
        if tunnel.closed:
            for descriptor in tunnel.descriptors:
                del self._tunnels[descriptor]
