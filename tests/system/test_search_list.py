# SPDX-License-Identifier: Apache-2.0
"""A pod under ndots:5, RKE2's Corefile, a real CoreDNS: what its search list costs upstream (pain 6)."""

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from bench import cluster, pods
from bench.pods import Host
from tests.mock_upstream import MockUpstream
from tests.peers.run import Peer

SERVICES = [Host("web.shop", "web.shop.svc.cluster.local", frozenset({"10.43.1.1"}), cluster.TTL_S)]
OUTSIDE = [
    Host(f"{name}.com", f"{name}.com", frozenset({address}), 300)
    for name, address in (("api.vendor", "198.18.0.1"), ("www.other", "198.18.0.2"))
]
SEEN_MAX_S = 5.0  # from CoreDNS's first answer for a service to a pod's


@pytest.fixture
def behind() -> Iterator[cluster.Cluster]:
    with cluster.coredns(SERVICES, os.sched_getaffinity(0)) as running:
        yield running


@pytest.fixture
def outside() -> Iterator[MockUpstream]:
    with cluster.resolver(OUTSIDE, 0.0) as upstream:
        yield upstream


@pytest.fixture
def node(behind: cluster.Cluster, outside: MockUpstream) -> Iterator[Peer]:
    corefile = cluster.rke2(behind.peer.server, outside.server)
    with cluster.node("fastdns", corefile, os.sched_getaffinity(0)) as peer:
        yield peer


def look_up(node: Peer, written: str) -> frozenset[str]:
    found = asyncio.run(pods.look_up(node.server, written))
    assert found.failures == 0
    return found.addresses


def test_one_host_outside_teaches_for_all_of_its_kind(node: Peer, behind: cluster.Cluster) -> None:
    assert look_up(node, "api.vendor.com") == {"198.18.0.1"}
    time.sleep(0.3)  # the looks for the ancestors go on behind the answers
    begin = behind.position()
    assert look_up(node, "www.other.com") == {"198.18.0.2"}
    assert look_up(node, "web.shop") == {"10.43.1.1"}
    time.sleep(0.1)
    asked = {name for _, name, _ in behind.asked(begin, behind.position())}
    assert "web.shop.svc.cluster.local" in asked
    assert not [name for name in asked if name.startswith("www.other.com.")]


def test_a_service_that_appears_is_seen(node: Peer, behind: cluster.Cluster) -> None:
    fresh = Host("web.fresh", "web.fresh.svc.cluster.local", frozenset({"10.43.1.2"}), cluster.TTL_S)
    assert look_up(node, fresh.written) == frozenset()
    behind.add(fresh)
    while not asyncio.run(pods.look_up(behind.peer.server, fresh.name)).addresses:
        time.sleep(0.02)
    there = time.monotonic()
    while not look_up(node, fresh.written):
        assert time.monotonic() < there + SEEN_MAX_S
        time.sleep(0.02)
