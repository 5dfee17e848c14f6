# SPDX-License-Identifier: Apache-2.0
"""The node's network as one of control's tasks: what node-cache's flags and the Corefile want of it."""

import os
from collections.abc import Callable, Sequence

from fastdns.control.addresses import Endpoint
from fastdns.control.config.template import find_service
from fastdns.control.lean_asyncio import asyncio
from fastdns.control.link import KeeperLink
from fastdns.control.load import Loaded
from fastdns.control.model import NodeOptions, Options
from fastdns.control.node.model import LINGER_S, Mode, NodePlan
from fastdns.control.node.network import NodeNetwork, TearDown
from fastdns.control.observe.names import Facts

_COUNT_S = 1.0


def node_plan(node: NodeOptions, options: Options, loaded: Loaded) -> NodePlan:
    """What the flags and the ``fastdns`` block ask for."""
    service = find_service(node.upstream_service, os.environ)
    mode, linger_s = Mode.AUTO, LINGER_S
    if loaded.corefile is not None:
        mode = Mode(loaded.corefile.settings.packet_filter)
        linger_s = int(loaded.corefile.settings.fallback_linger_s)
    return NodePlan(
        addresses=node.local_ips,
        cluster_dns=() if service is None else (service,),
        port=options.dns_port,
        health_port=node.health_port,
        interface=node.interface,
        setup_interface=node.setup_interface,
        mode=mode if node.setup_iptables else Mode.NONE,
        skip_teardown=node.skip_teardown,
        linger_s=linger_s,
    )


class OnNode:
    """Set-up, care and tear-down of the node's network; what is shown of it goes to the observer."""

    def __init__(
        self,
        plan: NodePlan,
        link: KeeperLink,
        regions: Sequence[int],
        listeners: Sequence[Endpoint],
        count: Callable[[str], None],
        facts: Facts,
    ) -> None:
        self._network = NodeNetwork(plan, link, regions, listeners)
        self._count = count
        self._facts = facts
        self._counted: dict[str, int] = {}

    async def start(self, kept: int) -> bool:
        """kept: addresses that the keeper renews already. Returns whether all is there."""
        try:
            return await self._network.start(kept)
        finally:
            self._show()

    async def tend(self) -> None:
        """Look after it until cancelled; nothing of it goes on when this ends."""
        task = asyncio.create_task(self._network.tend())
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=_COUNT_S)
                self._show()
            await task
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def drain(self) -> None:
        """The first step of the end: new questions go elsewhere."""
        await self._network.tear_down(TearDown.DRAIN)

    async def remove(self) -> None:
        """The last one: nobody waits for an answer any more."""
        await self._network.tear_down(TearDown.REMOVE)

    def _show(self) -> None:
        self._facts.fallbacks = self._network.fallbacks()
        for kind, total in self._network.state.errors.items():
            for _ in range(total - self._counted.get(kind, 0)):
                self._count(f"setup_errors_{kind}")
            self._counted[kind] = total
