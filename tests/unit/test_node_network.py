# SPDX-License-Identifier: Apache-2.0
"""control/node/network: what is done when something fails; the node and the keeper are the test's."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable

import pytest

from fastdns.control.node import network as module
from fastdns.control.node import watch
from fastdns.control.node.model import ErrorType, Link, Mode, NodeError, NodePlan, Standing
from fastdns.control.node.network import NodeNetwork
from fastdns.protocol import Address

PLAN = NodePlan(("169.254.20.10", "10.43.0.10"))
WHOLE = Standing(Mode.AUTO, fallback=True, listing="tables")
INDEX = 7  # of the interface


class Keeper:
    """Which addresses it renews, and on which interface."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    async def keep_address(self, address: Address) -> None:
        self.kept[address.address] = address.interface

    async def forget_address(self, address: Address, leave: bool = False) -> None:
        self.kept.pop(address.address, None)

    async def exit_after(self, milliseconds: int) -> None: ...


class Node:
    """What each job finds or does, by its name; what was asked, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.index = INDEX
        self.jobs: dict[str, Callable[[], object]] = {
            "establish": lambda: WHOLE,
            "check_rules": lambda: WHOLE,
            "ensure_link": lambda: Link(self.index, "nodelocaldns", "dummy", False),
            "held": list,
            "foreign_listeners": frozenset,
            "self_test": str,
            "examine": str,
        }
        monkeypatch.setattr(module, "offload", self.offload)
        monkeypatch.setattr(module, "_index_of", lambda name: self.index)
        monkeypatch.setattr(watch, "Notifications", self.no_notifications)
        for name in ("_LOOK_S", "_RETRY_S"):
            monkeypatch.setattr(module, name, 0.01)

    async def offload(self, job: Callable[..., object], *arguments: object, keep: object = ()) -> object:
        self.asked.append(job.__name__)
        await asyncio.sleep(0)
        return self.jobs[job.__name__]()

    def no_notifications(self) -> None:
        raise OSError(1, "none")

    def fails(self, name: str, times: int) -> None:
        """The next so many of these jobs fail."""
        works, turns = self.jobs[name], itertools.count()

        def job() -> object:
            if next(turns) < times:
                raise NodeError(ErrorType.IPTABLES_LOCK, "somebody has the lock")
            return works()

        self.jobs[name] = job


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def tend(network: NodeNetwork, until: Callable[[], bool], kept: int = 0) -> None:
    """Start, and look after the node until something is so."""

    async def run() -> None:
        await network.start(kept)
        task = asyncio.create_task(network.tend())
        try:
            async with asyncio.timeout(5.0):
                while not until():  # noqa: ASYNC110 - a condition of the test's own world
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_a_look_that_failed_is_repeated_soon(node: Node) -> None:
    """A minute would be long: the start of a later life may have met a lock."""
    node.fails("establish", 2)
    network = NodeNetwork(PLAN, keeper := Keeper(), ())
    tend(network, lambda: network.state.rules == "nft" and len(keeper.kept) == 2, kept=2)
    assert node.asked.count("establish") == 3
    assert network.state.errors[ErrorType.IPTABLES_LOCK] == 2


def test_what_fails_all_the_time_is_not_tried_all_the_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FULL_S", 0.64)
    node.fails("establish", 1000)
    network = NodeNetwork(PLAN, Keeper(), ())
    began = time.monotonic()
    tend(network, lambda: node.asked.count("establish") == 8, kept=2)
    assert time.monotonic() - began > 0.5, "0.01 s, 0.02, 0.04 and so on"


@pytest.mark.parametrize("first", [Standing(Mode.IPTABLES), Standing(Mode.AUTO, listing="tables")])
def test_what_nft_could_not_do_is_tried_again(
    node: Node, monkeypatch: pytest.MonkeyPatch, first: Standing
) -> None:
    """A time-out under load, and the node would be without a fallback for good."""
    monkeypatch.setattr(module, "_FULL_S", 0.01)
    found = iter((first, first, WHOLE))
    node.jobs["establish"] = lambda: next(found)
    network = NodeNetwork(PLAN, Keeper(), ())
    tend(network, lambda: "check_rules" in node.asked)
    assert node.asked.count("establish") == 3
    assert (network.state.rules, network.state.fallback) == ("nft", True)


@pytest.mark.parametrize(
    ("plan", "standing"),
    [
        (NodePlan(PLAN.addresses, mode=Mode.IPTABLES), Standing(Mode.IPTABLES)),
        (NodePlan(("10.43.0.10",)), Standing(Mode.AUTO)),
    ],
)
def test_what_the_plan_does_not_ask_for_is_not_tried(
    node: Node, monkeypatch: pytest.MonkeyPatch, plan: NodePlan, standing: Standing
) -> None:
    monkeypatch.setattr(module, "_FULL_S", 0.01)
    node.jobs["establish"] = node.jobs["check_rules"] = lambda: standing
    tend(NodeNetwork(plan, Keeper(), ()), lambda: node.asked.count("check_rules") == 3)
    assert node.asked.count("establish") == 1


def test_an_interface_without_its_addresses_is_not_there_yet(node: Node) -> None:
    network = NodeNetwork(PLAN, keeper := Keeper(), ())

    def vanish() -> bool:
        if node.index == INDEX and set(keeper.kept.values()) == {INDEX}:
            node.index += 1
            node.fails("held", 2)
        return set(keeper.kept.values()) == {INDEX + 1}

    tend(network, vanish)
    assert node.asked.count("held") >= 4
