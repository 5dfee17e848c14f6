# SPDX-License-Identifier: Apache-2.0
"""The peers, and the server that well-behaved tests share. A missing peer is a skip (tests/conftest.py)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import run as peers
from tests.peers.run import Peer
from tests.system.server import Server, serve

HERE = Path(__file__).parent
TIMEOUT_S = 300  # thousands of exchanges between real processes, on a machine that others use too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("system")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def coredns() -> Iterator[Peer]:
    """CoreDNS with the zones of the test cluster."""
    with peers.coredns() as peer:
        yield peer


@pytest.fixture(scope="session")
def nsd() -> Iterator[Peer]:
    """NSD with the external zone."""
    with peers.nsd() as peer:
        yield peer


@pytest.fixture(scope="session")
def shared_server(coredns: Peer) -> Iterator[Server]:
    with serve(coredns.server) as running:
        yield running


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """fastdns before CoreDNS, two workers. No test that uses it may cost a process its life."""
    before = [child["pid"] for child in shared_server.stats().children]
    yield shared_server
    after = [child["pid"] for child in shared_server.stats().children]
    assert after == before, f"a child died in this test:\n{shared_server.said()}"
