# SPDX-License-Identifier: Apache-2.0
"""The coordinator run whole: its segments, a child to be it, workers' sides, upstreams that play a part."""

import contextlib
import functools
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from fastdns import _segments
from fastdns._testing.world import Post, Record, WorkerSide
from fastdns.control import model
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Block, Forward, HealthCheck, Limits, plain_config
from fastdns.coordinator.process import read_servers, run
from fastdns.handles import CoordinatorHandles
from tests.cachetools import HEADER

ANSWER, FAILURE = 3, 4
POSITIVE, NODATA, NXDOMAIN, SERVFAIL = 1, 2, 3, 4  # fd_entry_t.kind
NO_EDE = 0xFFFF
STOP_NOW = 2  # FD_STOP_NOW
EDE_OTHER, EDE_NO_REACHABLE_AUTHORITY, EDE_NETWORK_ERROR = 0, 22, 23
SOON = 5.0  # s: a wait that ends as soon as what it waits for is there, and fails the test otherwise


def wire(name: str) -> bytes:
    octets = dns.name.from_text(name).to_wire()
    assert octets is not None
    return octets


# ------------------------------------------------------------------------------ entries ----


@dataclass(frozen=True)
class Answer:
    """An fd_entry_t taken apart."""

    key_hash: int
    stored_ms: int
    stale_mark: int
    fingerprint: int
    ttl_s: int
    stale_s: int
    group: int
    variant: int
    key_flags: int
    qtype: int
    qclass: int
    msg_flags: int
    counts: tuple[int, int, int]
    plain_len: int
    kind: int
    ext_rcode: int
    zone: int
    plugin: int
    marks: int
    told: int
    qname: bytes
    ttl_off: tuple[int, ...]
    records: bytes

    @property
    def rcode(self) -> int:
        return self.ext_rcode << 4 | self.msg_flags & 15

    def wire(self) -> bytes:
        """The reply that a worker would write, but for ID, RD, CD, ages and OPT."""
        return (
            struct.pack("!6H", 0, 0x8000 | self.msg_flags, 1, *self.counts)
            + self.qname
            + struct.pack("!HH", self.qtype, self.qclass)
            + self.records
        )

    def message(self) -> dns.message.Message:
        return dns.message.from_wire(self.wire())

    def ttls(self) -> list[int]:
        return [struct.unpack_from("!I", self.records, offset)[0] for offset in self.ttl_off]


def take_apart(entry: bytes) -> Answer:
    """Check an entry's form while taking it apart."""
    (
        key_hash, stored_ms, stale_mark, fingerprint, _slot, ttl_s, stale_s, group, variant, key_flags,
        qtype, qclass, zone, plugin, marks, msg_flags, ancount, nscount, arcount, records_len, ttl_count,
        plain_len, qname_len, kind, ext_rcode, told,
    ) = HEADER.unpack_from(entry)  # fmt: skip
    assert ttl_count == ancount + nscount + arcount
    qname_end = HEADER.size + qname_len
    offsets = qname_end + qname_end % 2
    records = (offsets + 2 * ttl_count + 7) // 8 * 8
    assert not any(entry[qname_end:offsets])
    assert not any(entry[offsets + 2 * ttl_count : records])
    assert len(entry) - (records + records_len) in range(8)
    return Answer(
        key_hash, stored_ms, stale_mark, fingerprint, ttl_s, stale_s, group, variant, key_flags, qtype,
        qclass, msg_flags, (ancount, nscount, arcount), plain_len, kind, ext_rcode, zone, plugin, marks, told,
        entry[HEADER.size : qname_end],
        struct.unpack_from(f"<{ttl_count}H", entry, offsets), entry[records : records + records_len],
    )  # fmt: skip


# ---------------------------------------------------------------------------- upstreams ----


@dataclass(frozen=True)
class Asked:
    """A query that came to an upstream."""

    wire: bytes
    peer: tuple[str, int]
    tcp: bool
    at: float

    @property
    def query(self) -> dns.message.Message:
        return dns.message.from_wire(self.wire)

    @property
    def qname(self) -> str:
        return self.query.question[0].name.to_text()


Reply = bytes | list[bytes] | None
Play = Callable[[Asked], Reply]


def records(name: str, ttl: int, rdtype: str, *data: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, ttl, "IN", rdtype, *data)


def reply(
    asked: Asked, *answer: dns.rrset.RRset, rcode: int = 0, soa: int | None = None, **options: object
) -> bytes:
    """A response. soa: TTL of an SOA in authority, with that MINIMUM too; minimum, tc, opt, aa as named."""
    message = dns.message.make_response(asked.query, recursion_available=True)
    message.answer.extend(answer)
    message.set_rcode(dns.rcode.Rcode.make(rcode))
    if soa is not None:
        minimum = options.get("minimum", soa)
        message.authority.append(
            records("example.", soa, "SOA", f"ns.example. admin.example. 1 3600 600 86400 {minimum}")
        )
    if options.get("tc"):
        message.flags |= dns.flags.TC
    if options.get("aa"):
        message.flags |= dns.flags.AA
    if not options.get("opt", True):
        message.use_edns(False)
    return message.to_wire(max_size=65535)


def address(asked: Asked) -> bytes:
    """The same address for every name."""
    return reply(asked, records(asked.qname, 300, "A", "192.0.2.1"))


def plain_address(asked: Asked) -> bytes:
    """The same without dnspython, which takes a second for thousands."""
    name_end = asked.wire.index(b"\0", 12) + 1
    record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1"
    return asked.wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked.wire[12 : name_end + 4] + record


def silence(asked: Asked) -> None:
    return None


class Upstream:
    """A resolver on loopback, UDP and TCP, that answers as `play` says. A play may also raise
    ConnectionError to reset the TCP connection that a query came on."""

    def __init__(self, play: Play = address, *, tcp: bool = True, udp: bool = True, port: int = 0) -> None:
        self.play = play
        self.asked: list[Asked] = []
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._closing = False
        for attempt in range(20):
            try:
                udp_socket, listener = self._bind(port, udp=udp, tcp=tcp)
                break
            except OSError:
                if port or attempt == 19:
                    raise
        if udp_socket is not None:
            self.port = udp_socket.getsockname()[1]
            self._start(self._serve_udp, udp_socket)
        if listener is not None:
            self.port = listener.getsockname()[1]
            self._start(self._accept, listener)

    @staticmethod
    def _bind(port: int, *, udp: bool, tcp: bool) -> tuple[socket.socket | None, socket.socket | None]:
        """One port for both; OSError where the kernel's choice for one is taken for the other."""
        with contextlib.ExitStack() as stack:
            udp_socket = listener = None
            if udp:
                udp_socket = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                udp_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                udp_socket.bind(("127.0.0.1", port))
                port = udp_socket.getsockname()[1]
            if tcp:
                listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
                listener.listen(64)
            stack.pop_all()
            return udp_socket, listener

    def _start(self, target: Callable[[socket.socket], None], sock: socket.socket) -> None:
        self._sockets.append(sock)
        sock.settimeout(0.03)
        thread = threading.Thread(target=target, args=(sock,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve_udp(self, sock: socket.socket) -> None:
        while not self._closing:
            try:
                data, peer = sock.recvfrom(65535)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:  # the end, which wakes us
                continue
            asked = Asked(data, peer, False, time.monotonic())
            self.asked.append(asked)
            self._send(self.play(asked), functools.partial(self._to, sock, peer))

    @staticmethod
    def _to(sock: socket.socket, peer: tuple[str, int], message: bytes) -> None:
        sock.sendto(message, peer)

    @staticmethod
    def _send(messages: Reply, send: Callable[[bytes], object]) -> None:
        for message in [messages] if isinstance(messages, bytes) else messages or []:
            with contextlib.suppress(OSError):
                send(message)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing:
            try:
                connection, peer = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.connections += 1
            self._start(functools.partial(self._serve_tcp, peer), connection)

    def _serve_tcp(self, peer: tuple[str, int], sock: socket.socket) -> None:
        buffer = b""
        while not self._closing:
            try:
                data = sock.recv(65535)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                sock.close()
                return
            buffer += data
            while len(buffer) >= 2 and len(buffer) >= 2 + (length := struct.unpack("!H", buffer[:2])[0]):
                asked = Asked(buffer[2 : 2 + length], peer, True, time.monotonic())
                buffer = buffer[2 + length :]
                self.asked.append(asked)
                try:
                    messages = self.play(asked)
                except ConnectionError:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.close()
                    return
                sock.settimeout(10)
                self._send(messages, lambda message: sock.sendall(struct.pack("!H", len(message)) + message))
                sock.settimeout(0.03)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        for sock in list(self._sockets):  # wakes the thread that waits on it
            with contextlib.suppress(OSError):  # it was closed before
                if sock.type == socket.SOCK_DGRAM:
                    sock.sendto(b"", sock.getsockname())
                else:
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=3)
        for sock in self._sockets:
            sock.close()


def closed_port() -> int:
    """A port on loopback where nobody is, for UDP and TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# -------------------------------------------------------------------------- coordinator ----


def upstream_models(upstreams: Sequence[tuple[str, int, int]]) -> tuple[model.Upstream, ...]:
    """(address, port, force_tcp) each."""
    return tuple(model.Upstream(Endpoint(address, port), bool(tcp)) for address, port, tcp in upstreams)


def make_config(upstreams: Sequence[tuple[str, int, int]], **settings: int) -> int:
    """A descriptor of a configuration: (address, port, force_tcp) each; settings: of limits and block.

    Without health checks (max_fails, health_check_ms): most tests count what an upstream is asked.
    """
    max_fails = settings.pop("max_fails", 0)
    check = HealthCheck(interval_s=settings.pop("health_check_ms", 500) / 1000)
    limits = {name: settings.pop(name) for name in Limits.__dataclass_fields__ if name in settings}
    servers = upstream_models(upstreams)
    block = replace(Block(negative_max_s=10800), **settings)  # type: ignore[arg-type]
    plain = plain_config((), servers, 2, block, limits=Limits(**limits))
    assert plain.blocks[0] is not None
    steps = tuple(
        replace(step, max_fails=max_fails, check=check)
        for step in plain.blocks[0].steps
        if isinstance(step, Forward)
    )
    return create_config(replace(plain, blocks=(replace(plain.blocks[0], steps=steps),)))


@dataclass
class World:
    """A coordinator in a child process, with what it shares with workers and keeper."""

    upstreams: Sequence[tuple[int, int]]  #: (port, force_tcp)
    settings: dict[str, int] = field(default_factory=dict)
    make: Callable[[tuple[model.Upstream, ...]], model.Config] | None = None  #: a configuration of its own
    workers: int = 2
    region: dict[str, int] = field(default_factory=dict)
    cache_size: int = 2 << 20
    address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        slots = _segments.cache_slots(self.cache_size)
        self.config = -1
        self.renew_config()
        self.cache = _segments.create_cache(self.cache_size)
        self.post_fd = _segments.create_post()
        self.regions = [_segments.create_region(i, slots=slots, **self.region) for i in range(self.workers)]
        self.log = _segments.create_log("coordinator", 16384)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.wakes = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(self.workers)]
        self.side = [WorkerSide(region, self.cache, self.wake) for region in self.regions]
        self.post = Post(self.post_fd)
        self.pid = 0
        self._ticket = 0

    def renew_config(self) -> None:
        """Make the configuration; the next coordinator starts with it."""
        servers = [(self.address, port, tcp) for port, tcp in self.upstreams]
        if self.config >= 0:
            os.close(self.config)
        if self.make is None:
            self.config = make_config(servers, **self.settings)
        else:
            self.config = create_config(self.make(upstream_models(servers)))

    def handles(self) -> CoordinatorHandles:
        return CoordinatorHandles(
            self.config, self.cache, self.post_fd, self.wake, self.log, self.regions, self.wakes
        )

    def start(self) -> Self:
        """Start a coordinator, as the keeper would, and wait until it serves."""
        assert self.pid == 0
        self.post.starts += 1
        before = self.post.generation
        self.pid = os.fork()
        if self.pid == 0:
            try:
                run(self.handles(), read_servers(self.config))
                os._exit(0)
            finally:
                os._exit(1)
        self.wait(lambda: self.started(before) or not self.alive(), "a start")
        return self

    def started(self, before: int) -> bool:
        return self.post.pid == self.pid and self.post.generation != before

    def alive(self) -> bool:
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return self.pid != 0

    def reap(self, timeout: float = SOON) -> int:
        """Wait for the child's end; returns its wait status."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return status
            time.sleep(0.002)
        raise AssertionError("the coordinator is still there")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.reap()

    def stop(self, timeout: float = SOON) -> None:
        self.post.stop = STOP_NOW
        assert self.reap(timeout) == 0
        self.post.stop = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pid:
            self.kill()
        for fd in (self.config, self.cache, self.post_fd, self.wake, *self.regions, *self.wakes):
            os.close(fd)

    def wait(self, true: Callable[[], bool], what: str, timeout: float = SOON) -> None:
        end = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < end, f"no sign of {what}"
            time.sleep(0.002)

    # --- a worker's part ---

    def put(self, name: str | bytes, qtype: str | int = "A", worker: int = 0, **options: Any) -> int:
        """Put a question; returns its ticket."""
        self._ticket += 1
        ticket = self._ticket << 32 | self._ticket & 0xFFF
        qname = wire(name) if isinstance(name, str) else name
        number = dns.rdatatype.from_text(qtype) if isinstance(qtype, str) else qtype
        assert self.side[worker].put(ticket, qname, number, **options), "the ring is full"
        return ticket

    def take(self, worker: int = 0, timeout: float = SOON) -> Record:
        """The worker's next answer record, slept for as a worker does."""
        side = self.side[worker]
        end = time.monotonic() + timeout
        while True:
            record = side.next()
            if record is not None:
                return record
            if side.sleep():
                # Half a second and no wake-up: one was lost, a worker would have slept 100 ms too long.
                ready = select.select([self.wakes[worker]], [], [], max(0.0, end - time.monotonic()))[0]
                assert ready, "no answer"
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self.wakes[worker])
            side.awake()

    def take_all(self, count: int, worker: int = 0, timeout: float = SOON) -> dict[int, Record]:
        """`count` records by ticket."""
        found: dict[int, Record] = {}
        while len(found) < count:
            record = self.take(worker, timeout)
            assert record.ticket not in found
            found[record.ticket] = record
        return found

    def ask(self, name: str | bytes, qtype: str | int = "A", worker: int = 0, **options: int) -> Answer:
        """A question and its answer, which must be one."""
        ticket = self.put(name, qtype, worker, **options)
        record = self.take(worker)
        assert (record.kind, record.ticket) == (ANSWER, ticket)
        return take_apart(record.entry)

    def ask_failing(self, name: str | bytes, qtype: str | int = "A", worker: int = 0, **options: int) -> int:
        """A question that must fail; returns the EDE."""
        ticket = self.put(name, qtype, worker, **options)
        record = self.take(worker)
        assert (record.kind, record.ticket, record.entry) == (FAILURE, ticket, b"")
        return record.ede

    def count(self, name: str) -> int:
        return self.post.counters()[name]


@contextlib.contextmanager
def world(*upstreams: Upstream | int, force_tcp: bool = False, **options: object) -> Iterator[World]:
    """A running coordinator before upstreams (or bare ports). options: World's, or settings by name."""
    own = {name: options.pop(name) for name in ("workers", "region", "cache_size", "make") if name in options}
    ports = [(up if isinstance(up, int) else up.port, int(force_tcp)) for up in upstreams]
    with World(ports, options, **own) as running:  # type: ignore[arg-type]
        yield running
