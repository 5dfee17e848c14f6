# SPDX-License-Identifier: Apache-2.0
"""An upstream that is switched off and on again, as clients see it (RFC 8767; pains 7 and 8)."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence

import dns.edns
import dns.message
import dns.rcode
import pytest

from tests.counts import is_full
from tests.mock_upstream import Question, Reply, answer, failure, mock_upstream
from tests.system.clients import Client, Variant
from tests.system.server import Server, serve

OLD, NEW = "192.0.2.1", "192.0.2.2"
EDNS = Variant(edns=1232)
STALE = dns.edns.EDECode.STALE_ANSWER
TTL_S = 1
WAIT_S = 0.2  # what upstream gets
NOISE_S = 0.005 if is_full() else 0.3  # client and upstream are Python, and share a machine with other work
BACK_S = 1.0  # from the upstream's return to the last stale answer


class Switched:
    """A script that answers with OLD, with nothing or failures, then with NEW."""

    def __init__(self, off: str = "silent") -> None:
        self.state = "old"
        self.off = off

    def __call__(self, question: Question) -> Sequence[Reply]:
        if self.state == "off":
            return [] if self.off == "silent" else [Reply(failure(question))]
        return [Reply(answer(question, OLD if self.state == "old" else NEW, ttl=TTL_S))]


def ask_all(server: Server, names: Sequence[str]) -> dict[str, tuple[dns.message.Message, float]]:
    """Each name once, all at once from one socket: reply and seconds."""
    queries = [dns.message.make_query(name, "A", use_edns=0) for name in names]
    for number, query in enumerate(queries):
        query.id = number
    wires = [query.to_wire() for query in queries]
    sent: list[float] = []
    came: list[tuple[bytes, float]] = []  # parsed when all are there: that takes longer than the waits differ
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.connect((server.endpoint[0], server.endpoint[1]))
        for wire in wires:
            sent.append(time.monotonic())
            sock.send(wire)
        while len(came) < len(names):
            assert select.select([sock], [], [], 6.0)[0], f"{len(names) - len(came)} names without a reply"
            came.append((sock.recv(4096), time.monotonic()))
    numbers = [struct.unpack_from("!H", wire)[0] for wire, _ in came]
    return {
        names[number]: (dns.message.from_wire(wire), at - sent[number])
        for number, (wire, at) in zip(numbers, came, strict=True)
    }


def addresses(reply: dns.message.Message) -> list[str]:
    return [str(rdata) for rrset in reply.answer for rdata in rrset]


def ede_codes(reply: dns.message.Message) -> list[int]:
    return [one.code for one in reply.options if isinstance(one, dns.edns.EDEOption)]


def is_stale(reply: dns.message.Message) -> bool:
    return ede_codes(reply) == [STALE] and {rrset.ttl for rrset in reply.answer} == {30}


def p99(waits: Sequence[float]) -> float:
    return sorted(waits)[max(len(waits) * 99 // 100 - 1, 0)]


@pytest.mark.parametrize("off_s", [0.5, pytest.param(6.0, marks=pytest.mark.slow)])
def test_an_upstream_that_is_off_costs_its_wait_and_no_answer(off_s: float) -> None:
    """Off for less than a question's 4 s, and for more: then no name waits at all. Back within 1 s."""
    names = [f"n{number}.example.test" for number in range(300)]
    script = Switched()
    with mock_upstream(script) as upstream, serve(upstream.server) as server:
        ask_all(server, names)
        time.sleep(TTL_S + 0.1)
        script.state = "off"
        off, waits = time.monotonic(), []
        while time.monotonic() - off < off_s:
            for reply, wait in ask_all(server, names).values():
                assert is_stale(reply), reply
                assert addresses(reply) == [OLD]
                waits.append(wait)
        assert p99(waits) <= WAIT_S + NOISE_S
        if off_s > 4.5:
            last = [wait for _, wait in ask_all(server, names).values()]
            assert p99(last) < WAIT_S  # answered as hits
        script.state = "on"
        back = time.monotonic()
        began = back
        while any(addresses(reply) != [NEW] for reply, _ in ask_all(server, names).values()):
            assert began - back < BACK_S + NOISE_S
            began = time.monotonic()
        counted = server.stats()
        assert counted.counter("servfail") == 0
        assert counted.counter("stale_answers") >= len(names)


def test_a_failing_upstream_is_never_seen_beside_a_usable_answer() -> None:
    """pain 7: good, SERVFAIL three times and more, good: no SERVFAIL, and the new answer within 1 s."""
    script = Switched(off="SERVFAIL")
    with (
        mock_upstream(script) as upstream,
        serve(upstream.server) as server,
        Client(server.endpoint) as client,
    ):
        client.ask("www.example.test", "A", EDNS)
        time.sleep(TTL_S + 0.1)
        script.state = "off"
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            assert is_stale(client.ask("www.example.test", "A", EDNS))
            time.sleep(0.02)
        asked = len(upstream.asked("www.example.test"))
        assert asked <= 1 + 3 + 2  # the first time, and once a second
        assert client.ask("new.example.test", "A", EDNS).rcode() == dns.rcode.SERVFAIL
        script.state = "on"
        back = time.monotonic()
        while addresses(client.ask("www.example.test", "A", EDNS)) != [NEW]:
            assert time.monotonic() - back < BACK_S + NOISE_S
            time.sleep(0.02)


def test_names_that_failed_while_upstream_was_off_are_there_within_a_second() -> None:
    """RFC 9520 would keep them for 5 s: that is for a failure that goes on."""
    script = Switched()
    script.state = "off"
    with (
        mock_upstream(script) as upstream,
        serve(upstream.server) as server,
        Client(server.endpoint) as client,
    ):
        for wait_s in (4.5, NOISE_S):  # the second time it is a hit
            began = time.monotonic()
            reply = client.ask("new.example.test", "A", EDNS)
            assert time.monotonic() - began < wait_s
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert ede_codes(reply) == [dns.edns.EDECode.NO_REACHABLE_AUTHORITY]
        script.state = "on"
        back = time.monotonic()
        while addresses(client.ask("new.example.test", "A", EDNS)) != [NEW]:
            assert time.monotonic() - back < BACK_S + NOISE_S
            time.sleep(0.02)


def test_an_upstream_that_answers_in_time_is_waited_for() -> None:
    """pain 8: never stale if it answers within the wait; and if not, its answer is there for the next."""
    delay_s = [0.05]

    def script(question: Question) -> Sequence[Reply]:
        return [Reply(answer(question, OLD if question.number == 1 else NEW, ttl=TTL_S), delay_s[0])]

    with (
        mock_upstream(script) as upstream,
        serve(upstream.server) as server,
        Client(server.endpoint) as client,
    ):
        client.ask("slow.example.test", "A", EDNS)
        client.ask("late.example.test", "A", EDNS)
        time.sleep(TTL_S + 0.1)
        reply = client.ask("slow.example.test", "A", EDNS)
        assert (addresses(reply), is_stale(reply)) == ([NEW], False)
        delay_s[0] = 0.6
        assert is_stale(client.ask("late.example.test", "A", EDNS))
        time.sleep(0.8)
        reply = client.ask("late.example.test", "A", EDNS)
        assert addresses(reply) == [NEW]
