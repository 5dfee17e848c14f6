# SPDX-License-Identifier: Apache-2.0
"""The load generator against a server of the test's own, which is told how to misbehave."""

import json
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.loadgen import LoadResult, LoadSpec, numbered_names, read_names, run, run_process
from fastdns.loadgen._generator import histogram_bounds
from fastdns.loadgen.queries import encode_name, encode_query, unique_query

pytestmark = pytest.mark.timeout(30)

Behaviour = Callable[[bytes], list[bytes]]
"""From a query to the messages that are sent back for it."""


def echo(query: bytes) -> list[bytes]:
    """The question back as an empty NOERROR answer."""
    return [query[:2] + bytes([query[2] | 0x80]) + query[3:]]


class Server:
    """A UDP server in a thread; `seen` holds all queries."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.seen: list[bytes] = []
        self.clients: set[tuple[str, int]] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                query, client = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.seen.append(query)
            self.clients.add(client)
            for reply in self.behaviour(query):
                self._socket.sendto(reply, client)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], Server]]:
    servers: list[Server] = []

    def start(behaviour: Behaviour) -> Server:
        servers.append(Server(behaviour))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def assert_books_balance(result: LoadResult) -> None:
    assert result.sent == result.answered + result.timeouts
    assert result.lost == result.timeouts - result.late
    assert result.in_flight == 0
    assert sum(result.rcodes.values()) == result.answered


def test_every_query_is_answered_once(serve: Callable[[Behaviour], Server]) -> None:
    server = serve(echo)
    names = numbered_names(50, "hits.test")
    result = run(LoadSpec(server.address, names=names, count=500, window=32, sockets=4))
    assert_books_balance(result)
    assert (result.sent, result.answered, result.lost) == (500, 500, 0)
    assert result.rcodes == {"NOERROR": 500}
    assert len(server.clients) == 4
    asked = [dns.message.from_wire(query).question[0] for query in server.seen]
    assert {str(question.name) for question in asked} == {f"{name}." for name, _ in names}
    latency = result.latency_us
    assert 0 < latency.min <= latency.p50 <= latency.p90 <= latency.p99 <= latency.p999 <= latency.max
    assert result.answers_per_s > 0


def test_a_large_window_naps_and_loses_nothing(serve: Callable[[Behaviour], Server]) -> None:
    server = serve(echo)
    result = run(
        LoadSpec(server.address, names=numbered_names(10, "x.test"), count=3000, window=512, sockets=2)
    )
    assert_books_balance(result)
    assert result.answered == 3000


def test_ids_look_random_and_are_unique_while_under_way(serve: Callable[[Behaviour], Server]) -> None:
    # A server spreads queries by their ID: each bit of it must be even, although half of it is a slot's
    # number.
    server = serve(echo)
    run(LoadSpec(server.address, names=[("a.test", "A")], count=4000, window=8, sockets=1))
    ids = [int.from_bytes(query[:2], "big") for query in server.seen]
    assert len(set(ids)) > 2000
    for bit in range(16):
        ones = sum(message_id >> bit & 1 for message_id in ids)
        assert 0.42 < ones / len(ids) < 0.58, f"bit {bit}"


def test_unique_names_are_never_repeated(serve: Callable[[Behaviour], Server]) -> None:
    server = serve(echo)
    for _ in range(2):
        result = run(LoadSpec(server.address, unique_suffix="miss.test", qtype="AAAA", count=300, window=16))
        assert result.answered == 300
    questions = [dns.message.from_wire(query).question[0] for query in server.seen]
    names = {question.name for question in questions}
    assert len(names) == 600
    suffix = dns.name.from_text("miss.test")
    assert all(name.is_subdomain(suffix) and len(name) == 4 for name in names)
    assert {question.rdtype for question in questions} == {dns.rdatatype.AAAA}


def test_a_fixed_rate_is_kept(serve: Callable[[Behaviour], Server]) -> None:
    server = serve(echo)
    result = run(LoadSpec(server.address, names=[("a.test", "A")], rate=500, seconds=1.0, sockets=8))
    assert_books_balance(result)
    assert 480 <= result.sent <= 501
    assert result.held_back <= 50
    assert len(server.clients) == 8


def test_random_order_asks_all_names(serve: Callable[[Behaviour], Server]) -> None:
    server = serve(echo)
    names = numbered_names(20, "x.test")
    run(LoadSpec(server.address, names=names, count=1000, window=16, order="random"))
    asked = [query[12:-4] for query in server.seen]
    assert len(set(asked)) == 20
    assert asked[:20] != [encode_name(name) for name, _ in names]


def test_silence_is_loss(serve: Callable[[Behaviour], Server]) -> None:
    dropped = random.Random(7)
    server = serve(lambda query: [] if dropped.random() < 0.2 else echo(query))
    result = run(LoadSpec(server.address, names=[("a.test", "A")], count=200, window=32, timeout_s=0.2))
    assert_books_balance(result)
    assert result.sent == 200
    assert result.lost == 200 - result.answered > 10


def test_late_replies_are_late_not_lost(serve: Callable[[Behaviour], Server]) -> None:
    held: list[bytes] = []

    def answer_the_one_before(query: bytes) -> list[bytes]:
        held.extend(echo(query))
        return [held.pop(0)] if len(held) > 1 else []

    # The next query goes out when the one before was given up; the reply to that one comes then.
    server = serve(answer_the_one_before)
    result = run(
        LoadSpec(server.address, names=[("a.test", "A")], count=5, window=1, timeout_s=0.06, sockets=1)
    )
    assert_books_balance(result)
    assert (result.answered, result.timeouts, result.late, result.lost) == (0, 5, 4, 1)


def test_duplicates_and_foreign_ids_are_stray(serve: Callable[[Behaviour], Server]) -> None:
    server = serve(lambda query: [*echo(query), *echo(query)])
    result = run(LoadSpec(server.address, names=[("a.test", "A")], count=100, window=1, sockets=1))
    assert_books_balance(result)
    assert result.answered == 100
    assert result.stray >= 99  # the last duplicate may come after the end


def test_another_question_is_not_an_answer(serve: Callable[[Behaviour], Server]) -> None:
    def other_case(query: bytes) -> list[bytes]:
        return [reply[:12] + reply[12:].upper() for reply in echo(query)]

    server = serve(other_case)
    names = [("abc.test", "A")]
    result = run(LoadSpec(server.address, names=names, count=10, window=10, timeout_s=0.1))
    assert_books_balance(result)
    assert (result.answered, result.mismatched, result.timeouts) == (0, 10, 10)
    assert run(LoadSpec(server.address, names=names, count=10, verify=False)).answered == 10


def test_rcodes_and_truncation_are_counted(serve: Callable[[Behaviour], Server]) -> None:
    def refuse(query: bytes) -> list[bytes]:
        return [query[:2] + bytes([query[2] | 0x82, 5]) + query[4:]]

    result = run(LoadSpec(serve(refuse).address, names=[("a.test", "A")], count=7))
    assert result.rcodes == {"REFUSED": 7}
    assert result.truncated == 7


def test_nobody_listening_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
    result = run(LoadSpec(address, names=[("a.test", "A")], count=5, rate=100, timeout_s=0.1))
    assert result.answered == 0
    assert result.refused > 0


def test_progress_is_reported(serve: Callable[[Behaviour], Server]) -> None:
    seen: list[LoadResult] = []
    spec = LoadSpec(serve(echo).address, names=[("a.test", "A")], rate=200, seconds=0.5)
    result = run(spec, progress=seen.append)
    assert len(seen) >= 3
    assert [step.sent for step in seen] == sorted(step.sent for step in seen)
    assert seen[-1].sent <= result.sent


def test_in_a_process_of_its_own(serve: Callable[[Behaviour], Server]) -> None:
    server = serve(echo)
    names: list[tuple[str, str | int]] = [("a.test", "A"), ("b.test", 65400)]
    result = run_process(LoadSpec(server.address, names=names, count=40, window=4, edns=1232), cpus=[0])
    assert_books_balance(result)
    assert result.answered == 40
    message = dns.message.from_wire(server.seen[0])
    assert (message.edns, message.payload) == (0, 1232)


def test_command_line_prints_json(serve: Callable[[Behaviour], Server]) -> None:
    host, port = serve(echo).address
    command = [sys.executable, "-m", "fastdns.loadgen", f"{host}:{port}", "--numbered", "5", "--count", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert json.loads(done.stdout)["answered"] == 10
    wrong = subprocess.run([*command[:3], "nowhere"], capture_output=True, text=True, check=False, timeout=20)
    assert wrong.returncode == 2
    assert "ADDRESS:PORT" in wrong.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": ()},
        {"unique_suffix": "b.test"},
        {"seconds": None},
        {"window": 0},
        {"rate": -1.0},
        {"sockets": 0},
    ],
)
def test_a_spec_without_sense_is_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"names": [("a.test", "A")], "seconds": 1.0}
    with pytest.raises(ValueError):
        LoadSpec(("127.0.0.1", 53), **{**good, **wrong})  # type: ignore[arg-type]


def test_too_large_a_window_is_refused() -> None:
    spec = LoadSpec(("127.0.0.1", 53), names=[("a.test", "A")], seconds=1, window=9000, sockets=1)
    with pytest.raises(ValueError, match="sockets"):
        run(spec)


LABEL = st.binary(min_size=1, max_size=63)


@given(st.lists(LABEL, max_size=4).filter(lambda labels: sum(len(label) + 1 for label in labels) < 255))
def test_names_are_encoded_as_dnspython_encodes_them(labels: list[bytes]) -> None:
    name = dns.name.Name([*labels, b""])
    assert encode_name(name.to_text()) == name.to_wire()


@pytest.mark.parametrize(
    "wrong", ["a..b", ".a", "a" * 64, "a\\", "\\25", "\\256", ".".join(["a" * 63] * 4) + ".bc"]
)
def test_bad_names_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        encode_name(wrong)


def test_queries_are_encoded_as_dnspython_encodes_them() -> None:
    expected = dns.message.make_query(
        "www.example.test", "SRV", use_edns=0, payload=4096, want_dnssec=True, id=0
    )
    assert encode_query("www.example.test", "SRV", 4096, dnssec_ok=True) == expected.to_wire()
    plain = dns.message.make_query("www.example.test", "TYPE65400", use_edns=False, id=0)
    assert encode_query("www.example.test.", "TYPE65400") == plain.to_wire()
    with pytest.raises(ValueError, match="NOSUCH"):
        encode_query("a.test", "NOSUCH")


def test_unique_pattern_is_new_each_time() -> None:
    assert unique_query("m.test") != unique_query("m.test")


def test_query_files() -> None:
    assert read_names(["# comment", "", "a.test", "b.test AAAA", "; other"]) == [
        ("a.test", "A"),
        ("b.test", "AAAA"),
    ]


def test_histogram_buckets_follow_each_other() -> None:
    low, high = histogram_bounds(0)
    assert (low, high) == (0, 0)
    for index in range(1, 2000):
        previous = high
        low, high = histogram_bounds(index)
        assert low == previous + 1
        assert high - low <= low / 63
