# SPDX-License-Identifier: Apache-2.0
"""`source_address` of a forward, seen by the upstream: over UDP, TCP, and when an answer is truncated."""

from collections.abc import Iterator, Sequence

import dns.rcode
import pytest

from tests.mock_upstream import MockUpstream, Question, Reply, answer, mock_upstream, truncated
from tests.peers.run import LOOPBACK, free_port
from tests.system.clients import UDP, Client
from tests.system.server import Server, serve

OWN, OTHER = "127.0.0.7", "127.0.0.8"
NOBODYS = "192.0.2.9"  # no address of this machine's


def script(question: Question) -> Sequence[Reply]:
    """An address; for names that begin with large- only over TCP."""
    if question.name.startswith("large-") and not question.tcp:
        return [Reply(truncated(question))]
    return [Reply(answer(question, "192.0.2.1"))]


@pytest.fixture(scope="module")
def upstream() -> Iterator[MockUpstream]:
    with mock_upstream(script) as it:
        yield it


@pytest.fixture(scope="module")
def server(upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same upstream by four forwards."""
    listen = (LOOPBACK, free_port())
    to = f"{upstream.server[0]}:{upstream.server[1]}"
    options = {
        "own.test": f"source_address {OWN}",
        "tcp.test": f"source_address {OTHER}\nforce_tcp",
        "plain.test": "",
        "nobodys.test": f"source_address {NOBODYS}",
    }
    blocks = [
        f"{zone}:{listen[1]} {{\nbind {LOOPBACK}\nerrors\nforward . {to} {{\n{lines}\n}}\n}}\n"
        for zone, lines in options.items()
    ]
    conf = tmp_path_factory.mktemp("source") / "Corefile"
    conf.write_text("".join(blocks))
    with serve([], listen=[listen], conf=conf) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "left_from"),
    [
        ("a.own.test", {(OWN, False)}),
        ("large-a.own.test", {(OWN, False), (OWN, True)}),
        ("a.tcp.test", {(OTHER, True)}),
        ("a.plain.test", {(LOOPBACK, False)}),
    ],
)
def test_questions_leave_from_it(
    server: Server, upstream: MockUpstream, name: str, left_from: set[tuple[str, bool]]
) -> None:
    with Client(server.endpoint) as client:
        assert client.ask(name, "A", UDP).rcode() == dns.rcode.NOERROR
    assert {(one.peer[0], one.tcp) for one in upstream.asked(name)} == left_from


def test_an_address_that_the_node_has_not_got(server: Server, upstream: MockUpstream) -> None:
    """Its forward fails, as if nobody were there; the others go on."""
    with Client(server.endpoint) as client:
        assert client.ask("a.nobodys.test", "A", UDP).rcode() == dns.rcode.SERVFAIL
        assert client.ask("b.own.test", "A", UDP).rcode() == dns.rcode.NOERROR
    assert not upstream.asked("a.nobodys.test")
    server.wait_for(lambda _: "cannot assign requested address" in server.said(), "the line of `errors`")
