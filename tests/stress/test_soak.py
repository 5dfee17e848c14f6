# SPDX-License-Identifier: Apache-2.0
"""What must not grow: memory and descriptors of every process, over load, restarts and connections."""

import re
import socket
import time
from pathlib import Path

import pytest

from fastdns.loadgen.process import run_process
from fastdns.loadgen.spec import LoadSpec
from tests.counts import count
from tests.peers import run as peers
from tests.system.clients import TCP, Client
from tests.system.server import Server, serve

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]

NAME = "nginx-svc.default.svc.cluster.local"
GROWTH_KIB = 1024  # of private memory, for what allocators keep in reserve


def descriptor_count(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def anonymous_kib(pid: int) -> int:
    """Private memory that isn't of a file or a memfd."""
    found = re.search(
        r"^Anonymous: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"), re.MULTILINE
    )
    assert found
    return int(found[1])


def load_for(server: Server, seconds: float) -> None:
    """Misses, hits, connections that come and go."""
    result = run_process(
        LoadSpec(
            server.endpoint, unique_suffix="svc.cluster.local", seconds=seconds / 2, window=64, timeout_s=4.0
        )
    )
    assert result.timeouts == 0, result
    result = run_process(LoadSpec(server.endpoint, names=[(NAME, "A")], seconds=seconds / 4, window=64))
    assert result.timeouts == 0, result
    end = time.monotonic() + seconds / 4
    while time.monotonic() < end:
        with Client(server.endpoint) as client:
            client.ask(NAME, "A", TCP)
        with socket.create_connection(server.endpoint, 2.0) as sock:
            sock.send(b"\0")


def test_nothing_grows_under_load() -> None:
    """The same load once and again: no process has more memory or descriptors after the second time."""
    with peers.coredns() as upstream, serve(upstream.server) as server:
        load_for(server, 8.0)
        server.assert_drained()
        before = {pid: (anonymous_kib(pid), descriptor_count(pid)) for pid in server.pids()}
        load_for(server, count("soak_seconds"))
        server.assert_drained()
        after = {pid: (anonymous_kib(pid), descriptor_count(pid)) for pid in server.pids()}
        assert before.keys() == after.keys(), "a child died"
        for pid, (memory, descriptors) in after.items():
            assert memory <= before[pid][0] + GROWTH_KIB, (before, after)
            # The coordinator's upstream sockets come and go within their bounds.
            assert descriptors <= before[pid][1] + 70, (before, after)
            assert server.pid("coordinator") == pid or descriptors <= before[pid][1] + 1, (before, after)


def test_nothing_grows_over_restarts() -> None:
    """The keeper after many deaths of its children: the same descriptors, the same memory, no zombie."""
    with peers.coredns() as upstream, serve(upstream.server) as server:
        keeper = server.process.pid

        def deaths(rounds: int) -> tuple[int, int]:
            for _ in range(rounds):
                for role in ("control", "coordinator", "worker"):
                    server.kill_child(role)
                    time.sleep(0.35)
            time.sleep(1.0)
            assert len(server.pids()) == 5
            return anonymous_kib(keeper), descriptor_count(keeper)

        first = deaths(3)
        last = deaths(count("child_kills"))
        assert last[0] <= first[0] + GROWTH_KIB, (first, last)
        assert last[1] == first[1], (first, last)
