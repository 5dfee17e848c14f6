# SPDX-License-Identifier: Apache-2.0
"""What upstream may do wrong, seen from a client. The upstream follows a script and counts."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from fastdns.loadgen.process import run_process
from fastdns.loadgen.spec import LoadSpec
from tests.mock_upstream import (
    Question,
    Reply,
    answer,
    failure,
    mock_upstream,
    nxdomain,
    truncated,
    with_other_id,
    with_other_question,
)
from tests.peers.run import free_port
from tests.system.clients import TCP, UDP, Client, Variant
from tests.system.server import LOOPBACK, Server, serve

RIGHT = "192.0.2.1"
FORGED = "192.0.2.66"
EDNS = Variant(edns=1232)
CLIENT_LIMIT_S = 4.5  # SERVFAIL after this
OTHER_FAILURES = (dns.rcode.REFUSED, dns.rcode.NOTIMP)
LOST_PACKET_COSTS_S = 0.25  # milliseconds by design; this is the noise of a shared machine


def addresses(response: dns.message.Message) -> list[str]:
    return [str(rdata) for rrset in response.answer for rdata in rrset]


def ask_timed(server: Server, name: str, variant: Variant = EDNS) -> tuple[dns.message.Message, float]:
    """The response, and seconds that it took."""
    with Client(server.endpoint) as client:
        began = time.monotonic()
        response = client.ask(name, "A", variant)
        return response, time.monotonic() - began


def test_question_as_upstream_sees_it() -> None:
    """Lower case, RD, one OPT of 1232 octets without options, DO and CD as the client had them, no cookie."""
    with mock_upstream(lambda question: [Reply(answer(question, RIGHT))]) as upstream:
        with serve(upstream.server) as server, Client(server.endpoint) as client:
            query = dns.message.make_query("WwW.ExAmPlE.TeSt", "A")
            options = [dns.edns.CookieOption(b"01234567", b""), dns.edns.ECSOption("192.0.2.0")]
            query.use_edns(0, dns.flags.DO, 4096, options=options)
            query.flags |= dns.flags.CD
            client.exchange(query.to_wire())
            client.ask("plain.example.test", "A", UDP)
    asked, plain = upstream.questions
    assert asked.message.question[0].name.to_text() == "www.example.test."
    assert asked.message.flags & dns.flags.RD
    assert asked.message.flags & dns.flags.CD
    assert asked.message.ednsflags & dns.flags.DO
    assert asked.message.payload == 1232
    assert not asked.message.options
    assert not plain.message.flags & dns.flags.CD
    assert not plain.message.ednsflags & dns.flags.DO
    assert plain.message.payload == 1232


def test_silence_is_asked_again_from_another_port() -> None:
    """The first packet of each question is lost: the client waits milliseconds, not the 5 s of its libc."""

    def script(question: Question) -> Sequence[Reply]:
        return [] if question.number == 1 else [Reply(answer(question, RIGHT))]

    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        for number in range(20):
            name = f"lost-{number}.example.test"
            response, took = ask_timed(server, name)
            assert addresses(response) == [RIGHT]
            assert took < LOST_PACKET_COSTS_S
            first, second = upstream.asked(name)
            assert first.peer != second.peer, "asked again from the same port"
        assert server.stats().counter("upstream_retries") >= 20


def test_next_upstream_is_asked() -> None:
    """The first upstream is silent: asked twice, then the second one, before a libc would ask again."""
    with mock_upstream(lambda _question: []) as silent:
        with mock_upstream(lambda question: [Reply(answer(question, RIGHT))]) as good:
            with serve([silent.server, good.server]) as server:
                for number in range(10):
                    response, took = ask_timed(server, f"next-{number}.example.test")
                    assert addresses(response) == [RIGHT]
                    assert took < 1.0
        assert silent.questions
        assert good.questions


def test_nobody_listens() -> None:
    """The upstream's port is closed: SERVFAIL, and not only when the client's time is over."""
    with serve(("127.0.0.1", free_port())) as server:
        response, took = ask_timed(server, "nobody.example.test")
        assert response.rcode() == dns.rcode.SERVFAIL
        assert response.extended_errors(), "a failure says what failed (RFC 8914)"
        assert took < CLIENT_LIMIT_S + 0.3


def test_silence_for_good_is_servfail_in_time() -> None:
    """Nothing comes at all: SERVFAIL after 4.5 s at most, below libc's 5, over UDP and TCP."""
    with mock_upstream(lambda _question: []) as upstream, serve(upstream.server) as server:
        results: list[tuple[dns.message.Message, float]] = []
        ask = [
            threading.Thread(
                target=lambda v=v: results.append(ask_timed(server, f"never-{v}.example.test", v))
            )
            for v in (UDP, TCP, EDNS)
        ]
        for thread in ask:
            thread.start()
        for thread in ask:
            thread.join()
        assert len(results) == len(ask)
        for response, took in results:
            assert response.rcode() == dns.rcode.SERVFAIL
            assert 1.0 < took < CLIENT_LIMIT_S + 0.3
        assert len(upstream.questions) <= len(ask) * 40, "a silent upstream is asked too often"


@pytest.mark.parametrize("kind", ["id", "question", "not-a-response", "short", "garbage"])
def test_what_is_not_the_answer_is_ignored(kind: str) -> None:
    """A blind spoofer's packets come before the answer (RFC 5452): they change nothing, and are counted."""

    def forge(question: Question) -> bytes:
        right = answer(question, FORGED)
        return {
            "id": with_other_id(right),
            "question": with_other_question(question, FORGED),
            "not-a-response": right[:2] + bytes([right[2] & 0x7F]) + right[3:],
            "short": right[:11],
            "garbage": right[:12] + b"\xc0\x0c" * 40,
        }[kind]

    def script(question: Question) -> Sequence[Reply]:
        right = Reply(answer(question, RIGHT), delay_s=0.005)
        if question.name == "forged.example.test":
            return [right]
        return [Reply(forge(question)), Reply(forge(question)), right]

    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        for number in range(10):
            for _ in range(2):
                response, _ = ask_timed(server, f"spoofed-{number}.example.test")
                assert response.rcode() == dns.rcode.NOERROR
                assert addresses(response) == [RIGHT]
        response, _ = ask_timed(server, "forged.example.test")
        assert addresses(response) == [RIGHT]
        stats = server.stats()
        assert stats.counter("upstream_mismatched") + stats.counter("upstream_malformed") >= 20


def test_reply_to_another_port_or_from_another_address() -> None:
    """The right ID and question from a foreign address: the connected socket never hears it."""
    with mock_upstream(lambda _question: []) as stranger:

        def script(question: Question) -> Sequence[Reply]:
            forged = answer(question, FORGED)
            for _ in range(3):
                stranger.send(forged, question.peer)
            return [Reply(answer(question, RIGHT), delay_s=0.005)]

        with mock_upstream(script) as upstream, serve(upstream.server) as server:
            for number in range(10):
                response, _ = ask_timed(server, f"foreign-{number}.example.test")
                assert addresses(response) == [RIGHT]


def test_truncated_is_asked_over_tcp() -> None:
    """TC: asked again over TCP at once; the whole answer reaches all clients that have room for it."""
    many = [f"192.0.2.{host}" for host in range(1, 61)]

    def script(question: Question) -> Sequence[Reply]:
        return [Reply(answer(question, *many) if question.tcp else truncated(question))]

    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        response, took = ask_timed(server, "large.example.test")
        assert sorted(addresses(response)) == sorted(many)
        assert took < LOST_PACKET_COSTS_S
        assert [question.tcp for question in upstream.asked("large.example.test")] == [False, True]
        response, _ = ask_timed(server, "large.example.test", UDP)
        assert response.flags & dns.flags.TC  # 60 addresses need more than 512 octets
        response, _ = ask_timed(server, "large.example.test", TCP)
        assert sorted(addresses(response)) == sorted(many)
        assert len(upstream.asked("large.example.test")) == 2
        assert server.stats().counter("upstream_truncated") == 1


def test_tcp_connection_is_reset() -> None:
    """Upstream resets the TCP connection with the question on it: asked again on another, not SERVFAIL."""

    def script(question: Question) -> Sequence[Reply]:
        if not question.tcp:
            return [Reply(truncated(question))]
        tries = sum(other.tcp for other in upstream.asked(question.name))
        return [Reply(reset=True)] if tries == 1 else [Reply(answer(question, RIGHT))]

    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        for number in range(5):
            response, took = ask_timed(server, f"reset-{number}.example.test")
            assert addresses(response) == [RIGHT]
            assert took < 2.0
        assert server.stats().counter("upstream_tcp_broken") >= 1


@pytest.mark.parametrize(
    "rcode",
    [dns.rcode.SERVFAIL, *(pytest.param(rcode, marks=pytest.mark.stress) for rcode in OTHER_FAILURES)],
)
def test_failing_upstream(rcode: dns.rcode.Rcode) -> None:
    """A failure is handed on, kept for some seconds at most (RFC 9520), and gives way to an answer."""
    failing = True

    def script(question: Question) -> Sequence[Reply]:
        return [Reply(failure(question, rcode) if failing else answer(question, RIGHT))]

    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        response, took = ask_timed(server, "failing.example.test")
        assert response.rcode() in (rcode, dns.rcode.SERVFAIL)
        assert took < CLIENT_LIMIT_S
        failing = False
        deadline = time.monotonic() + 6.5  # 5 s of keeping a failure
        while response.rcode() != dns.rcode.NOERROR and time.monotonic() < deadline:
            time.sleep(0.1)
            response, _ = ask_timed(server, "failing.example.test")
        assert addresses(response) == [RIGHT]
        response, _ = ask_timed(server, "other.example.test")
        assert addresses(response) == [RIGHT]


def test_one_of_two_upstreams_fails() -> None:
    """REFUSED or SERVFAIL from one upstream: the other is asked before a client hears of it."""
    with mock_upstream(lambda question: [Reply(failure(question))]) as bad:
        with mock_upstream(lambda question: [Reply(answer(question, RIGHT))]) as good:
            with serve([bad.server, good.server]) as server:
                for number in range(6):
                    response, _ = ask_timed(server, f"either-{number}.example.test")
                    assert addresses(response) == [RIGHT]


ONE_TCP_UPSTREAM = """
.:PORT {
    bind 127.0.0.1
    cache 30
    forward . 127.0.0.1:UPSTREAM {
        force_tcp
    }
}
"""


def test_ten_thousand_misses_are_one_question(tmp_path: Path) -> None:
    """10,000 clients of two workers ask one name; its answer is held until all wait: one upstream query.

    Over TCP, where silence is no reason to ask again.
    """
    asked = 10_000
    released = threading.Event()

    def script(question: Question) -> Sequence[Reply]:
        assert released.wait(20)
        return [Reply(answer(question, RIGHT))]

    port, conf = free_port(), tmp_path / "Corefile"
    with mock_upstream(script) as upstream:
        conf.write_text(
            ONE_TCP_UPSTREAM.replace("PORT", str(port)).replace("UPSTREAM", str(upstream.server[1]))
        )
        with serve(upstream.server, listen=[(LOOPBACK, port)], conf=conf) as server:
            spec = LoadSpec(
                server.endpoint,
                names=[("popular.example.test", "A")],
                count=asked,
                window=asked,
                rate=30_000,
                sockets=64,
                timeout_s=CLIENT_LIMIT_S,
            )
            with ThreadPoolExecutor(1) as pool:
                load = pool.submit(run_process, spec)
                try:
                    waits = server.wait_for(
                        lambda stats: sum(worker["clients"] for worker in stats.workers) == asked,
                        "all clients waiting",
                    )
                finally:
                    released.set()
                result = load.result()
            assert result.answered == asked, result
            assert result.rcodes == {"NOERROR": asked}, result
            assert all(worker["clients"] > asked / 3 for worker in waits.workers), waits
            stats = server.stats()
            assert len(upstream.questions) == stats.counter("upstream_tcp") == 1
            assert stats.counter("upstream_udp") == stats.counter("upstream_retries") == 0
            # One question of each worker, the second one joined.
            assert (stats.counter("questions"), stats.counter("joined")) == (2, 1)
            assert stats.counter("joined_local") == asked - 2
            assert stats.counter("stores") == 1


def test_names_that_are_not_there() -> None:
    """NXDOMAIN is kept for its SOA's time: asked once, answered many times, each type for itself."""
    with mock_upstream(lambda question: [Reply(nxdomain(question))]) as upstream:
        with serve(upstream.server) as server, Client(server.endpoint) as client:
            for _ in range(10):
                for rdtype in ("A", "AAAA"):
                    assert client.ask("missing.example.test", rdtype).rcode() == dns.rcode.NXDOMAIN
            assert len(upstream.questions) == 2


def test_short_lives() -> None:
    """TTL 1: asked again when it is over; TTL 0 is asked each time; each TTL counts down."""

    def script(question: Question) -> Sequence[Reply]:
        return [Reply(answer(question, RIGHT, ttl=int(question.name.split("-")[1].split(".")[0])))]

    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        with Client(server.endpoint) as client:
            for _ in range(3):
                assert client.ask("ttl-0.example.test").answer[0].ttl == 0
            assert len(upstream.asked("ttl-0.example.test")) == 3
            for _ in range(2):
                client.ask("ttl-1.example.test")
                for _ in range(3):
                    assert client.ask("ttl-300.example.test").answer[0].ttl <= 300
                time.sleep(1.1)
            assert len(upstream.asked("ttl-1.example.test")) == 2, "no hit, so nobody asks ahead"
            assert len(upstream.asked("ttl-300.example.test")) == 1
            assert 290 <= client.ask("ttl-300.example.test").answer[0].ttl <= 298
