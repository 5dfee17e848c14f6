# SPDX-License-Identifier: Apache-2.0
"""fastdns whose control does what a node needs and nothing else: `python -m tests.system.node.server JSON`.

Keeper, coordinator and workers are the real ones; control opens the sockets, starts them, and hands
the rest to NodeNetwork. SIGTERM to control runs the steps of the end, then stops the keeper.
"""

import asyncio
import json
import os
import signal
import sys
from typing import NoReturn

from fastdns import child
from fastdns._stats import read_board
from fastdns.control.addresses import parse_endpoint
from fastdns.control.link import KeeperLink
from fastdns.control.load import Loaded, make_config
from fastdns.control.model import NodeOptions, Options, Upstream
from fastdns.control.node.model import Mode, NodePlan
from fastdns.control.node.network import NodeNetwork, TearDown
from fastdns.control.segments import Segments
from fastdns.control.setup import set_up
from fastdns.coordinator import process as coordinator
from fastdns.keeper import process as keeper
from fastdns.worker import process as worker

PENDING_S = 1.0  # between the two steps of the end: what is pending is answered


def control(channel: int) -> NoReturn:
    child.begin("fastdns: control", {channel}, 0, 0)
    link = KeeperLink(channel)
    wanted = json.loads(sys.argv[1])
    wanted["mode"] = Mode(wanted.get("mode", "auto"))
    wanted["addresses"] = tuple(wanted["addresses"])
    upstream = wanted.pop("upstream")
    plan = NodePlan(**wanted)
    state, segments = link.state()
    if not state.started:
        listen = tuple(parse_endpoint(f"[{one}]:53" if ":" in one else one) for one in plan.addresses)
        node = NodeOptions(plan.addresses)  # its addresses come later
        options = Options(listen, (Upstream(parse_endpoint(upstream)),), workers=2, node=node)
        set_up(link, options, Loaded(make_config(options)))
        _, segments = link.state()
    held = Segments.of(segments)
    asyncio.run(live(link, NodeNetwork(plan, link, held.regions), read_board(held.board)["addresses"]))
    os._exit(0)


async def live(link: KeeperLink, network: NodeNetwork, kept: int) -> None:
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    beats = asyncio.create_task(beat(link))
    await network.start(kept)
    tending = asyncio.create_task(network.tend())
    await ending.wait()
    tending.cancel()
    await network.tear_down(TearDown.DRAIN)
    await asyncio.sleep(PENDING_S)
    await network.tear_down(TearDown.REMOVE)
    beats.cancel()
    link.stop()
    await asyncio.sleep(30)  # until the keeper has us leave


async def beat(link: KeeperLink) -> None:
    while True:
        link.beat()
        await asyncio.sleep(1)


if __name__ == "__main__":
    sys.exit(keeper.run(keeper.Entries(control=control, coordinator=coordinator.main, worker=worker.main)))
