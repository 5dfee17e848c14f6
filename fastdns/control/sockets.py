# SPDX-License-Identifier: Apache-2.0
"""The listening sockets: one UDP socket and one TCP listener for each address and worker.

All are bound here, before anybody gives up root, and go to the keeper; a worker gets its own
share of them (design, "Sockets").
"""

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fastdns.control.addresses import Endpoint
from fastdns.errors import ListenError

_BACKLOG = 1024  # connections that wait for a worker; the kernel caps it at net.core.somaxconn

# Not in Python's socket module before 3.13 or at all; linux/in.h, linux/in6.h, asm-generic/socket.h.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_OMIT = 5
_SO_RCVBUFFORCE = 33
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78


@dataclass(slots=True)
class ListenerSockets:
    """The sockets of one address, in the order of their binding: by worker."""

    endpoint: Endpoint
    udp: list[socket.socket]
    tcp: list[socket.socket]
    rcvbuf: int  #: octets of queue that each UDP socket really got, as SO_RCVBUF counts

    def descriptors(self) -> tuple[int, ...]:
        return tuple(one.fileno() for one in (*self.udp, *self.tcp))

    def close(self) -> None:
        for one in (*self.udp, *self.tcp):
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_listener(endpoint: Endpoint, workers: int, rcvbuf: int, freebind: bool = False) -> ListenerSockets:
    """Bind an address for all workers. Raises ListenError; nothing stays open then.

    rcvbuf: octets of queue to ask for each UDP socket.
    freebind: also an address that is not on the node yet; it is put there once somebody answers on it.
    """
    opened = ListenerSockets(endpoint, [], [], rcvbuf)
    with contextlib.ExitStack() as undo:
        undo.enter_context(opened)
        for _ in range(workers):
            opened.udp.append(_bind(endpoint, socket.SOCK_DGRAM, freebind))
            opened.rcvbuf = min(opened.rcvbuf, _set_udp(opened.udp[-1], endpoint, rcvbuf))
        for _ in range(workers):
            opened.tcp.append(_bind(endpoint, socket.SOCK_STREAM, freebind))
        undo.pop_all()
    return opened


def is_local(endpoint: Endpoint) -> bool:
    """Whether the address is one of this machine's: such a one can be bound."""
    with socket.socket(endpoint.family, socket.SOCK_DGRAM) as one:
        try:
            one.bind(Endpoint(endpoint.host, 0, endpoint.scope_id).sockaddr)
        except OSError:
            return False
    return True


def _bind(endpoint: Endpoint, kind: socket.SocketKind, freebind: bool) -> socket.socket:
    protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    try:
        one = socket.socket(endpoint.family, kind | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _failure(endpoint, protocol, error) from None
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if freebind and endpoint.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        elif freebind:
            one.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_STREAM:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past a predecessor's TIME_WAIT
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by connections
        one.bind(endpoint.sockaddr)
        if kind == socket.SOCK_STREAM:
            one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        raise _failure(endpoint, protocol, error) from None
    return one


def _set_udp(one: socket.socket, endpoint: Endpoint, rcvbuf: int) -> int:
    """Set a bound UDP socket's options. Returns the size of queue that it got."""
    with contextlib.suppress(OSError):  # past net.core.rmem_max, with CAP_NET_ADMIN
        one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, rcvbuf)
    if one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * rcvbuf:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    inet6 = endpoint.family == socket.AF_INET6
    if endpoint.wildcard and inet6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif endpoint.wildcard:
        one.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    # A reply over the path's MTU is sent in fragments of the interface's size, whatever an ICMP
    # message (which anybody can forge) said about the path.
    with contextlib.suppress(OSError):
        if inet6:
            one.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)
        else:
            one.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
    return min(rcvbuf, one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2)


_ADVICE = {
    errno.EADDRINUSE: "another process has it",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    errno.EAFNOSUPPORT: "this kernel has no such address family",
}


def _failure(endpoint: Endpoint, protocol: str, error: OSError) -> ListenError:
    number = error.errno or errno.EIO
    advice = _ADVICE.get(number)
    text = f"--listen {endpoint}: {protocol}: {os.strerror(number)}"
    return ListenError(f"{text} ({advice})" if advice else text)
