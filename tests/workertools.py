# SPDX-License-Identifier: Apache-2.0
"""One real worker process, with a test at the other end of its rings; not tests themselves."""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import multiprocess

import fastdns
from fastdns import _segments
from fastdns._testing.worker import CoordinatorEnd, LogEnd
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Config, Limits, Listener, Upstream, Zone, plain_config
from fastdns.handles import WorkerHandles
from fastdns.worker import process

COUNTERS = re.findall(r"X\((\w+), \"", (Path(fastdns.__file__).parent / "_counters.h").read_text())
IP_PKTINFO = 8  # the socket module has it from 3.14 on
CACHE = 1 << 20
PATIENCE_S = 5.0


def until(what: Callable[[], Any]) -> Any:
    """Poll until ``what`` says something true."""
    end = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < end, "nothing came within the test's patience"
        time.sleep(0.001)
    return found


@dataclass
class Node:
    """Segments and sockets of one worker, as the keeper would hold them."""

    handles: WorkerHandles
    address: tuple[str, int]
    end: CoordinatorEnd
    processes: list[Any]
    cache: int  #: for writing

    def start(self) -> Any:
        child = multiprocess.get_context("fork").Process(target=process.main, args=(self.handles,))
        serving = self.end.heartbeat
        child.start()
        self.processes.append(child)
        until(lambda: self.end.heartbeat > serving)
        return child

    def count(self, name: str) -> int:
        return self.end.counters()[COUNTERS.index(name)]

    def line(self) -> dict[str, Any]:
        """The next line of the log."""
        log = LogEnd(self.handles.log)
        taken: dict[str, Any] = until(log.take)
        return taken

    def question(self) -> dict[str, Any]:
        taken: dict[str, Any] = until(self.end.take)
        return taken


def bind_both(listen: str) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port that both could have."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    while True:
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            for sock in (udp, tcp):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif listen == "0.0.0.0":
            udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        tcp.bind((listen, 0))
        tcp.listen(16)
        tcp.setblocking(False)
        try:
            udp.bind((listen, tcp.getsockname()[1]))
        except OSError:  # somebody else's: take another
            udp.close()
            tcp.close()
        else:
            return udp, tcp


def make_node(
    listen: str = "127.0.0.1",
    deadline_ms: int = 4500,
    configure: Callable[[Config], Config] = lambda config: config,
    log: int = 16384,
    **sizes: int,
) -> Iterator[Node]:
    """A worker on one listener. ``configure`` makes what it wants of the plain configuration; slots of
    listeners that it puts before ours or behind it are empty.
    """
    cache = _segments.create_cache(CACHE)
    region = _segments.create_region(0, slots=_segments.cache_slots(CACHE), **sizes)
    udp, tcp = bind_both(listen)
    with closing(udp), closing(tcp):
        port = udp.getsockname()[1]
        ours = Endpoint(listen, port)
        wanted = configure(
            plain_config(
                (ours,),
                (Upstream(Endpoint("127.0.0.1", 9)),),
                worker_count=1,
                limits=Limits(client_deadline_ms=deadline_ms),
            )
        )
        served = [one is not None and one.endpoint == ours for one in wanted.listeners]
        config = create_config(wanted)
        handles = WorkerHandles(
            index=0,
            config=config,
            cache=_segments.reopen_read_only(cache),
            region=region,
            wake=os.eventfd(0, os.EFD_NONBLOCK),
            wake_coordinator=os.eventfd(0, os.EFD_NONBLOCK),
            log=_segments.create_log("worker-0", log),
            udp=[udp.fileno() if here else -1 for here in served],
            tcp=[tcp.fileno() if here else -1 for here in served],
        )
        reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)
        node = Node(handles, (reach, port), CoordinatorEnd(region), [], cache)
        try:
            node.start()
            yield node
        finally:
            for child in node.processes:
                if child.is_alive():
                    child.kill()
                child.join()
            for descriptor in {*handles.descriptors(), cache} - {udp.fileno(), tcp.fileno(), -1}:
                os.close(descriptor)


def query(name: str, qtype: str = "A", **options: Any) -> dns.message.Message:
    return dns.message.make_query(name, qtype, **options)


def a_records(addresses: list[str], ttl: int = 60) -> tuple[bytes, list[int], tuple[int, int, int]]:
    """A records owned by the question's name (a pointer to offset 12), and their TTL offsets."""
    records = b""
    offsets = []
    for address in addresses:
        offsets.append(len(records) + 6)
        records += struct.pack("!HHHIH", 0xC00C, 1, 1, ttl, 4) + socket.inet_aton(address)
    return records, offsets, (len(addresses), 0, 0)


def receive(sock: socket.socket) -> dns.message.Message:
    return dns.message.from_wire(sock.recv(65535))


def silent(sock: socket.socket, wait_s: float = 0.1) -> bool:
    return not select.select([sock], [], [], wait_s)[0]


def wire(name: str) -> bytes:
    octets = dns.name.from_text(name).to_wire()
    assert octets is not None
    return octets


def listener_of(config: Config) -> Listener:
    (listener,) = config.listeners
    assert listener is not None
    return listener


def with_zones(*zones: Zone | None, **of_listener: bool) -> Callable[[Config], Config]:
    def configure(config: Config) -> Config:
        listener = replace(listener_of(config), **of_listener)  # type: ignore[arg-type]
        return replace(config, zones=zones, listeners=(listener,), series=((0, None, 0),))

    return configure


@contextmanager
def serving(
    configure: Callable[[Config], Config], listen: str = "127.0.0.1", **sizes: int
) -> Iterator[tuple[Node, socket.socket]]:
    """A worker and a UDP client of it."""
    nodes = make_node(listen, configure=configure, **sizes)
    node = next(nodes)
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as client:
            client.settimeout(PATIENCE_S)
            client.connect(node.address)
            yield node, client
    finally:
        nodes.close()  # type: ignore[attr-defined]


def ask_tcp(node: Node, message: dns.message.Message) -> dns.message.Message:
    with closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as sock:
        octets = message.to_wire()
        sock.sendall(struct.pack("!H", len(octets)) + octets)
        stream = sock.makefile("rb")
        (length,) = struct.unpack("!H", stream.read(2))
        return dns.message.from_wire(stream.read(length))


def ask_udp(client: socket.socket, message: dns.message.Message) -> dns.message.Message:
    client.send(message.to_wire())
    return receive(client)
