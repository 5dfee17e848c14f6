# SPDX-License-Identifier: Apache-2.0
"""Pods and host processes reach fastdns on both addresses, and CoreDNS when it is gone (node-network.md, 11).

kube-proxy in three forms x INPUT's policy x client x address x UDP, TCP x IPv4, IPv6. IPVS was not
tried: this kernel has none.
"""

import itertools
from collections.abc import Iterator

import pytest

from tests.system.netns import skip_without_network_namespaces
from tests.system.node.lab import (
    DIRECT,
    FASTDNS,
    KUBE_PROXY_MODES,
    LINK_LOCAL,
    SERVICE,
    Lab,
    kube_proxy,
    lab,
    serving,
)

pytestmark = skip_without_network_namespaces

ADDRESSES = (*LINK_LOCAL.values(), *SERVICE.values())
CLIENTS = tuple(itertools.product(("pod", "host"), ADDRESSES, (False, True)))


SLOW_MODES = [pytest.param(mode, marks=pytest.mark.slow) for mode in KUBE_PROXY_MODES[1:]]


@pytest.fixture(params=[KUBE_PROXY_MODES[0], *SLOW_MODES])
def node(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with lab() as one:
        kube_proxy(one, request.param)
        yield one


def drop_input(node: Lab, mode: str) -> None:
    """INPUT drops all but what comes in by lo or belongs to a connection, as hardened images have it."""
    for program in (mode, mode.replace("iptables", "ip6tables")):
        node.run(program, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
        if "6" in program:
            node.run(program, "-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT")
        node.run(
            program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"
        )
        node.run(program, "-P", "INPUT", "DROP")


def everybody(node: Lab) -> dict[str, str]:
    return {
        f"{where} {address} {'tcp' if tcp else 'udp'}": node.ask(where, address, tcp)
        for where, address, tcp in CLIENTS
    }


def all_reach(node: Lab, who: str) -> None:
    answers = everybody(node)
    wrong = {client: found for client, found in answers.items() if found != who}
    assert not wrong, f"expected {who}: {wrong}"


def test_served_killed_and_served_again(node: Lab) -> None:
    kept = [node.asker("pod", address) for address in ADDRESSES]
    with serving(node) as server:
        all_reach(node, FASTDNS)
        assert [one.ask() for one in kept] == [FASTDNS] * len(kept)
        server.kill()
    for address in ADDRESSES:
        node.wait_for(DIRECT, "pod", address)
    assert node.addresses() == []
    all_reach(node, DIRECT)
    # A socket that was kept open is no exception: nothing of its flow is left in conntrack.
    assert [one.ask() for one in kept] == [DIRECT] * len(kept)
    with serving(node):
        all_reach(node, FASTDNS)
        assert [one.ask() for one in kept] == [FASTDNS] * len(kept)
    for one in kept:
        one.close()


@pytest.mark.parametrize("backend", ["iptables-nft", pytest.param("iptables-legacy", marks=pytest.mark.slow)])
def test_input_drops(node: Lab, backend: str) -> None:
    drop_input(node, backend)
    with serving(node) as server:
        all_reach(node, FASTDNS)
        server.terminate()
    assert "NodeLocal DNS Cache" not in node.run(backend, "-S"), "gone after the end"
    all_reach(node, DIRECT)


@pytest.mark.parametrize("backend", ["iptables-nft", pytest.param("iptables-legacy", marks=pytest.mark.slow)])
def test_a_chain_that_drops_is_jumped_to_from_input(backend: str) -> None:
    with lab() as node:
        kube_proxy(node, "iptables-nft")
        for program in (backend, backend.replace("iptables", "ip6tables")):
            node.run(program, "-N", "cali-INPUT")
            node.run(program, "-A", "cali-INPUT", "-p", "udp", "-j", "DROP")
            node.run(program, "-A", "cali-INPUT", "-p", "tcp", "-j", "DROP")
            node.run(program, "-I", "INPUT", "-i", "pod0", "-j", "cali-INPUT")
        with serving(node):
            all_reach(node, FASTDNS)
