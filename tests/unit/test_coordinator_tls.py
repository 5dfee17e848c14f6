# SPDX-License-Identifier: Apache-2.0
"""The coordinator's connections with TLS: verified, resumed, many questions on each, and lost."""

import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.message
import pytest

from fastdns.control import model
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Block, Tls, plain_config
from fastdns.coordinator.tls import Server
from tests.certificates import SERVER_NAME, Authority
from tests.coordtools import (
    ANSWER,
    EDE_NETWORK_ERROR,
    FAILURE,
    Asked,
    Play,
    Reply,
    Upstream,
    World,
    address,
    closed_port,
    plain_address,
    records,
    reply,
    take_apart,
    world,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


ALONE = 2  # FD_Q_ALONE


class TlsUpstream(Upstream):
    """An upstream that speaks TLS only."""

    def __init__(self, context: ssl.SSLContext, play: Play = address, port: int = 0) -> None:
        self._context = context
        self.handshakes = self.resumed = self.refused = 0
        self.protocols: set[str | None] = set()
        super().__init__(play, udp=False, port=port)

    def _serve_tcp(self, peer: tuple[str, int], sock: socket.socket) -> None:
        sock.settimeout(5)
        try:
            tls = self._context.wrap_socket(sock, server_side=True)
        except OSError:
            self.refused += 1
            sock.close()
            return
        self._sockets.append(tls)
        self.handshakes += 1
        self.resumed += bool(tls.session_reused)
        self.protocols.add(tls.selected_alpn_protocol())
        tls.settimeout(0.03)
        super()._serve_tcp(peer, tls)


def with_tls(tls: Tls, expire_s: float, plain_from: int, servers: tuple[model.Upstream, ...]) -> model.Config:
    """All servers but those from `plain_from` on."""
    encrypted = [replace(one, force_tcp=True, tls=tls, expire_s=expire_s) for one in servers[:plain_from]]
    return plain_config((), (*encrypted, *servers[plain_from:]), 2, Block(negative_max_s=10800))


@contextlib.contextmanager
def tls_world(
    *upstreams: Upstream | int, tls: Tls, expire_s: float = 10.0, plain_from: int = 16
) -> Iterator[World]:
    with world(*upstreams, make=functools.partial(with_tls, tls, expire_s, plain_from)) as w:
        yield w


def test_an_answer_and_what_it_took(authority: Authority) -> None:
    with (
        TlsUpstream(authority.server_context()) as up,
        tls_world(up, tls=Tls(ca=str(authority.file))) as w,
    ):
        assert w.ask("www.example.").message().answer
        w.ask("www2.example.")
        assert [asked.tcp for asked in up.asked] == [True, True]
        assert (up.handshakes, up.protocols) == (1, {"dot"})
        assert w.count("upstream_tls_handshakes") == w.count("upstream_tcp_connects") == 1
        assert (w.count("upstream_tls_failed"), w.count("upstream_tcp")) == (0, 2)


def test_a_connection_leaves_from_the_address_that_is_said(authority: Authority) -> None:
    def from_there(servers: tuple[model.Upstream, ...]) -> model.Config:
        config = with_tls(Tls(ca=str(authority.file)), 10.0, 16, servers)
        own = Endpoint("127.0.0.7", 0)
        return replace(config, upstreams=tuple(one and replace(one, source=own) for one in config.upstreams))

    with TlsUpstream(authority.server_context()) as up, world(up, make=from_there) as w:
        assert w.ask("www.example.").message().answer
        assert {asked.peer[0] for asked in up.asked} == {"127.0.0.7"}


def test_a_thousand_questions_at_once_are_two_handshakes_at_most(authority: Authority) -> None:
    with (
        TlsUpstream(authority.server_context(), plain_address) as up,
        tls_world(up, tls=Tls(SERVER_NAME, str(authority.file))) as w,
    ):
        tickets = {w.put(f"n{i}.example.") for i in range(1000)}
        found = w.take_all(len(tickets))
        assert set(found) == tickets
        assert {record.kind for record in found.values()} == {ANSWER}
        assert {asked.qname for asked in up.asked} == {f"n{i}.example." for i in range(1000)}
        assert up.handshakes <= 2


def test_answers_of_64_kib(authority: Authority) -> None:
    """Several records of TLS each, many of them at once: more than the loop's socket holds."""
    many = [f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}" for i in range(4000)]

    def play(asked: Asked) -> Reply:
        return asked.wire[:2] + whole[2:]

    query = dns.message.make_query("huge.example.", "A", use_edns=True, payload=1232)
    whole = reply(Asked(query.to_wire(), ("", 0), True, 0.0), records("huge.example.", 60, "A", *many))
    with (
        TlsUpstream(authority.server_context(), play) as up,
        world(
            up,
            region={"answers": 4 << 20},
            make=functools.partial(with_tls, Tls(ca=str(authority.file)), 10.0, 16),
        ) as w,
    ):
        # Not joined: each is a question of its own.
        tickets = {w.put("huge.example.", flags=ALONE) for _ in range(30)}
        found = w.take_all(len(tickets))
        assert set(found) == tickets
        assert {take_apart(record.entry).plain_len > 64_000 for record in found.values()} == {True}


def test_the_second_connection_resumes_the_session(authority: Authority) -> None:
    with (
        TlsUpstream(authority.server_context()) as up,
        tls_world(up, tls=Tls(ca=str(authority.file)), expire_s=0.2) as w,
    ):
        w.ask("a.example.")
        time.sleep(0.6)  # unused for longer than `expire`
        w.ask("b.example.")
        w.wait(lambda: up.handshakes == 2, "the server's side of the second handshake")
        assert up.resumed == 1
        assert w.count("upstream_tls_resumed") == 1


def test_a_connection_reset_with_questions_on_it_costs_no_answer(authority: Authority) -> None:
    def play(asked: Asked) -> Reply:
        if len(up.asked) == 2:
            raise ConnectionError
        return address(asked)

    with (
        TlsUpstream(authority.server_context(), play) as up,
        tls_world(up, tls=Tls(ca=str(authority.file))) as w,
    ):
        w.ask("a.example.")
        w.ask("b.example.")
        assert [asked.qname for asked in up.asked] == ["a.example.", "b.example.", "b.example."]
        assert w.count("upstream_tcp_broken") == 1
        assert up.resumed == 1


@pytest.mark.parametrize("what", ["another authority", "another name", "another address"])
def test_a_server_that_is_not_the_one(
    what: str, authority: Authority, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pair, tls = authority.sign(), Tls(SERVER_NAME, str(authority.file))
    if what == "another authority":
        tls = Tls(SERVER_NAME, str(Authority(tmp_path, "stranger").file))
    elif what == "another name":
        tls = Tls("other.example.test", str(authority.file))
    else:
        pair, tls = authority.sign(address="127.0.0.9"), Tls(ca=str(authority.file))
    with TlsUpstream(authority.server_context(pair)) as up, tls_world(up, tls=tls) as w:
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        assert up.asked == []
        assert w.count("upstream_tls_failed") >= 1
        assert w.count("upstream_tls_handshakes") == 0
        lines = [line for line in capfd.readouterr().err.splitlines() if "its certificate is refused" in line]
        assert len(lines) == 1  # however often it was tried
        assert f"tls://127.0.0.1:{up.port}" in lines[0]


def test_the_next_upstream_answers_for_one_that_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    with (
        TlsUpstream(stranger.server_context()) as bad,
        Upstream() as good,
        tls_world(bad, good, tls=Tls(ca=str(authority.file)), plain_from=1) as w,
    ):
        w.ask("www.example.")
        w.ask("www2.example.")
        assert (len(bad.asked), len(good.asked)) == (0, 2)


def test_nobody_there(authority: Authority, capfd: pytest.CaptureFixture[str]) -> None:
    with tls_world(closed_port(), tls=Tls(ca=str(authority.file))) as w:
        begin = time.monotonic()
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        assert time.monotonic() - begin < 1.0
        assert "no connection: Connection refused" in capfd.readouterr().err


def test_a_server_that_speaks_no_tls(authority: Authority, capfd: pytest.CaptureFixture[str]) -> None:
    """It takes the handshake for a message that has not yet come whole, and waits."""
    with Upstream(udp=False) as up, tls_world(up, tls=Tls(ca=str(authority.file))) as w:
        w.put("www.example.")
        assert w.take(timeout=6.0).kind == FAILURE
        assert up.asked == []
        assert "no connection within the time" in capfd.readouterr().err


def test_a_server_that_is_gone_and_comes_back(authority: Authority) -> None:
    context = authority.server_context()
    port = closed_port()
    with tls_world(port, tls=Tls(ca=str(authority.file))) as w:
        with TlsUpstream(context, port=port):
            w.ask("a.example.")
        assert w.ask_failing("b.example.") == EDE_NETWORK_ERROR
        with TlsUpstream(context, port=port) as back:
            w.ask("c.example.")
            assert back.resumed == 1  # its keys are the context's


def test_our_own_certificate(authority: Authority) -> None:
    ours = authority.sign("client.example.test")
    context = authority.server_context(clients=True)
    tls = Tls(SERVER_NAME, str(authority.file), str(ours.cert), str(ours.key))
    with TlsUpstream(context) as up, tls_world(up, tls=tls) as w:
        w.ask("www.example.")


def test_a_server_that_wants_a_certificate_and_gets_none(
    authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    context = authority.server_context(clients=True)
    with TlsUpstream(context) as up, tls_world(up, tls=Tls(ca=str(authority.file))) as w:
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        assert "certificate required" in capfd.readouterr().err


def test_files_that_are_gone_when_the_coordinator_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Upstream() as good, tls_world(good, good, tls=Tls(ca=str(tmp_path / "no")), plain_from=1) as w:
        w.ask("www.example.")
        assert "its certificate files can't be used" in capfd.readouterr().err


def test_reasons_that_take_turns_are_told_once_each(capfd: pytest.CaptureFixture[str]) -> None:
    """Of two servers behind one address one is down, one has another's certificate."""
    server = Server(("192.0.2.53", 853))
    for _ in range(50):
        server.failed("no connection: Connection refused")
        server.failed("its certificate is refused")
    assert len(capfd.readouterr().err.splitlines()) == 2
    for i in range(50):
        server.failed(f"no connection: {i}")  # whatever there is: what is remembered has its bound
    server.answers()
    server.failed("its certificate is refused")
    assert len(capfd.readouterr().err.splitlines()) == 52
