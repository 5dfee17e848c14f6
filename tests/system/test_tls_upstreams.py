# SPDX-License-Identifier: Apache-2.0
"""A real server behind TLS: Unbound, in front of CoreDNS, and what clients see of it."""

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.certificates import SERVER_NAME, Authority
from tests.peers import run as peers
from tests.peers.run import LOOPBACK, Peer, free_port
from tests.system.clients import UDP, Client
from tests.system.server import Server, serve
from tests.system.test_same_answers import CLUSTER_ZONES, all_questions

pytestmark = pytest.mark.skipif(not peers.is_available("unbound"), reason="needs unbound")

QUESTIONS = all_questions(CLUSTER_ZONES)[::40]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def coredns() -> Iterator[Peer]:
    with peers.coredns() as peer:
        yield peer


@pytest.fixture(scope="module")
def unbound(coredns: Peer, authority: Authority) -> Iterator[tuple[Peer, int]]:
    """Unbound, and its port for TLS."""
    port = free_port()
    with peers.unbound(coredns.server, tls=peers.Tls(port, *authority.sign())) as peer:
        yield peer, port


@contextlib.contextmanager
def forwarding(directory: Path, to: str, options: str = "") -> Iterator[Server]:
    """fastdns with a Corefile that forwards everything, without a cache."""
    port = free_port()
    conf = directory / f"Corefile.{port}"
    conf.write_text(f".:{port} {{\nbind {LOOPBACK}\nerrors\nforward . {to} {{\n{options}\n}}\n}}\n")
    with serve((LOOPBACK, 1), listen=[(LOOPBACK, port)], conf=conf) as server:
        yield server


def records(response: dns.message.Message) -> tuple[int, list[list[str]]]:
    """Rcode and the records of each section, less their TTLs and order."""
    return response.rcode(), [
        sorted(f"{one.name.to_text().lower()} {one.rdtype} {data}" for one in section for data in one)
        for section in (response.answer, response.authority, response.additional)
    ]


def test_same_answers_as_over_tcp(unbound: tuple[Peer, int], authority: Authority, tmp_path: Path) -> None:
    peer, port = unbound
    with (
        forwarding(tmp_path, f"tls://{LOOPBACK}:{port}%{SERVER_NAME}", f"tls {authority.file}") as encrypted,
        forwarding(tmp_path, f"{LOOPBACK}:{peer.port}", "force_tcp") as plain,
        Client(encrypted.endpoint) as ours,
        Client(plain.endpoint) as theirs,
    ):
        for name, rdtype in QUESTIONS:
            asked = ours.ask_fully(name, rdtype), theirs.ask_fully(name, rdtype)
            assert records(asked[0]) == records(asked[1]), f"{name} {rdtype}"
        assert encrypted.stats().counter("upstream_tls_handshakes") <= 2
        assert encrypted.stats().counter("upstream_udp") == 0


def test_a_thousand_misses_at_once(unbound: tuple[Peer, int], authority: Authority, tmp_path: Path) -> None:
    with (
        forwarding(tmp_path, f"tls://{LOOPBACK}:{unbound[1]}", f"tls {authority.file}") as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.settimeout(5)
        sock.connect(server.endpoint)
        for number in range(1000):
            query = dns.message.make_query(f"{secrets.token_hex(6)}.default.svc.cluster.local", "A")
            query.id = number
            sock.send(query.to_wire())
        answered: dict[int, dns.rcode.Rcode] = {}
        while len(answered) < 1000:
            message = dns.message.from_wire(sock.recv(4096))
            answered[message.id] = message.rcode()
        assert set(answered.values()) == {dns.rcode.NXDOMAIN}
        assert server.stats().counter("upstream_tls_handshakes") <= 2


def test_a_certificate_that_is_refused(
    unbound: tuple[Peer, int], authority: Authority, tmp_path: Path
) -> None:
    to = f"tls://{LOOPBACK}:{unbound[1]}%other.example.test"
    with forwarding(tmp_path, to, f"tls {authority.file}") as server, Client(server.endpoint) as client:
        began = time.monotonic()
        assert client.ask("kubernetes.default.svc.cluster.local", "A", UDP).rcode() == dns.rcode.SERVFAIL
        assert time.monotonic() - began < 2
        assert server.stats().counter("upstream_tls_failed") > 0
        server.wait_for(lambda _: "failed to verify" in server.said(), "the line of `errors`")
        assert f"upstream {to}: its certificate is refused: " in server.said()
        assert "A: tls: failed to verify certificate" in server.said()


def test_the_server_goes_and_comes_back(coredns: Peer, authority: Authority, tmp_path: Path) -> None:
    port = free_port()
    tls = peers.Tls(port, *authority.sign())
    with (
        forwarding(tmp_path, f"tls://{LOOPBACK}:{port}", f"tls {authority.file}") as server,
        Client(server.endpoint) as client,
    ):
        name = "kubernetes.default.svc.cluster.local"
        for _ in range(2):
            with peers.unbound(coredns.server, tls=tls):
                assert client.ask(name, "A", UDP).rcode() == dns.rcode.NOERROR
            assert client.ask(name, "A", UDP).rcode() == dns.rcode.SERVFAIL


def test_a_renewed_authority_is_taken_up(coredns: Peer, tmp_path: Path) -> None:
    """The files are looked at on their own; a signal has them looked at now."""
    stranger, authority = Authority(tmp_path, "stranger"), Authority(tmp_path, "own")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(stranger.file.read_bytes())
    port = free_port()
    with (
        peers.unbound(coredns.server, tls=peers.Tls(port, *authority.sign())),
        forwarding(tmp_path, f"tls://{LOOPBACK}:{port}", f"tls {trusted}") as server,
        Client(server.endpoint) as client,
    ):
        name = "kubernetes.default.svc.cluster.local"
        assert client.ask(name, "A", UDP).rcode() == dns.rcode.SERVFAIL
        trusted.write_bytes(authority.file.read_bytes())
        server.process.send_signal(1)
        server.wait_for(lambda _: "Reloading complete" in server.said(), "a reload", 20)
        assert client.ask(name, "A", UDP).rcode() == dns.rcode.NOERROR
