# SPDX-License-Identifier: Apache-2.0
"""`fastdns stats`: what it says is what happened."""

import json
import os
import signal
import subprocess
from typing import Any

from tests.peers.run import Peer
from tests.system.clients import TCP, UDP, Client
from tests.system.server import FASTDNS, Server, default_environment, refusal, serve

NAME = "nginx-svc.default.svc.cluster.local"


def fastdns_stats(server: Server, *arguments: str) -> str:
    done = subprocess.run(
        [*FASTDNS, "stats", "--pid", str(server.process.pid), *arguments],
        capture_output=True,
        text=True,
        env=default_environment(),
        timeout=10,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stats_json(server: Server) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(fastdns_stats(server, "--json"))
    return document


def test_counts_questions_and_restarts(coredns: Peer) -> None:
    """Hits and misses by worker, the restart of a killed child, and why it died; then the same as text."""
    with serve(coredns.server) as server:
        with Client(server.endpoint) as client:
            for variant in (UDP, UDP, TCP, TCP):
                client.ask(NAME, "A", variant)
        document = stats_json(server)
        counters = [worker["counters"] for worker in document["workers"]]
        assert sum(block["hits"] for block in counters) == 3
        assert sum(block["misses"] for block in counters) == 1
        assert sum(block["replies_tcp"] for block in counters) == 2
        assert document["coordinator"]["counters"]["stores"] == 1
        assert not any(child["restarts"] for child in document["children"])
        killed = server.kill_child("worker", 1)
        document = stats_json(server)
        rows = {(child["role"], child["index"]): child for child in document["children"]}
        assert rows["worker", 1]["restarts"] == 1
        assert rows["worker", 1]["pid"] == killed["pid"]
        assert [child["restarts"] for child in document["children"]].count(0) == 3
        text = fastdns_stats(server)
        for word in ("worker 0", "worker 1", "coordinator", "control", "answered from the cache at once"):
            assert word in text


def test_works_while_control_is_dead(coredns: Peer) -> None:
    """The figures are read from shared memory: a control that stands still is not asked."""
    with serve(coredns.server) as server:
        control = server.pid("control")
        os.kill(control, signal.SIGSTOP)
        try:
            assert {child["pid"] for child in stats_json(server)["children"]} >= {control}
        finally:
            os.kill(control, signal.SIGCONT)


def test_of_nobody() -> None:
    """--pid of a process that is no fastdns: an exit code and one line."""
    with subprocess.Popen(["sleep", "30"]) as other:
        try:
            code, said = refusal([], command=["stats", "--json", "--pid", str(other.pid)])
        finally:
            other.kill()
    assert code != 0
    assert len(said.strip().splitlines()) == 1, said
