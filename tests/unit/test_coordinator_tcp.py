# SPDX-License-Identifier: Apache-2.0
"""The coordinator's TCP connections: after truncation, and as the only way to an upstream."""

import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.coordtools import (
    ANSWER,
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    FAILURE,
    Asked,
    Reply,
    Upstream,
    World,
    address,
    closed_port,
    plain_address,
    records,
    reply,
    silence,
    take_apart,
    world,
)


def truncating(asked: Asked) -> Reply:
    """TC over UDP, the whole over TCP."""
    return address(asked) if asked.tcp else reply(asked, tc=True)


def test_truncated_answers_are_asked_for_over_tcp() -> None:
    with Upstream(truncating) as up, world(up) as w:
        answer = w.ask("www.example.")
        assert answer.message().answer
        assert not answer.msg_flags & 0x0200
        assert [asked.tcp for asked in up.asked] == [False, True]
        w.ask("www2.example.")
        assert up.connections == 1
        assert (w.count("upstream_truncated"), w.count("upstream_tcp"), w.count("upstream_tcp_connects")) == (
            2,
            2,
            1,
        )
        assert w.count("stores") == 2


@pytest.mark.parametrize("left_out", [5, 16])
def test_truncated_answers_may_end_within_a_record(left_out: int) -> None:
    """RFC 2181 s9: TC counts, what came with it does not: 11 octets of a record, or its count alone."""

    def play(asked: Asked) -> Reply:
        if asked.tcp:
            return address(asked)
        return reply(asked, records(asked.qname, 300, "A", "192.0.2.1"), tc=True, opt=False)[:-left_out]

    with Upstream(play) as up, world(up) as w:
        assert w.ask("www.example.").message().answer
        assert [asked.tcp for asked in up.asked] == [False, True]
        assert w.count("upstream_malformed") == 0


def test_answers_of_64_kib() -> None:
    many = [f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}" for i in range(4000)]

    def play(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 60, "A", *many)) if asked.tcp else reply(asked, tc=True)

    with Upstream(play) as up, world(up, region={"answers": 1 << 20}) as w:
        for i in range(3):
            answer = w.ask(f"huge{i}.example.")
            assert {item.address for item in answer.message().answer[0]} == set(many)
            assert answer.plain_len > 64_000


def test_truncated_over_tcp_too_is_handed_on_and_not_stored() -> None:
    with Upstream(lambda asked: reply(asked, tc=True)) as up, world(up) as w:
        answer = w.ask("www.example.")
        assert answer.msg_flags & 0x0200
        assert w.count("stores") == 0


def test_force_tcp_pipelines_and_takes_answers_in_any_order() -> None:
    waiting: list[Asked] = []
    count = 30  # fewer than another connection would be opened for

    def play(asked: Asked) -> Reply:
        waiting.append(asked)
        if len(waiting) < count:
            return None
        return [reply(a, records(a.qname, 60, "TXT", f'"{a.qname}"')) for a in reversed(waiting)]

    with Upstream(play, udp=False) as up, world(up, force_tcp=True) as w:
        tickets = {w.put(f"n{i}.example.", "TXT"): f"n{i}.example." for i in range(count)}
        for ticket, record in w.take_all(count).items():
            assert record.kind == ANSWER
            assert tickets[ticket] in take_apart(record.entry).message().answer[0].to_text()
        assert up.connections == 1
        assert w.count("upstream_udp") == 0


def octet_server(questions: int, pause: float) -> tuple[socket.socket, threading.Thread]:
    """A TCP server that answers so many questions on one connection, one octet at a time."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    listener.settimeout(10)

    def run() -> None:
        connection, peer = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            for _ in range(questions):
                head = connection.recv(2, socket.MSG_WAITALL)
                query = connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                message = address(Asked(query, peer, True, 0.0))
                for octet in struct.pack("!H", len(message)) + message:
                    connection.sendall(bytes([octet]))
                    time.sleep(pause)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return listener, thread


def test_answers_octet_by_octet() -> None:
    listener, thread = octet_server(3, 0.0005)
    with listener, world(listener.getsockname()[1], force_tcp=True) as w:
        for i in range(3):
            assert w.ask(f"slow{i}.example.").message().answer
        thread.join(5)


def test_a_lost_connection_is_replaced_and_its_questions_asked_again() -> None:
    def play(asked: Asked) -> Reply:
        if up.connections == 1 and len(up.asked) == 10:
            raise ConnectionError
        return None if up.connections == 1 else address(asked)

    with Upstream(play, udp=False) as up, world(up, force_tcp=True) as w:
        begin = time.monotonic()
        tickets = [w.put(f"n{i}.example.") for i in range(10)]
        assert set(w.take_all(10)) == set(tickets)
        assert time.monotonic() - begin < 0.9  # not the silence of a second
        assert up.connections == 2
        assert w.count("upstream_tcp_broken") == 1
        names = [asked.qname for asked in up.asked]
        assert names[10:] == names[:10]  # the oldest first


def test_no_hedge_goes_to_one_who_is_asked_over_tcp() -> None:
    """Least of all as a datagram: with TLS it would leave in the clear."""
    with Upstream() as first, Upstream() as second, World([(first.port, 0), (second.port, 1)]) as w:
        for i in range(60):
            w.ask(f"n{i}.example.")
        first.play = silence
        w.take_all(len({w.put(f"late{i}.example.") for i in range(3)}))
        assert {asked.tcp for asked in second.asked} == {True}
        assert w.count("hedges") == 0


def reset(asked: Asked) -> Reply:
    raise ConnectionError


def test_connections_that_never_answer_are_a_failure() -> None:
    """Behind a service's address the next one could lead to another server: tried six times."""
    with Upstream(reset, udp=False) as up, world(up, force_tcp=True) as w:
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        assert up.connections == 6


def test_a_connection_lost_before_an_answer_leads_to_the_next_upstream() -> None:
    with (
        Upstream(reset, udp=False) as bad,
        Upstream(udp=False) as good,
        world(bad, good, force_tcp=True) as w,
    ):
        w.ask("www.example.")
        assert (bad.connections, good.connections) == (1, 1)


def test_an_upstream_that_closes_after_each_answer() -> None:
    """What stands behind the answer on such a connection is asked again, however often it takes."""

    def play(asked: Asked) -> Reply:
        if asked.peer in answered:
            raise ConnectionError
        answered.add(asked.peer)
        return address(asked)

    answered: set[tuple[str, int]] = set()
    with Upstream(play, udp=False) as up, world(up, force_tcp=True) as w:
        tickets = {w.put(f"n{i}.example.") for i in range(24)}
        found = w.take_all(len(tickets))
        assert {record.kind for record in found.values()} == {ANSWER}
        assert set(found) == tickets
        assert up.connections >= len(tickets)
        assert w.count("upstream_retries") == 0


def test_a_question_that_its_connections_are_reset_for() -> None:
    """It is not asked again at once for as long as it has: the others' connections would end with its own."""

    def play(asked: Asked) -> Reply:
        if asked.wire[13:16] == b"bad":
            raise ConnectionError
        return plain_address(asked)

    with Upstream(play, udp=False) as up, world(up, force_tcp=True, question_deadline_ms=1500) as w:
        waiting = {w.put(f"n{i}.example.") for i in range(100)}  # on four connections
        bad = w.put("bad.example.")
        failed = 0
        while (record := w.take()).ticket != bad:
            waiting.remove(record.ticket)
            failed += record.kind != ANSWER
            waiting.add(w.put(f"n{record.ticket}.example."))
        assert record.kind == FAILURE
        assert failed == 0
        assert sum(asked.wire[13:16] == b"bad" for asked in up.asked) < 45


def test_all_upstreams_reset_all_connections() -> None:
    """Bounded: each is tried, none for ever."""
    with (
        Upstream(reset, udp=False) as one,
        Upstream(reset, udp=False) as two,
        world(one, two, force_tcp=True) as w,
    ):
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        assert one.connections + two.connections == 6


def test_nobody_there() -> None:
    with Upstream(udp=False) as up, world(closed_port(), up, force_tcp=True) as w:
        begin = time.monotonic()
        for i in range(5):
            w.ask(f"www{i}.example.")
        assert time.monotonic() - begin < 0.9
    with world(closed_port(), force_tcp=True) as w:
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR


def test_silence_on_tcp_leads_to_the_next_upstream_after_a_second() -> None:
    with (
        Upstream(silence, udp=False) as dead,
        Upstream(udp=False) as good,
        world(dead, good, force_tcp=True) as w,
    ):
        begin = time.monotonic()
        w.ask("www.example.")
        assert 0.9 < time.monotonic() - begin < 2.0
        assert (len(dead.asked), len(good.asked)) == (1, 1)


def test_the_deadline_holds_on_tcp() -> None:
    with Upstream(silence, udp=False) as up, world(up, force_tcp=True, question_deadline_ms=300) as w:
        assert w.ask_failing("www.example.") == EDE_NO_REACHABLE_AUTHORITY
        assert len(up.asked) == 1


def test_a_question_without_an_answer_goes_to_another_connection_after_a_second() -> None:
    """The upstream has it and says nothing; there is no other upstream."""

    def play(asked: Asked) -> Reply:
        return None if up.connections == 1 else address(asked)

    with Upstream(play, udp=False) as up, world(up, force_tcp=True) as w:
        begin = time.monotonic()
        w.ask("www.example.")
        assert 0.9 < time.monotonic() - begin < 2.0
        assert up.connections == 2


def test_a_connection_closed_by_the_upstream_while_idle() -> None:
    with Upstream(udp=False) as up, world(up, force_tcp=True) as w:
        w.ask("www.example.")
        for sock in up._sockets[1:]:
            sock.shutdown(socket.SHUT_RDWR)
        time.sleep(0.15)
        w.ask("www2.example.")
        assert up.connections == 2
        assert w.count("upstream_tcp_broken") == 0


def test_upstream_that_reads_nothing() -> None:
    """Its questions wait in the table, which has its bound, and end with their time."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    name = "x" * 60 + "."
    with listener, world(listener.getsockname()[1], force_tcp=True, question_deadline_ms=1500) as w:
        descriptors = Path(f"/proc/{w.pid}/fd")
        before = len(list(descriptors.iterdir()))
        tickets = set()
        for lot in range(20):
            tickets |= {w.put(f"n{lot}-{i}.{name}{name}{name}") for i in range(150)}
            w.wait(lambda: not w.side[0].questions_waiting, "an empty ring")
            assert len(list(descriptors.iterdir())) - before <= 8, "connections at a time"
        found: set[int] = set()
        while found != tickets:
            record = w.take()
            assert record.kind != ANSWER
            found.add(record.ticket)
        w.wait(lambda: w.post.inflight == 0, "an empty table")


@pytest.mark.parametrize("octets", [b"\0\0", b"\0\1x", b"\0\x0c" + bytes(12), b"\xff\xff" + bytes(70000)])
def test_noise_on_a_connection(octets: bytes) -> None:
    """Answers to nothing are ignored; the right one still counts."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    listener.settimeout(10)
    with listener, world(listener.getsockname()[1], force_tcp=True) as w:
        ticket = w.put("www.example.")
        connection, peer = listener.accept()
        with connection:
            head = connection.recv(2, socket.MSG_WAITALL)
            query = connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
            whole = octets if octets[:2] != b"\xff\xff" else octets[: 2 + 65535]
            message = address(Asked(query, peer, True, 0.0))
            connection.sendall(whole + struct.pack("!H", len(message)) + message)
            record = w.take()
        assert (record.kind, record.ticket) == (ANSWER, ticket)
        assert w.count("upstream_mismatched") == 1
