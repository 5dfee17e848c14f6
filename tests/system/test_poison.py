# SPDX-License-Identifier: Apache-2.0
"""A question that kills or stops whoever works on it costs two children and no more.

With the debug build, whose coordinator knows two such names.
"""

import threading
import time
from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest

from tests.mock_upstream import Question, Reply, answer, mock_upstream
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
