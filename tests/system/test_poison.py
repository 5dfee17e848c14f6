# SPDX-License-Identifier: Apache-2.0
"""A question that kills or stops whoever works on it costs two children and no more.

With the debug build, which knows such names (fastdns/_crash.h).
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.mock_upstream import Question, Reply, answer, mock_upstream
from tests.peers.run import free_port
from tests.system.clients import TCP, Client, Variant
from tests.system.server import Server, serve

pytestmark = pytest.mark.fault

CRASH = "crash.fastdns"
HANG = "hang.fastdns"
LATE = "late.fastdns"
EDNS = Variant(edns=1232)
ANSWER = "192.0.2.1"


@pytest.fixture
def debug_server(debug_build: dict[str, str]) -> Iterator[Server]:
    with mock_upstream(lambda question: [Reply(answer(question, ANSWER))]) as upstream:
        with serve(upstream.server, environment=debug_build) as server:
            yield server


def ask(server: Server, name: str, variant: Variant = EDNS) -> tuple[dns.message.Message, float]:
    with Client(server.endpoint) as client:
        began = time.monotonic()
        return client.ask(name, "A", variant), time.monotonic() - began


@pytest.mark.parametrize(("name", "within_s"), [(CRASH, 2.0), (HANG, 4.8)])
def test_poisonous_question_is_quarantined(debug_server: Server, name: str, within_s: float) -> None:
    """Two coordinators die on it, then it is refused; every other question has its answer."""
    server = debug_server
    others: list[tuple[dns.message.Message, float]] = []

    def ask_others() -> None:
        for number in range(10):
            others.append(ask(server, f"beside-{number}.{name}.example.test"))
            time.sleep(0.05)

    beside = threading.Thread(target=ask_others)
    beside.start()
    response, took = ask(server, name)
    beside.join()
    assert response.rcode() == dns.rcode.SERVFAIL
    assert took < within_s
    assert [response.rcode() for response, _ in others] == [dns.rcode.NOERROR] * len(others)
    stats = server.wait_for(lambda stats: stats.child("coordinator")["restarts"] >= 2, "the second restart")
    deaths = stats.child("coordinator")["restarts"]
    assert deaths == 2
    for number in range(20):
        response, took = ask(server, f"after-{number}.example.test")
        assert response.rcode() == dns.rcode.NOERROR
        assert took < 1.0
    for variant in (EDNS, TCP):  # refused without harm while the quarantine lasts
        response, took = ask(server, name, variant)
        assert response.rcode() == dns.rcode.SERVFAIL
        assert took < 1.0
    stats = server.stats()
    assert stats.child("coordinator")["restarts"] == deaths
    assert stats.counter("quarantined") >= 1
    assert all(stats.child("worker", index)["restarts"] == 0 for index in (0, 1))
    assert name in server.said(), "the log says which question it was"


def test_a_question_that_kills_when_it_is_asked_again_is_quarantined(debug_build: dict[str, str]) -> None:
    """Upstream is silent for one name: two coordinators die when its time is over, then it is refused."""

    def play(question: Question) -> list[Reply]:
        return [] if question.name.startswith("late.") else [Reply(answer(question, ANSWER))]

    with mock_upstream(play) as upstream, serve(upstream.server, environment=debug_build) as server:
        response, took = ask(server, LATE)
        assert response.rcode() == dns.rcode.SERVFAIL
        assert took < 2.0
        response, took = ask(server, "after.example.test")
        assert response.rcode() == dns.rcode.NOERROR
        assert took < 1.0
        response, took = ask(server, LATE)
        assert response.rcode() == dns.rcode.SERVFAIL
        assert took < 1.0
        stats = server.stats()
        assert stats.child("coordinator")["restarts"] == 2
        assert stats.counter("quarantined") >= 1


def test_two_poisons_in_turn(debug_build: dict[str, str]) -> None:
    """Upstream's responses kill, one's and the other's in turn: two coordinators each, and no third."""
    names = ["response.fastdns.one.test", "response.fastdns.two.test"]
    due: list[str] = []  # the next response that is to kill

    def play(question: Question) -> list[Reply]:
        if question.name in names:
            if due != [question.name]:
                return []
            due.clear()
        return [Reply(answer(question, ANSWER))]

    with mock_upstream(play) as upstream, serve(upstream.server, environment=debug_build) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(server.endpoint)) for _ in names]
            waiting = [
                threading.Thread(target=client.ask, args=(name, "A", EDNS))
                for client, name in zip(clients, names, strict=True)
            ]
            for one in waiting:
                one.start()
            for deaths, name in enumerate(2 * names, 1):
                due.append(name)
                server.wait_for(
                    lambda stats: stats.child("coordinator")["restarts"] >= deaths,
                    f"death {deaths}",
                )
            for one in waiting:
                one.join()
        for name in names:  # refused, whatever upstream would say
            due.append(name)
            response, took = ask(server, name)
            assert response.rcode() == dns.rcode.SERVFAIL
            assert took < 1.0
            due.clear()
        response, _ = ask(server, "after.example.test")
        assert response.rcode() == dns.rcode.NOERROR
        stats = server.stats()
        assert stats.child("coordinator")["restarts"] == 4
        assert stats.counter("poisoned") == 2


def dies(server: Server, name: str) -> bool:
    """Whether a question over TCP takes its worker along, or is dropped as one that would."""
    before = server.stats().child("worker")["restarts"]
    wire = TCP.query(name, "A").to_wire()
    with socket.create_connection(server.endpoint, timeout=2) as client, contextlib.suppress(OSError):
        client.sendall(struct.pack("!H", len(wire)) + wire)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(512) == b"", "it was answered"
    time.sleep(0.5)  # a dead child is back within 100 ms
    return server.stats().child("worker")["restarts"] > before


def test_two_poisonous_packets_in_turn(debug_build: dict[str, str]) -> None:
    """Packets that kill a worker, in turn: two workers each; then they are dropped, and others answered."""
    names = ["packet.fastdns.one.test", "packet.fastdns.two.test"]
    with mock_upstream(lambda question: [Reply(answer(question, ANSWER))]) as upstream:
        with serve(upstream.server, workers=1, environment=debug_build) as server:
            assert [dies(server, name) for name in 3 * names] == [True] * 4 + [False] * 2
            for variant in (EDNS, TCP):
                response, took = ask(server, "after.example.test", variant)
                assert response.rcode() == dns.rcode.NOERROR
                assert took < 1.0


def test_an_answer_that_kills_is_known_in_any_packet(debug_build: dict[str, str]) -> None:
    """A reply that kills a worker when it is composed costs two, whichever way the question comes."""
    with mock_upstream(lambda question: [Reply(answer(question, ANSWER))]) as upstream:
        with serve(upstream.server, workers=1, environment=debug_build) as server:
            for name in ("reply.fastdns.test", "RePly.fastdns.test"):
                for variant in (EDNS, TCP, Variant(edns=None), Variant(edns=4096)):
                    response, took = ask(server, name, variant)
                    assert response.rcode() == dns.rcode.SERVFAIL
                    assert took < 2.0
            response, _ = ask(server, "after.example.test")
            assert response.rcode() == dns.rcode.NOERROR
            stats = server.stats()
            assert stats.child("worker")["restarts"] == 2
            assert stats.child("coordinator")["restarts"] == 0


REGEX = """
.:PORT {
    bind 127.0.0.1
    rewrite name regex (.*)\\.old\\.test {1}.new.test answer auto
    forward . 127.0.0.1:UPSTREAM
}
"""


def test_a_question_that_kills_the_python_thread_is_quarantined(
    debug_build: dict[str, str], tmp_path: Path
) -> None:
    """A crash inside an expression is held against the question that the thread had in hand."""
    port, conf = free_port(), tmp_path / "Corefile"
    with mock_upstream(lambda question: [Reply(answer(question, ANSWER))]) as upstream:
        conf.write_text(REGEX.replace("PORT", str(port)).replace("UPSTREAM", str(upstream.server[1])))
        with serve(
            upstream.server, listen=[("127.0.0.1", port)], conf=conf, environment=debug_build
        ) as server:
            poison = "thread.fastdns.old.test"
            for _ in range(3):
                response, took = ask(server, poison)
                assert response.rcode() == dns.rcode.SERVFAIL
                assert took < 3.0  # two starts with Python's own modules
            response, _ = ask(server, "www.old.test")
            assert response.rcode() == dns.rcode.NOERROR
            stats = server.stats()
            assert stats.child("coordinator")["restarts"] == 2
            assert stats.counter("poisoned") == 1
            assert poison in server.said()


def test_hits_go_on_while_coordinators_die(debug_server: Server) -> None:
    """What is in the cache is answered within milliseconds through both deaths."""
    server = debug_server
    ask(server, "cached.example.test")
    slowest = 0.0
    poison = threading.Thread(target=ask, args=(server, HANG))
    poison.start()
    while poison.is_alive():
        response, took = ask(server, "cached.example.test")
        assert response.rcode() == dns.rcode.NOERROR
        slowest = max(slowest, took)
        time.sleep(0.005)
    poison.join()
    assert slowest < 0.3
