# SPDX-License-Identifier: Apache-2.0
"""One real worker process; the test plays the coordinator at the other end of its rings."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import multiprocess
import pytest

import fastdns
from fastdns import _segments
from fastdns._testing.worker import CoordinatorEnd
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Limits, Upstream, plain_config
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

    def start(self) -> Any:
        child = multiprocess.get_context("fork").Process(target=process.main, args=(self.handles,))
        serving = self.end.heartbeat
        child.start()
        self.processes.append(child)
        until(lambda: self.end.heartbeat > serving)
        return child

    def count(self, name: str) -> int:
        return self.end.counters()[COUNTERS.index(name)]

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


def make_node(listen: str = "127.0.0.1", deadline_ms: int = 4500, **sizes: int) -> Iterator[Node]:
    cache = _segments.create_cache(CACHE)
    region = _segments.create_region(0, slots=_segments.cache_slots(CACHE), **sizes)
    udp, tcp = bind_both(listen)
    with closing(udp), closing(tcp):
        port = udp.getsockname()[1]
        config = create_config(
            plain_config(
                (Endpoint(listen, port),),
                (Upstream(Endpoint("127.0.0.1", 9)),),
                worker_count=1,
                limits=Limits(client_deadline_ms=deadline_ms),
            )
        )
        handles = WorkerHandles(
            index=0,
            config=config,
            cache=_segments.reopen_read_only(cache),
            region=region,
            wake=os.eventfd(0, os.EFD_NONBLOCK),
            wake_coordinator=os.eventfd(0, os.EFD_NONBLOCK),
            log=_segments.create_log("worker-0", 16384),
            udp=[udp.fileno()],
            tcp=[tcp.fileno()],
        )
        reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)
        node = Node(handles, (reach, port), CoordinatorEnd(region), [])
        try:
            node.start()
            yield node
        finally:
            for child in node.processes:
                if child.is_alive():
                    child.kill()
                child.join()
            for descriptor in {*handles.descriptors(), cache} - {udp.fileno(), tcp.fileno()}:
                os.close(descriptor)


@pytest.fixture
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture
def client(node: Node) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.connect(node.address)
        sock.settimeout(PATIENCE_S)
        yield sock


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
        assert node.end.in_hand["deaths"] == deaths
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
