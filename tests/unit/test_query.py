# SPDX-License-Identifier: Apache-2.0
"""`fastdns query`: the words, the reply as text and as JSON, and everything that a server can do wrong."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import dns.message
import dns.name
import dns.rdatatype
import pytest

from fastdns.commands import query
from fastdns.control.addresses import Endpoint
from fastdns.demo.upstream import Zones
from fastdns.errors import UsageError

Behaviour = Callable[[bytes], bytes | None]


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], str]]:
    """Start UDP servers that answer as a function says (None: not at all); gives the @SERVER word."""
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def answer(sock: socket.socket, behaviour: Behaviour) -> None:
        while True:
            message, peer = sock.recvfrom(4096)
            if message == b"stop":
                return
            reply = behaviour(message)
            if reply is not None:
                sock.sendto(reply, peer)

    def start(behaviour: Behaviour) -> str:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
        threads.append(threading.Thread(target=answer, args=(sock, behaviour)))
        threads[-1].start()
        return f"@127.0.0.1:{sock.getsockname()[1]}"

    yield start
    for sock, thread in zip(sockets, threads, strict=True):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stopper:
            stopper.sendto(b"stop", sock.getsockname())
        thread.join()
        sock.close()


@pytest.fixture
def upstream() -> Iterator[str]:
    """The demo's upstream in a process of its own; gives its @SERVER word."""
    command = [sys.executable, "-m", "fastdns.demo.upstream", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield "@" + process.stdout.readline().strip()
        process.terminate()


def run(*words: str) -> int:
    return query.main(list(words))


@pytest.mark.parametrize(
    ("words", "name", "rdtype", "server"),
    [
        (["a.test"], "a.test.", "A", "127.0.0.1:5300"),
        (["a.test", "AAAA"], "a.test.", "AAAA", "127.0.0.1:5300"),
        (["@::1", "MX", "a.test"], "a.test.", "MX", "[::1]:53"),
        (["a.test", "@10.0.0.1", "TYPE65400"], "a.test.", "TYPE65400", "10.0.0.1:53"),
        (["@[fd00::1]:5300", "mx", "a"], "mx.", "A", "[fd00::1]:5300"),
        (["MX"], "mx.", "A", "127.0.0.1:5300"),
        (["."], ".", "A", "127.0.0.1:5300"),
        (["bücher.example"], "xn--bcher-kva.example.", "A", "127.0.0.1:5300"),
    ],
)
def test_words_in_any_order(words: list[str], name: str, rdtype: str, server: str) -> None:
    question = query.parse_words(words)
    assert question.name == dns.name.from_text(name)
    assert dns.rdatatype.to_text(question.rdtype) == rdtype
    assert str(question.server) == server


@pytest.mark.parametrize(
    ("words", "reverse", "text"),
    [
        ([], None, "a name"),
        (["x.test", "y.test"], None, "is a type"),
        (["a", "A", "more"], None, "'more'"),
        (["@10.0.0.1", "@10.0.0.2", "a"], None, "one @SERVER"),
        (["@nowhere.invalid", "a"], None, "IP address"),
        (["a..b"], None, "not a domain name"),
        (["a" * 64], None, "not a domain name"),
        (["a"], "10.0.0.1", "left over"),
        ([], "10.0.0", "not an IP address"),
    ],
)
def test_words_without_sense(words: list[str], reverse: str | None, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        query.parse_words(words, reverse)


def test_reverse() -> None:
    assert query.parse_words([], "10.43.0.1").name == dns.name.from_text("1.0.43.10.in-addr.arpa.")
    assert query.parse_words(["@::1"], "::1").rdtype == dns.rdatatype.PTR


def test_text(upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("db.default.svc.cluster.local", upstream) == query.EXIT_ANSWERED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f";; db.default.svc.cluster.local. A {upstream} (UDP)"
    assert lines[1].startswith(";; NOERROR, flags qr aa rd, EDNS 0 size 1232, ")
    assert lines[2:] == [
        ";; answer",
        "db.default.svc.cluster.local. 30 IN CNAME db.example.",
        "db.example. 300 IN A 192.0.2.54",
    ]


def test_short_and_tcp(upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-x", "10.43.12.34", "--short", "--tcp", upstream) == query.EXIT_ANSWERED
    assert capsys.readouterr().out == "nginx-svc.default.svc.cluster.local.\n"


def test_json(upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("no.example", "TXT", "--json", "--no-edns", upstream) == query.EXIT_RCODE
    document = json.loads(capsys.readouterr().out)
    assert document["question"] == {"name": "no.example.", "type": "TXT"}
    assert (document["rcode"], document["transport"], document["edns"]) == ("NXDOMAIN", "UDP", None)
    assert document["answer"] == []
    (soa,) = document["authority"]
    assert (soa["name"], soa["ttl"], soa["type"]) == ("example.", 60, "SOA")


def test_a_lost_packet_is_sent_again(serve: Callable[[Behaviour], str]) -> None:
    zones, seen = Zones.load(), []

    def answer_the_second(message: bytes) -> bytes | None:
        seen.append(message)
        return zones.answer(message, 512) if len(seen) == 2 else None

    assert run("www.example", serve(answer_the_second), "--timeout", "3") == query.EXIT_ANSWERED
    assert len(seen) == 2


def test_silence(serve: Callable[[Behaviour], str], capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(lambda message: None)
    assert run("www.example", server, "--timeout", "0.3") == query.EXIT_NO_REPLY
    assert capsys.readouterr().err == f"fastdns query: no reply from {server[1:]} within 0.3 s\n"


@pytest.mark.parametrize("options", [[], ["--tcp"]])
def test_nobody_listens(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert run("www.example", f"@127.0.0.1:{port}", *options) == query.EXIT_NO_REPLY
    assert f"nobody listens on 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_reply_that_is_none(serve: Callable[[Behaviour], str], capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(lambda message: message[:2] + b"\x81\x80" + b"\xff" * 8)
    assert run("www.example", server) == query.EXIT_NO_REPLY
    assert "no reply to this" in capsys.readouterr().err


def test_truncated_over_udp(serve: Callable[[Behaviour], str], capsys: pytest.CaptureFixture[str]) -> None:
    # Over UDP everything is truncated; TCP is somebody else, on the same port.
    zones = Zones.load()

    def truncate(message: bytes) -> bytes:
        reply = dns.message.make_response(dns.message.from_wire(message))
        reply.flags |= 0x0200
        return reply.to_wire()

    server = serve(truncate)
    port = int(server.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                message = connection.recv(4096)[2:]
                reply = zones.answer(message, None)
                assert reply is not None
                connection.sendall(len(reply).to_bytes(2, "big") + reply)

        thread = threading.Thread(target=answer)
        thread.start()
        assert run("www.example", server) == query.EXIT_ANSWERED
        thread.join()
    assert "(TCP, UDP was truncated)" in capsys.readouterr().out


def test_colours_only_on_a_terminal() -> None:
    message = dns.message.make_query("a.test", "A")
    reply = query.Reply(dns.message.make_response(message), "UDP", 0.001, 24)
    question = query.parse_words(["a.test", "@127.0.0.1"])
    assert "\x1b[" not in query.as_text(question, reply, query.Paint(on=False))
    assert "\x1b[32mNOERROR\x1b[0m" in query.as_text(question, reply, query.Paint(on=True))


def test_default_server() -> None:
    assert Endpoint("127.0.0.1", 5300) == query.DEFAULT_SERVER
