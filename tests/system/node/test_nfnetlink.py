# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of its tables and of their changes, beside what nft says of them."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from fastdns.control.node import nfnetlink, nft, rules, watch
from fastdns.control.node.model import NodePlan, Phase
from tests.system.netns import network, skip_without_network_namespaces

pytestmark = skip_without_network_namespaces


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with network() as net, net.entered():
        yield


def run(*words: str, text: str = "") -> str:
    return subprocess.run(["nft", *words], input=text, capture_output=True, text=True, check=True).stdout


def test_tables_are_told_by_age() -> None:
    assert nfnetlink.tables() == []
    wanted = [(family, name) for name in ("b", "c", "a") for family in ("ip", "ip6", "inet", "arp", "bridge")]
    for family, name in wanted:
        run("add", "table", family, name)
    assert sorted(nfnetlink.tables()) == sorted(wanted)
    of_family = [name for family, name in nfnetlink.tables() if family == "ip"]
    assert of_family == ["b", "c", "a"]
    run("-f", "-", text="add table ip b\ndelete table ip b\ntable ip b {}\n")
    assert [name for family, name in nfnetlink.tables() if family == "ip"] == ["c", "a", "b"]
    assert run("list", "tables") == "".join(f"table {one} {name}\n" for one, name in nfnetlink.tables())


def test_there_may_be_more_than_a_datagram_holds() -> None:
    names = [f"t{number:03}{'x' * 60}" for number in range(1000)]
    run("-f", "-", text="".join(f"add table ip {name}\n" for name in names))
    assert nfnetlink.tables() == [("ip", name) for name in names]


@pytest.mark.parametrize("addresses", [("169.254.20.10", "10.43.0.10"), ("fd53::10", "fd43::a")])
def test_what_we_do_ourselves_is_no_loss(addresses: tuple[str, ...]) -> None:
    """Of one family or both, at the start and later: nothing has to be put back for it."""
    plan = NodePlan(addresses)
    serve, drain = (partial(nft.load, plan, phase, True) for phase in (Phase.SERVE, Phase.DRAIN))
    steps: list[Callable[[], None]] = [serve, partial(nft.renew, plan), serve, drain]
    notifications = watch.Notifications()
    try:
        for step in steps:
            step()
            assert notifications.read() in (watch.Change.NONE, watch.Change.SOME)
        nft.remove()
        assert notifications.read() is watch.Change.GONE
    finally:
        notifications.close()


def test_changes_that_are_too_many_may_have_been_ours() -> None:
    """The socket's queue has an end. What is looked at then is all there: nobody says that it had gone."""
    plan = NodePlan(("169.254.20.10", "10.43.0.10"))
    standing = rules.establish(plan, frozenset())
    notifications = watch.Notifications()
    try:
        others = "".join(f"add rule ip others one ip saddr 10.0.0.{n % 256} accept\n" for n in range(5000))
        run("-f", "-", text=f"add table ip others\nadd chain ip others one\n{others}")
        assert notifications.read() is watch.Change.OURS
    finally:
        notifications.close()
    doubted = replace(standing, listing=None)
    assert not rules.check(plan, doubted, frozenset(), False).restored
    run("delete", "chain", "ip", "fastdns", "notrack-prerouting")
    after = rules.check(plan, doubted, frozenset(), False)
    assert (after.restored, after.listing) == (True, standing.listing) == (True, nft.listing(plan))
