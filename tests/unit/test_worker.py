# SPDX-License-Identifier: Apache-2.0
"""One real worker process; the test plays the coordinator at the other end of its rings."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.workertools import PATIENCE_S, Node, a_records, make_node, query, receive, silent, until


@pytest.fixture
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture
def client(node: Node) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.connect(node.address)
        sock.settimeout(PATIENCE_S)
        yield sock


def test_miss_is_put_once_and_answers_every_client_with_its_own_case(node: Node) -> None:
    """Two clients, one question: each gets its own ID and spelling back (0x20)."""
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as first,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as second,
    ):
        asked = []
        for sock, name in ((first, "WwW.Example.ORG."), (second, "www.eXample.org.")):
            sock.settimeout(PATIENCE_S)
            sock.connect(node.address)
            asked.append(query(name))
            sock.send(asked[-1].to_wire())
        question = node.question()
        until(lambda: node.end.clients == 2)
        assert question["qname"] == b"\x03www\x07example\x03org\x00"
        assert node.end.take() is None
        assert node.end.answer(question, *a_records(["192.0.2.1"]))
        for sock, sent, label in ((first, asked[0], b"WwW"), (second, asked[1], b"www")):
            wire = sock.recv(512)
            reply = dns.message.from_wire(wire)
            assert reply.id == sent.id
            assert wire[13:16] == label
            assert reply.answer[0].to_text().endswith("A 192.0.2.1")
    until(lambda: node.end.pending == 0)
    assert (node.count("misses"), node.count("joined_local")) == (2, 1)


def test_repeated_query_takes_its_own_place(node: Node, client: socket.socket) -> None:
    wire = query("again.test.").to_wire()
    for _ in range(5):
        client.send(wire)
    question = node.question()
    until(lambda: node.count("repeated") == 4)
    assert node.end.clients == 1
    node.end.answer(question, *a_records(["192.0.2.7"]))
    assert receive(client).answer
    assert silent(client)


def test_failure_record_is_servfail_with_its_ede(node: Node, client: socket.socket) -> None:
    client.send(query("down.test.", use_edns=0).to_wire())
    node.end.fail(node.question(), 22)
    reply = receive(client)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert [int(option.code) for option in reply.options if hasattr(option, "code")] == [22]


def test_deadline_is_servfail() -> None:
    """Nobody answers: the client gets SERVFAIL at its deadline, and the slot is free again."""
    for node in make_node(deadline_ms=200):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(node.address)
            begun = time.monotonic()
            sock.send(query("silence.test.").to_wire())
            assert receive(sock).rcode() == dns.rcode.SERVFAIL
            assert time.monotonic() - begun >= 0.19
            until(lambda: node.end.pending == 0 and node.end.clients == 0)
            node.end.answer(node.question(), *a_records(["192.0.2.1"]))
            until(lambda: node.count("answers_unmatched") == 1)
            assert silent(sock)


@pytest.mark.parametrize("wrong", ["ticket", "use", "qname"])
def test_answer_that_does_not_match_is_dropped(node: Node, client: socket.socket, wrong: str) -> None:
    client.send(query("match.test.").to_wire())
    question = node.question()
    other = {
        "ticket": {"ticket": question["ticket"] + 1},
        "use": {"ticket": question["ticket"] + (1 << 32)},
        "qname": {"qname": b"\x05natch\x04test\x00"},
    }[wrong]
    node.end.answer(question, *a_records(["192.0.2.66"]), **other)
    until(lambda: node.count("answers_unmatched") == 1)
    node.end.answer(question, *a_records(["192.0.2.1"]))
    assert receive(client).answer[0].to_text().endswith("192.0.2.1")


def test_full_question_ring_puts_the_rest_later() -> None:
    """A ring for some eight questions, fifty clients: every one is asked in the end."""
    for node in make_node(questions=1024):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(node.address)
            for number in range(50):
                sock.send(query(f"n{number}.test.").to_wire())
            until(lambda: node.end.clients == 50)
            assert node.count("question_ring_full") > 0
            for _ in range(50):
                assert node.end.answer(node.question(), *a_records(["192.0.2.1"]))
            for _ in range(50):
                assert receive(sock).answer


def test_full_tables_are_servfail_at_once() -> None:
    for node in make_node(pending=4, clients=6):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(node.address)
            for number in range(4):
                sock.send(query(f"n{number}.test.").to_wire())
            until(lambda: node.end.pending == 4)
            sock.send(query("n4.test.").to_wire())
            assert receive(sock).rcode() == dns.rcode.SERVFAIL
            assert node.count("pending_full") == 1
            for _ in range(3):
                sock.send(query("n0.test.").to_wire())
            assert receive(sock).rcode() == dns.rcode.SERVFAIL
            assert node.count("clients_full") == 1


def test_new_coordinator_or_overflow_puts_questions_again(node: Node, client: socket.socket) -> None:
    client.send(query("lost.test.").to_wire())
    first = node.question()
    node.end.generation(7)
    second = node.question()
    node.end.overflow()
    third = node.question()
    assert first["ticket"] == second["ticket"] == third["ticket"]
    node.end.answer(third, *a_records(["192.0.2.1"]))
    assert receive(client).answer


def test_successor_keeps_waiting_clients(node: Node, client: socket.socket) -> None:
    """SIGKILL with clients waiting: the successor puts their questions again and answers them."""
    wires = [query(f"n{number}.test.") for number in range(20)]
    for message in wires:
        client.send(message.to_wire())
    until(lambda: node.end.clients == 20)
    while node.end.take() is not None:
        pass
    node.processes[-1].kill()
    node.processes[-1].join()
    node.start()
    for _ in wires:
        assert node.end.answer(node.question(), *a_records(["192.0.2.1"]))
    answered = {receive(client).id for _ in wires}
    assert answered == {message.id for message in wires}
    assert node.count("recovered_clients") == 20


def test_rd_0_is_asked_alone(node: Node, client: socket.socket) -> None:
    for flags in (0, 0, dns.flags.RD):
        message = query("norec.test.")
        message.flags = dns.flags.Flag(flags)
        client.send(message.to_wire())
    questions = [node.question() for _ in range(3)]
    assert [question["flags"] for question in questions] == [2, 2, 1]


def test_bad_input_is_counted(node: Node, client: socket.socket) -> None:
    client.send(b"short")
    response = query("response.test.")
    response.flags |= dns.flags.QR
    client.send(response.to_wire())
    client.send(query("ok.test.").to_wire()[:-1])
    assert receive(client).rcode() == dns.rcode.FORMERR
    notify = query("notify.test.")
    notify.set_opcode(4)  # type: ignore[arg-type]
    client.send(notify.to_wire())
    assert receive(client).rcode() == dns.rcode.NOTIMP
    assert silent(client)
    names = ("dropped_short", "dropped_response", "formerr", "notimp")
    assert [node.count(name) for name in names] == [1, 1, 1, 1]


def test_listener_asked_from_its_own_address(node: Node) -> None:
    """From the very address and port: dropped (a loop). From the address, another port: answered."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind((node.address[0], 0))
        sock.connect(node.address)
        sock.send(query("self.test.").to_wire())
        node.end.answer(node.question(), *a_records(["192.0.2.1"]))
        assert receive(sock).answer


@pytest.mark.parametrize("listen", ["0.0.0.0", "::"])
def test_wildcard_answers_late_from_the_address_asked(listen: str) -> None:
    """Connected sockets accept a reply only from the address that they asked."""
    for node in make_node(listen):
        addresses = ["127.0.0.1", "127.0.0.77"] if listen == "0.0.0.0" else ["::1"]
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
                sock.settimeout(PATIENCE_S)
                sock.connect((address, node.address[1]))
                sock.send(query("late.test.").to_wire())
                node.end.answer(node.question(), *a_records(["192.0.2.1"]))
                assert receive(sock).answer
                sock.send(query("now.test.").to_wire()[:-1])
                assert receive(sock).rcode() == dns.rcode.FORMERR


def test_tcp_waits_and_is_answered_in_any_order(node: Node) -> None:
    with closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as sock:
        messages = [query(f"t{number}.test.") for number in range(3)]
        for message in messages:
            wire = message.to_wire()
            sock.sendall(struct.pack("!H", len(wire)) + wire)
        questions = [node.question() for _ in messages]
        for question in reversed(questions):
            node.end.answer(question, *a_records([f"192.0.2.{number}" for number in range(200)]))
        stream = sock.makefile("rb")
        for message in reversed(messages):
            (length,) = struct.unpack("!H", stream.read(2))
            reply = dns.message.from_wire(stream.read(length))
            assert reply.id == message.id
            assert len(reply.answer[0]) == 200


def test_tcp_message_that_kills_twice_is_refused(node: Node) -> None:
    """One death makes it a suspect and it is served; after the second one it is dropped, under any ID."""
    poison = query("poison.test.")
    served = 0
    for deaths in range(1, 3):
        node.processes[-1].kill()
        node.processes[-1].join()
        node.end.died_on_tcp(poison.to_wire())
        node.start()
        until(lambda: deaths in node.end.suspects.values())  # the heartbeat moves before
        assert len(node.end.suspects) == 1
        with closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as sock:
            stream = sock.makefile("rb")
            for message in (poison, query("harmless.test.")):
                message.id = 1000 + deaths
                wire = message.to_wire()
                sock.sendall(struct.pack("!H", len(wire)) + wire)
                if message is poison and deaths == 2:
                    continue
                node.end.answer(node.question(), *a_records(["192.0.2.1"]))
                (length,) = struct.unpack("!H", stream.read(2))
                assert dns.message.from_wire(stream.read(length)).question == message.question
                served += 1
    assert served == 3
    assert node.count("poisoned") == 2, "given up by the successor, and refused to the client"


def exchange(node: Node, message: dns.message.Message, answered: bool = True) -> dns.message.Message | None:
    """Ask over TCP, and be the coordinator that answers. None: nothing came back."""
    wire = message.to_wire()
    with closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as sock:
        sock.sendall(struct.pack("!H", len(wire)) + wire)
        if answered:
            node.end.answer(node.question(), *a_records(["192.0.2.1"]))
        else:
            sock.shutdown(socket.SHUT_WR)
        stream = sock.makefile("rb")
        prefix = stream.read(2)
        return dns.message.from_wire(stream.read(*struct.unpack("!H", prefix))) if prefix else None


def test_two_poisonous_packets_in_turn(node: Node) -> None:
    """They don't make each other forgotten: after two deaths each, both are refused and others are not."""
    poisons = [query("one.test."), query("two.test.")]
    for deaths, poison in ((1, poisons[0]), (1, poisons[1]), (2, poisons[0]), (2, poisons[1])):
        node.processes[-1].kill()
        node.processes[-1].join()
        node.end.died_on_tcp(poison.to_wire())
        before = list(node.end.suspects.values()).count(deaths)
        node.start()
        until(lambda: list(node.end.suspects.values()).count(deaths) == before + 1)
    for poison in poisons:
        assert exchange(node, poison, answered=False) is None
    assert exchange(node, query("harmless.test.")) is not None
    assert node.count("poisoned") == 4


def killed_by_answer(node: Node, question: dict[str, Any]) -> None:
    """The worker dies on an answer to this question, and a successor starts."""
    node.processes[-1].kill()
    node.processes[-1].join()
    node.end.died_on_key(question["key_hash"])
    node.start()


def test_an_answer_that_kills_twice_is_refused_whatever_packet_asks(
    node: Node, client: socket.socket
) -> None:
    """The question's key is what is remembered: its clients, and those to come, get SERVFAIL."""
    client.send(query("poison.test.").to_wire())
    question = node.question()
    for deaths in (1, 2):
        killed_by_answer(node, question)
        until(lambda: node.end.suspects == {question["key_hash"]: deaths})
    again = node.question()  # each successor asks for its clients anew
    assert again["key_hash"] == question["key_hash"]
    node.end.answer(again, *a_records(["192.0.2.1"]))
    assert receive(client).rcode() == dns.rcode.SERVFAIL
    while node.end.take() is not None:
        pass
    for other in (query("PoiSon.test.", use_edns=0), query("poison.test.", use_edns=0, payload=4000)):
        client.send(other.to_wire())
        assert receive(client).rcode() == dns.rcode.SERVFAIL
        reply = exchange(node, other, answered=False)
        assert reply is not None
        assert reply.rcode() == dns.rcode.SERVFAIL
    assert node.end.take() is None, "nothing of it goes to the coordinator"
    client.send(query("harmless.test.").to_wire())
    node.end.answer(node.question(), *a_records(["192.0.2.1"]))
    assert receive(client).answer


def test_an_answer_that_a_worker_happened_to_die_on_is_acquitted(node: Node, client: socket.socket) -> None:
    """It stands first in the ring: the successor does it first and alone, and remembers nothing of it."""
    client.send(query("chance.test.").to_wire())
    question = node.question()
    node.processes[-1].kill()
    node.processes[-1].join()
    node.end.answer(question, *a_records(["192.0.2.1"]))
    node.end.died_on_key(question["key_hash"])
    node.start()
    assert receive(client).answer
    until(lambda: node.end.suspects == {})


def test_drain_answers_what_waits_then_leaves(node: Node, client: socket.socket) -> None:
    client.send(query("last.test.").to_wire())
    question = node.question()
    node.end.stop(1)
    child = node.processes[-1]
    beats = node.end.heartbeat
    until(lambda: node.end.heartbeat >= beats + 3)
    assert child.is_alive()
    node.end.answer(question, *a_records(["192.0.2.1"]))
    assert receive(client).answer
    child.join(PATIENCE_S)
    assert child.exitcode == 0


def test_wakes_the_coordinator_only_when_it_sleeps(node: Node, client: socket.socket) -> None:
    def rung() -> int:
        try:
            return os.eventfd_read(node.handles.wake_coordinator)
        except BlockingIOError:
            return 0

    until(rung)  # once at start
    client.send(query("awake.test.").to_wire())
    node.question()
    until(lambda: node.end.clients == 1)
    assert rung() == 0
    node.end.sleep()
    client.send(query("asleep.test.").to_wire())
    assert until(rung) >= 1


def test_stop_signal_reaches_only_the_keeper(node: Node) -> None:
    """A worker has default handlers: a signal kills it, and that is a death like any other."""
    os.kill(node.processes[-1].pid, signal.SIGTERM)
    node.processes[-1].join(PATIENCE_S)
    assert node.processes[-1].exitcode == -signal.SIGTERM
