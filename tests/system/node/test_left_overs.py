# SPDX-License-Identifier: Apache-2.0
"""fastdns on what the real node-cache left, and node-cache on what fastdns left.

This kernel has no dummy interface, which is the only kind that node-cache makes, so a bridge of that name is
there before it; it uses what it finds.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.run import find_program
from tests.system.netns import skip_without_network_namespaces
from tests.system.node.lab import (
    DIRECT,
    FASTDNS,
    LINK_LOCAL,
    SERVICE,
    UPSTREAM,
    Lab,
    kube_proxy,
    lab,
    serving,
)

pytestmark = skip_without_network_namespaces

ADDRESSES = (LINK_LOCAL[4], SERVICE[4])
RULES = 24  # twelve for each address; corefile.md 6.5
FOREVER = "valid_lft forever"


@pytest.fixture
def node() -> Iterator[Lab]:
    with lab() as one:
        kube_proxy(one, "iptables-nft")
        one.run("ip", "link", "add", "nodelocaldns", "type", "bridge")
        yield one


@contextlib.contextmanager
def node_cache(node: Lab, directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """node-cache on the node, all of its rules there. Killed at the end: it tidies nothing up."""
    base = directory / "base"
    base.mkdir(exist_ok=True)
    (base / "Corefile.base").write_text(
        f".:53 {{\n    errors\n    bind {' '.join(ADDRESSES)}\n    forward . {UPSTREAM[4]}\n}}\n",
        encoding="ascii",
    )
    command = [
        "ip", "netns", "exec", node.node.name, find_program("node-cache"), "-localip", ",".join(ADDRESSES),
        "-basecorefile", str(base / "Corefile.base"), "-conf", str(directory / "Corefile"),
        "-pidfile", str(directory / "pid"), "-metrics-listen-address", "127.0.0.1:9353",
    ]  # fmt: skip
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while left_rules(node) < RULES:
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def left_rules(node: Lab) -> int:
    return sum(
        node.run("iptables-nft", "-t", table, "-S").count("NodeLocal DNS Cache")
        for table in ("raw", "filter")
    )


def lifetimes(node: Lab) -> str:
    return node.run("ip", "-4", "address", "show", "dev", "nodelocaldns")


def test_fastdns_takes_over_what_node_cache_left(node: Lab, tmp_path: Path) -> None:
    with node_cache(node, tmp_path):
        assert node.ask("pod", LINK_LOCAL[4]) == FASTDNS  # by way of the same upstream
    assert (left_rules(node), lifetimes(node).count(FOREVER)) == (RULES, 2)
    with serving(node) as server:
        assert left_rules(node) == 0, "nothing drops here, so not even the ACCEPT rules stay"
        assert FOREVER not in lifetimes(node)
        assert "were left over" in server.said()
        for address in ADDRESSES:
            assert node.ask("pod", address) == node.ask("pod", address, tcp=True) == FASTDNS
        server.kill()
    for address in ADDRESSES:
        node.wait_for(DIRECT, "pod", address)


def test_its_accept_rules_are_kept_where_they_are_needed(node: Lab, tmp_path: Path) -> None:
    node.run("iptables-nft", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    node.run(
        "iptables-nft", "-A", "INPUT", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"
    )
    node.run("iptables-nft", "-P", "INPUT", "DROP")
    with node_cache(node, tmp_path):
        pass
    with serving(node) as server:
        assert left_rules(node) == 8
        assert "Added back nodelocaldns rule - {filter" not in server.said(), "they were there all the time"
        assert node.ask("pod", LINK_LOCAL[4]) == FASTDNS


@pytest.mark.slow
def test_node_cache_works_on_what_fastdns_left(node: Lab, tmp_path: Path) -> None:
    with serving(node) as server:
        server.kill()
    with node_cache(node, tmp_path) as process:
        for address in ADDRESSES:
            node.wait_for(FASTDNS, "pod", address)  # by way of the same upstream
            assert node.ask("pod", address, tcp=True) == FASTDNS
        assert "notrack" in node.run("nft", "list", "table", "ip", "fastdns"), (
            "tied to the address, so it may stay"
        )
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    for address in ADDRESSES:
        node.wait_for(DIRECT, "pod", address)
    assert left_rules(node) == 0


def test_both_at_once_as_in_a_rolling_update(node: Lab, tmp_path: Path) -> None:
    """node-cache still listens when fastdns comes: its address keeps its lifetime, and it goes on serving."""
    with node_cache(node, tmp_path), serving(node) as server:
        assert lifetimes(node).count(FOREVER) == 2
        assert left_rules(node) == RULES
        os.kill(server.pid("keeper"), signal.SIGTERM)
        assert server.process.wait(15) == 0, server.said()
        assert lifetimes(node).count(FOREVER) == 2
        assert left_rules(node) == RULES
        for address in ADDRESSES:
            assert node.ask("pod", address) == FASTDNS
