# SPDX-License-Identifier: Apache-2.0
"""Many clients over TCP: pipelined, slow, hostile, idle, too many. Good ones notice nothing."""

import contextlib
import os
import random
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.mock_upstream import MockUpstream, Question, Reply, answer, mock_upstream, nxdomain, truncated
from tests.peers import run as peers
from tests.peers.run import LOOPBACK
from tests.system.clients import receive_framed
from tests.system.server import Server, serve

pytestmark = pytest.mark.timeout(120)

CONNECTIONS = 1024  # a worker's cap, fastdns.control.model.Limits
FIRST_S, IDLE_S, SLOW_S = 3.0, 10.0, 10.0  # its time limits, from the same place
GOOD_S = 1.0  # for a good client's answer beside bad ones: a wide margin over the milliseconds it takes
RIGHT = "192.0.2.1"
LARGE = 2000  # addresses in a large answer: 32 KiB of them


def script(question: Question) -> Sequence[Reply]:
    """By the name's start: slow- after 0.7 s (before it is asked again), large- 2,000 addresses, nx-
    NXDOMAIN, else one address.
    """
    kind = question.name.partition("-")[0]
    if kind == "nx":
        return [Reply(nxdomain(question))]
    if kind == "large":
        if not question.tcp:
            return [Reply(truncated(question))]
        return [Reply(answer(question, *(f"10.1.{n >> 8}.{n & 255}" for n in range(LARGE))))]
    return [Reply(answer(question, RIGHT), 0.7 if kind == "slow" else 0.0)]


@pytest.fixture(scope="module", autouse=True)
def _descriptors() -> Iterator[None]:
    """Before the server is started: it makes its tables no larger than it may have descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def upstream(_descriptors: None) -> Iterator[MockUpstream]:
    with mock_upstream(script) as it:
        yield it


@pytest.fixture(scope="module")
def shared(upstream: MockUpstream) -> Iterator[Server]:
    """One worker, so that all connections are the same process's."""
    with serve(upstream.server, workers=1) as server:
        server.wait_for(lambda stats: stats.child("worker")["pid"] > 0, "the worker's row on the board")
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """Afterwards nothing may be left of a test's connections: no place, no block, no descriptor."""
    descriptors = _open_descriptors(shared)
    yield shared
    shared.wait_for(
        lambda stats: not stats.in_use() and not any(worker["tcp_blocks"] for worker in stats.workers),
        "everything given back",
        6.0,
    )
    assert _open_descriptors(shared) == descriptors
    assert not shared.stats().restarts


def _open_descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid('worker')}/fd").iterdir()))


def connect(server: Server, receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(10.0)
    sock.connect(server.endpoint)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextlib.contextmanager
def held(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    """Sockets that are closed at the end of the block, those added inside it too."""
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def query(name: str, number: int, rdtype: str = "A") -> bytes:
    message = dns.message.make_query(name, rdtype)
    message.id = number
    return message.to_wire()


def framed(*wires: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(wire)) + wire for wire in wires)


def exchange(sock: socket.socket, name: str, number: int = 1) -> dns.message.Message:
    wire = query(name, number)
    sock.sendall(framed(wire))
    response = dns.message.from_wire(receive_framed(sock))
    assert dns.message.from_wire(wire).is_response(response)
    return response


def is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def is_closed(sock: socket.socket) -> bool:
    """Whether the server has closed a connection on which nothing is expected."""
    return is_readable(sock) and is_ended(sock)


def is_ended(sock: socket.socket) -> bool:
    """Whether nothing more comes: an end, or a reset where a query lies unread."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


class Beside:
    """A good client in a thread of its own, on a connection that it keeps and on new ones."""

    def __init__(self, server: Server) -> None:
        self.worst_s = 0.0
        self.asked = 0
        self._server = server
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with contextlib.closing(connect(self._server)) as kept:
                while not self._stop.wait(0.002) or self.asked < 20:
                    self._ask(kept, "good.example.test")
                    with contextlib.closing(connect(self._server)) as new:
                        self._ask(new, f"nx-{self.asked}.example.test")
        except BaseException as error:
            self._errors.append(error)

    def _ask(self, sock: socket.socket, name: str) -> None:
        began = time.monotonic()
        response = exchange(sock, name, self.asked & 0xFFFF)
        assert response.rcode() == (dns.rcode.NXDOMAIN if name.startswith("nx") else dns.rcode.NOERROR)
        self.worst_s = max(self.worst_s, time.monotonic() - began)
        self.asked += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        assert self.worst_s < GOOD_S


# ---- pipelining ----


def test_dnspython_over_tcp(server: Server) -> None:
    for number in range(20):
        for name, rcode in (
            ("a.example.test", dns.rcode.NOERROR),
            (f"nx-p{number}.test", dns.rcode.NXDOMAIN),
        ):
            message = dns.message.make_query(name, "A", use_edns=bool(number % 2))
            response = dns.query.tcp(message, server.endpoint[0], 5.0, server.endpoint[1])
            assert response.rcode() == rcode


def test_thousand_pipelined_with_misses_mixed_in(server: Server, upstream: MockUpstream) -> None:
    """Written at once: every one is answered once; those that wait for upstream hold up nobody."""
    with contextlib.closing(connect(server)) as sock:
        exchange(sock, "warm.example.test")
        names = ["warm.example.test" if n % 2 else f"fresh-{n}.example.test" for n in range(1000)]
        names[0] = "slow-pipelined.example.test"
        sock.sendall(framed(*(query(name, number) for number, name in enumerate(names))))
        order = []
        for _ in names:
            response = dns.message.from_wire(receive_framed(sock))
            assert response.question[0].name.to_text(omit_final_dot=True) == names[response.id]
            assert [str(one) for rrset in response.answer for one in rrset] == [RIGHT]
            order.append(response.id)
        assert sorted(order) == list(range(1000))
        assert order[-1] == 0, "the slow one, asked first, is answered last"
        assert len(upstream.asked("warm.example.test")) == 1


def test_same_question_many_times_on_many_connections_is_asked_once(
    server: Server, upstream: MockUpstream
) -> None:
    with held([connect(server) for _ in range(20)]) as sockets:
        for sock in sockets:
            sock.sendall(framed(*(query("slow-joined.example.test", n) for n in range(20))))
        for sock in sockets:
            assert sorted(struct.unpack("!H", receive_framed(sock)[:2])[0] for _ in range(20)) == list(
                range(20)
            )
    assert len(upstream.asked("slow-joined.example.test")) == 1


def test_large_answers_pipelined(server: Server) -> None:
    """32 KiB each: to a client that writes all its queries before it reads, and has small buffers."""
    with contextlib.closing(connect(server, receive_buffer=4096)) as sock:
        exchange(sock, "large-pipelined.example.test")
        sock.sendall(framed(*(query("large-pipelined.example.test", n) for n in range(100))))
        wires = [receive_framed(sock) for _ in range(100)]
    assert [struct.unpack_from("!HHHH", wire) for wire in wires] == [
        (n, 0x8180, 1, LARGE) for n in range(100)
    ]
    assert len({wire[2:] for wire in wires}) == 1
    assert len(dns.message.from_wire(wires[0]).answer[0]) == LARGE  # 0.1 s each: one has to do


def test_more_late_answers_than_may_be_kept(server: Server) -> None:
    """100 that wait for one large answer get it at the same moment: 3 MB, and 128 KiB are kept for one.

    It is closed. The next one has hits, which are written only as fast as they are read.
    """
    before = server.stats().counter("tcp_closed_slow")
    with contextlib.closing(connect(server, receive_buffer=4096)) as sock:
        sock.sendall(framed(*(query("large-late.example.test", n) for n in range(100))))
        server.wait_for(lambda stats: stats.counter("tcp_closed_slow") == before + 1, "one closed")
    with contextlib.closing(connect(server)) as sock:
        assert len(exchange(sock, "large-late.example.test").answer[0]) == LARGE


# ---- bad clients beside good ones ----


def test_slow_readers_and_dribblers_disturb_nobody(server: Server) -> None:
    rng = random.Random(7)
    with contextlib.closing(connect(server)) as sock:
        assert len(exchange(sock, "large-slow.example.test").answer[0]) == LARGE
    closed_slow = server.stats().counter("tcp_closed_slow")
    with held([]) as sockets, Beside(server):
        for _ in range(30):  # ask for a megabyte each and read nothing
            sockets.append(connect(server, receive_buffer=4096))
            sockets[-1].sendall(framed(*(query("large-slow.example.test", n) for n in range(30))))
        dribblers = []
        for n in range(200):
            sock = connect(server)
            sockets.append(sock)
            dribblers.append((sock, framed(query(f"nx-dribble-{n}.example.test", n))))
        for at in range(max(len(octets) for _, octets in dribblers)):
            for sock, octets in rng.sample(dribblers, len(dribblers)):
                sock.sendall(octets[at : at + 1])
        for number, (sock, _) in enumerate(dribblers):
            response = dns.message.from_wire(receive_framed(sock))
            assert (response.id, response.rcode()) == (number, dns.rcode.NXDOMAIN)
        assert server.stats().counter("tcp_closed_slow") == closed_slow


def test_hoarders_of_buffers_lose_theirs_not_others(server: Server) -> None:
    before = server.stats().counter("tcp_buffers_full")
    with held([]) as sockets, Beside(server):
        for _ in range(100):  # 6 MB of messages that never end, for a pool of 1 MB
            sockets.append(connect(server))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sockets[-1].sendall(struct.pack("!H", 65535) + bytes(60000))
        server.wait_for(lambda stats: stats.counter("tcp_buffers_full") > before, "an empty pool")
    assert server.stats().counter("tcp_buffers_full") - before >= 80


def test_noise_resets_and_half_closes(server: Server) -> None:
    rng = random.Random(11)
    with held([]) as sockets, Beside(server):
        for number in range(600):
            sock = connect(server)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(rng.randrange(4)):
                    sock.sendall(
                        rng.choice(
                            (
                                rng.randbytes(rng.randrange(1, 3000)),
                                framed(rng.randbytes(rng.randrange(12, 600))),
                                framed(query(f"fresh-noise-{number}.example.test", number)),
                                b"\0\5hello",
                            )
                        )
                    )
            if number % 3 == 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if number % 3 == 1:
                with contextlib.suppress(OSError):  # it may be closed already
                    sock.shutdown(socket.SHUT_WR)
                sockets.append(sock)
            else:
                sock.close()


def test_half_close_still_gets_late_answers(server: Server) -> None:
    with contextlib.closing(connect(server)) as sock:
        names = ["slow-half.example.test", "half.example.test", "nx-half.example.test"]
        sock.sendall(framed(*(query(name, number) for number, name in enumerate(names))))
        sock.shutdown(socket.SHUT_WR)
        assert sorted(struct.unpack("!H", receive_framed(sock)[:2])[0] for _ in names) == [0, 1, 2]
        assert sock.recv(1) == b"", "nothing else will come, so it is closed"


def test_clients_that_leave_while_their_queries_wait(server: Server, upstream: MockUpstream) -> None:
    for number in range(100):
        with contextlib.closing(connect(server)) as sock:
            sock.sendall(framed(query(f"slow-left-{number}.example.test", number)))
    server.wait_for(lambda stats: not stats.in_use(), "all of them forgotten")
    assert len(upstream.asked("slow-left-99.example.test")) == 1


# ---- limits ----


@pytest.mark.slow
def test_idle_silent_and_slow_connections_are_closed_in_time(server: Server) -> None:
    """All at once, as the longest limit is 10 s. The one that goes on asking stays."""
    with held([connect(server) for _ in range(5)]) as sockets:
        silent, idle, partial, deaf, asking = sockets
        began = time.monotonic()
        exchange(idle, "good.example.test")
        exchange(partial, "good.example.test")
        partial.sendall(framed(query("good.example.test", 2))[:9])
        exchange(deaf, "large-deaf.example.test")
        with contextlib.suppress(TimeoutError):
            deaf.settimeout(0.5)
            for number in range(1000):  # until neither side takes any more
                deaf.sendall(framed(query("large-deaf.example.test", number)) * 20)
        closed_s: dict[str, float] = {}
        watched = {"silent": silent, "idle": idle, "partial": partial}
        counters = ("tcp_closed_idle", "tcp_closed_slow")
        before = [server.stats().counter(name) for name in counters]
        while len(closed_s) < len(watched) or server.stats().counter(counters[1]) < before[1] + 2:
            assert time.monotonic() < began + SLOW_S + 8
            for name, sock in watched.items():
                if name not in closed_s and is_closed(sock):
                    closed_s[name] = time.monotonic() - began
            exchange(asking, "good.example.test")
            time.sleep(0.05)
        assert FIRST_S - 0.1 < closed_s["silent"] < FIRST_S + GOOD_S
        assert IDLE_S - 0.1 < closed_s["idle"] < IDLE_S + GOOD_S
        assert SLOW_S - 0.1 < closed_s["partial"] < SLOW_S + GOOD_S
        assert [server.stats().counter(name) - n for name, n in zip(counters, before, strict=True)] == [2, 2]


def corefile(directory: Path, port: int, upstream: MockUpstream) -> Path:
    """One that allows three queries on a connection."""
    file = directory / f"Corefile.{port}"
    address, upstream_port = upstream.server
    lines = (
        f".:{port} {{",
        f"bind {LOOPBACK}",
        "timeouts {",
        "maxtcpqueries 3",
        "}",
        f"forward . {address}:{upstream_port}",
        "}",
    )
    file.write_text("\n".join(lines) + "\n")
    return file


@contextlib.contextmanager
def three_queries_a_connection(name: str, directory: Path, upstream: MockUpstream) -> Iterator[int]:
    """The port of a server with that Corefile."""
    if name == "fastdns":
        port = peers.free_port()
        listen = [(LOOPBACK, port)]
        with serve((LOOPBACK, 1), listen=listen, conf=corefile(directory, port, upstream)) as server:
            yield port
            assert server.stats().counter("tcp_closed_queries") == 2
        return
    program = peers.find_program(name)
    with peers.start(
        name, lambda place, port: [program, "-conf", str(corefile(place, port, upstream)), "-quiet"]
    ) as peer:
        yield peer.port


@pytest.mark.parametrize("name", ["fastdns", "coredns"])
def test_as_many_queries_as_maxtcpqueries_allows(name: str, tmp_path: Path, upstream: MockUpstream) -> None:
    """One after the other, and at once: the last answer is waited for, what is behind it gets none."""
    with three_queries_a_connection(name, tmp_path, upstream) as port:
        with socket.create_connection((LOOPBACK, port), 5) as sock:
            for number in range(3):
                assert exchange(sock, "good.example.test", number).rcode() == dns.rcode.NOERROR
            assert sock.recv(1) == b""
        with socket.create_connection((LOOPBACK, port), 5) as sock:
            names = ("slow-1.example.test", "good.example.test", "slow-2.example.test", "good.example.test")
            sock.sendall(framed(*(query(name, number) for number, name in enumerate(names))))
            answered = {dns.message.from_wire(receive_framed(sock)).id for _ in range(3)}
            assert answered == {0, 1, 2}
            assert is_ended(sock)


def test_cap_closes_the_idlest_first(server: Server) -> None:
    with held([connect(server) for _ in range(CONNECTIONS)]) as sockets:
        for number, sock in enumerate(sockets):
            assert exchange(sock, "good.example.test", number).rcode() == dns.rcode.NOERROR
        waiting = sockets[:10]  # the longest there, but with a query at the coordinator
        for sock in waiting:
            sock.sendall(framed(query("slow-cap.example.test", 7)))
        server.wait_for(lambda stats: stats.workers[0]["clients"] == 10, "ten that wait")
        assert server.stats().workers[0]["tcp_connections"] == CONNECTIONS
        late = [connect(server) for _ in range(50)]
        sockets.extend(late)
        for sock in late:
            assert exchange(sock, "good.example.test").rcode() == dns.rcode.NOERROR
        assert [n for n, sock in enumerate(sockets[10:]) if is_closed(sock)] == list(range(50))
        for sock in waiting:
            assert dns.message.from_wire(receive_framed(sock)).rcode() == dns.rcode.NOERROR
        assert server.stats().workers[0]["tcp_connections"] == CONNECTIONS
        assert server.stats().counter("tcp_closed_cap") == 50


# ---- a worker's death ----


def test_answers_for_a_dead_workers_connections_reach_nobody_else(upstream: MockUpstream) -> None:
    """Connections die with their process. What comes back for them must not reach those of its successor."""
    with serve(upstream.server, workers=1) as server:
        with held([connect(server) for _ in range(50)]) as sockets:
            for number, sock in enumerate(sockets):
                sock.sendall(framed(query(f"slow-dead-{number}.example.test", number)))
            server.wait_for(lambda stats: stats.workers[0]["clients"] == 50, "50 that wait")
            server.kill_child("worker")
            new = [connect(server) for _ in range(50)]
            sockets.extend(new)
            for number, sock in enumerate(new):
                assert exchange(sock, "good.example.test", 1000 + number).rcode() == dns.rcode.NOERROR
            server.wait_for(lambda stats: not stats.workers[0]["pending"], "the dead ones' questions done")
            for sock in new:
                assert exchange(sock, "good.example.test", 2000).rcode() == dns.rcode.NOERROR
                assert not is_readable(sock), "an answer that nobody asked for"


def test_stop_answers_what_waits(upstream: MockUpstream) -> None:
    with serve(upstream.server, workers=1) as server, held([connect(server) for _ in range(3)]) as sockets:
        waiting, idle, partial = sockets
        for sock in sockets:
            exchange(sock, "good.example.test")
        waiting.sendall(framed(query("slow-stop.example.test", 5)))
        partial.sendall(b"\0")
        server.wait_for(lambda stats: stats.workers[0]["clients"] == 1, "one that waits")
        os.kill(server.process.pid, signal.SIGTERM)
        assert idle.recv(1) == partial.recv(1) == b""
        assert dns.message.from_wire(receive_framed(waiting)).id == 5
        assert waiting.recv(1) == b""
        assert server.process.wait(5) == 0
