# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of its tables, beside what nft says of them."""

import subprocess
from collections.abc import Iterator

import pytest

from fastdns.control.node import nfnetlink
from tests.system.netns import network, skip_without_network_namespaces

pytestmark = skip_without_network_namespaces


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with network() as net, net.entered():
        yield


def nft(*words: str, text: str = "") -> str:
    return subprocess.run(["nft", *words], input=text, capture_output=True, text=True, check=True).stdout


def test_tables_are_told_by_age() -> None:
    assert nfnetlink.tables() == []
    wanted = [(family, name) for name in ("b", "c", "a") for family in ("ip", "ip6", "inet", "arp", "bridge")]
    for family, name in wanted:
        nft("add", "table", family, name)
    assert sorted(nfnetlink.tables()) == sorted(wanted)
    of_family = [name for family, name in nfnetlink.tables() if family == "ip"]
    assert of_family == ["b", "c", "a"]
    nft("-f", "-", text="add table ip b\ndelete table ip b\ntable ip b {}\n")
    assert [name for family, name in nfnetlink.tables() if family == "ip"] == ["c", "a", "b"]
    assert [f"table {family} {name}" for family, name in nfnetlink.tables()] == nft("list", "tables").split(
        "\n"
    )[:-1]


def test_there_may_be_more_than_a_datagram_holds() -> None:
    names = [f"t{number:03}{'x' * 60}" for number in range(1000)]
    nft("-f", "-", text="".join(f"add table ip {name}\n" for name in names))
    assert nfnetlink.tables() == [("ip", name) for name in names]
