# SPDX-License-Identifier: Apache-2.0
"""An upstream that the Corefile has by its name: asked for at the start, and at each reload."""

import signal
from collections.abc import Sequence
from pathlib import Path

import dns.rcode

from tests.mock_upstream import MockUpstream, Question, Reply, answer, mock_upstream
from tests.peers.run import LOOPBACK, free_port
from tests.system.clients import UDP, Client
from tests.system.server import serve

FIRST, SECOND = "127.0.0.7", "127.0.0.8"


def test_an_upstream_by_its_name(tmp_path: Path) -> None:
    where = FIRST

    def resolve(question: Question) -> Sequence[Reply]:
        return [Reply(answer(question, where if question.rdtype.name == "A" else "::1"))]

    def told(question: Question) -> Sequence[Reply]:
        return [Reply(answer(question, "192.0.2.1"))]

    def asked_by(upstream: MockUpstream) -> bool:
        with Client(listen) as client:
            assert client.ask("www.example.test", "A", UDP).rcode() == dns.rcode.NOERROR
        return bool(upstream.asked("www.example.test"))

    listen = (LOOPBACK, free_port())
    conf = tmp_path / "Corefile"
    with (
        mock_upstream(resolve) as resolver,
        mock_upstream(told, FIRST) as first,
        mock_upstream(told, SECOND, first.server[1]) as second,
    ):
        to = f"dns.example:{first.server[1]}"
        options = f"resolver {LOOPBACK}:{resolver.server[1]}\nsource_address {LOOPBACK}"
        conf.write_text(f".:{listen[1]} {{\nbind {LOOPBACK}\nerrors\nforward . {to} {{\n{options}\n}}\n}}\n")
        with serve([], listen=[listen], conf=conf) as server:
            assert asked_by(first)
            assert not second.asked("www.example.test")
            where = SECOND
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for(lambda _: "Reloading complete" in server.said(), "the end of the reload")
            assert asked_by(second)
