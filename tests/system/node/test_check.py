# SPDX-License-Identifier: Apache-2.0
"""`fastdns check --node` on nodes of several kinds."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.netns import skip_without_network_namespaces
from tests.system.node.lab import LINK_LOCAL, SERVICE, Lab, execute, kube_proxy, lab, serving

pytestmark = skip_without_network_namespaces

FIREWALLD = """table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority 10; policy accept;
        iifname "lo" accept
        ct state established,related accept
        tcp dport 22 accept
        reject
    }
}
"""


@pytest.fixture
def node() -> Iterator[Lab]:
    with lab() as one:
        yield one


def check(node: Lab) -> dict[str, Any]:
    command = [
        "ip",
        "netns",
        "exec",
        node.node.name,
        sys.executable,
        "-m",
        "fastdns",
        "check",
        "--node",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    addresses = report["addresses"].values()
    well = addresses and all(one["reach"] == "yes" and one["falls_back"] for one in addresses)
    assert done.returncode == (0 if well else 1)
    return report


def test_a_node_where_all_is_well(node: Lab) -> None:
    kube_proxy(node, "iptables-nft")
    with serving(node) as server:
        report = check(node)
        server.wait_for_words("node: kube-proxy iptables-nft")
        text = execute(node.node, sys.executable, "-m", "fastdns", "check", "--node")
    assert (report["kube_proxy"], report["nft_table"], report["left_overs"]) == ("iptables-nft", True, [])
    assert set(report["addresses"]) == {*LINK_LOCAL.values(), *SERVICE.values()}
    for one in report["addresses"].values():
        assert (one["on_node"], one["served"]) == ("nodelocaldns, for 2 s at a time", True)
        assert (one["reach"], one["falls_back"]) == ("yes", True)
    assert next(one["host"] for one in report["iptables"] if one["backend"] == "nft") is True
    assert "kube-proxy    iptables-nft" in text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["iptables-legacy", "nft"])
def test_kube_proxys_other_forms(node: Lab, mode: str) -> None:
    kube_proxy(node, mode)
    assert check(node)["kube_proxy"] == mode


def test_what_node_cache_leaves_when_it_is_killed(node: Lab) -> None:
    kube_proxy(node, "iptables-nft")
    node.run("iptables-nft", "-P", "INPUT", "DROP")
    node.run("ip", "link", "add", "nodelocaldns", "type", "bridge")
    node.run("ip", "address", "add", f"{LINK_LOCAL[4]}/32", "dev", "nodelocaldns")
    skip = ["-m", "comment", "--comment", "NodeLocal DNS Cache: skip conntrack"]
    for protocol in ("tcp", "udp"):
        node.run("iptables-nft", "-t", "raw", "-I", "PREROUTING", "-p", protocol, "-d", LINK_LOCAL[4],
                 "--dport", "53", "-j", "NOTRACK", *skip)  # fmt: skip
    report = check(node)
    one = report["addresses"][LINK_LOCAL[4]]
    assert len(report["left_overs"]) == 2
    assert not one["served"]
    assert "for good" in one["on_node"]
    assert one["reach"] == "dropped by nft's INPUT (policy DROP), where no rule accepts them"
    assert "stays with nobody behind it" in one["when_we_die"]


def test_a_foreign_table_that_drops_is_named(node: Lab) -> None:
    kube_proxy(node, "nft")
    node.run("nft", "-f", "-", text=FIREWALLD)
    with serving(node) as server:
        report = check(node)
        server.wait_for_words("foreign nft chains that may drop: inet firewalld filter_INPUT")
    assert report["foreign_tables_that_drop"] == ["inet firewalld filter_INPUT"]
    assert all(
        one["reach"].startswith("may be dropped by inet firewalld") for one in report["addresses"].values()
    )


def test_a_data_path_that_translates_before_us(node: Lab) -> None:
    node.run("ip", "link", "add", "cilium_host", "type", "bridge")
    node.run("ip", "link", "add", "nodelocaldns", "type", "bridge")
    for address in (LINK_LOCAL[4], SERVICE[4]):
        node.run(
            "ip",
            "address",
            "add",
            f"{address}/32",
            "dev",
            "nodelocaldns",
            "valid_lft",
            "60",
            "preferred_lft",
            "60",
        )
    report = check(node)
    assert (report["cni"], report["kube_proxy"]) == ("cilium", "none")
    assert "may never get here" in report["addresses"][SERVICE[4]]["reach"]
    assert report["addresses"][LINK_LOCAL[4]]["reach"] == "yes"
    assert not report["addresses"][SERVICE[4]]["falls_back"]


def test_a_machine_without_any_of_it(node: Lab) -> None:
    report = check(node)
    assert (report["addresses"], report["kube_proxy"], report["nft_table"]) == ({}, "none", False)
