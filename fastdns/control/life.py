# SPDX-License-Identifier: Apache-2.0
"""What control does while the server runs: one task each, and the end."""

import contextlib
import gc
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdns import log
from fastdns._process import trim_memory
from fastdns._stats import read_board
from fastdns.control import pidfile
from fastdns.control.lean_asyncio import asyncio  # before anything that imports asyncio
from fastdns.control.link import BEAT_S, ChannelClosedError, KeeperLink
from fastdns.control.load import Loaded, Source
from fastdns.control.model import Options
from fastdns.control.observe.held import HeldSockets
from fastdns.control.observe.observer import Observer
from fastdns.control.probe import ShareWatch
from fastdns.control.reload import Reloader
from fastdns.control.segments import Inheritance
from fastdns.control.setup import endpoints
from fastdns.errors import FastDNSError, HopelessError
from fastdns.protocol import Kind, Message, State

_DRAIN_S = 3.0  # for the node's rules at the end
_CANCEL_S = 1.0  # for tasks to end, and what they have under way in other processes

if TYPE_CHECKING:  # with a Corefile, or in node-cache's place only
    from fastdns.control.onnode import OnNode

_SAID = {
    signal.SIGTERM: "SIGTERM: Shutting down servers then terminating",
    signal.SIGINT: "SIGINT: Shutting down",
    signal.SIGQUIT: "SIGQUIT: Quitting process immediately",
}


def live(
    link: KeeperLink,
    options: Options,
    source: Source | None,
    state: State,
    found: Inheritance,
    loaded: Loaded,
    former: Loaded | None,
) -> int:
    """Look after a running server until the keeper wants the end. Returns the exit code.

    former: the configuration before, which some children may have still. Raises FastDNSError.
    """

    async def run() -> int:
        return await Life(link, options, source, found, loaded, former).run(state)

    return asyncio.run(run())


class Life:
    """One life of control, from the start of its tasks to the end of the last."""

    def __init__(
        self,
        link: KeeperLink,
        options: Options,
        source: Source | None,
        found: Inheritance,
        loaded: Loaded,
        former: Loaded | None,
    ) -> None:
        self._link = link
        self._tasks: list[asyncio.Task[None]] = []
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()  # by the keeper: the workers have gone
        self._stopping = False
        self._segments = found.segments
        self._shares = ShareWatch(link, endpoints(loaded.config), found.segments.regions)
        self._reloader = Reloader(link, options, loaded, former, source, self._apply, self._count)
        node = options.node
        self._options = options
        self._observer = Observer(
            None if node is None else node.metrics_listen,
            frozenset() if node is None else frozenset(node.local_ips),
            HeldSockets(link.hold_http, link.release_http, found.http),
        )
        self._node: OnNode | None = None

    async def run(self, state: State) -> int:
        """Raises FastDNSError when one of the tasks does, or the keeper refuses what it should not."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._link.fileno(), self._on_events)
        self._link.on_overtaken = lambda: loop.call_soon(self._on_events)
        self._spawn(self._beat())
        loaded = self._reloader.running
        await self._observer.start(loaded.corefile, loaded.config, self._segments, strict=False)
        self._spawn(self._network())
        self._spawn(self._reloader.run(state))
        self._on_events()
        try:
            return await self._end
        finally:
            self._cancel()
            await self._observer.stop()

    async def _network(self) -> None:
        """The node's network; then, since they ask its addresses, who gets what share of the questions."""
        options, loaded = self._options, self._reloader.running
        if options.node is not None:
            from fastdns.control.onnode import OnNode, node_plan

            self._node = OnNode(
                node_plan(options.node, options, loaded),
                self._link,
                self._segments.regions,
                tuple(endpoints(loaded.config).values()),
                self._count,
                self._observer.facts,
            )
            await self._node.start(read_board(self._segments.board)["addresses"])
            self._spawn(self._node.tend())
        if options.pidfile:
            pidfile.write(Path(options.pidfile), os.getppid())
        self._spawn(self._shares.run())
        gc.collect()
        trim_memory()  # of what the set-up had in hand

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._on_done)
        self._tasks.append(task)

    def _cancel(self) -> list[asyncio.Task[None]]:
        """Returns those that have been told to end, and haven't yet."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        return tasks

    def _on_done(self, task: asyncio.Task[None]) -> None:
        # A part that fails takes control with it, and comes back with its next life.
        if task.cancelled() or self._end.done():
            return
        error = task.exception()
        if isinstance(error, ChannelClosedError):
            self._on_closed()
        elif isinstance(error, HopelessError):
            # What is started again is the container, and until then clients are led elsewhere.
            log.error(f"{self._options.program}: {error}")
            with contextlib.suppress(FastDNSError):
                self._link.stop(code=error.exit_code)
        elif error is not None:
            self._end.set_exception(error)

    async def _beat(self) -> None:
        while True:
            self._link.beat()
            await asyncio.sleep(BEAT_S)

    def _on_events(self) -> None:
        try:
            for event in self._link.events():
                self._on_event(event)
        except ChannelClosedError:
            self._on_closed()
        except FastDNSError as error:
            if not self._end.done():
                self._end.set_exception(error)

    def _on_event(self, event: Message) -> None:
        if event.kind == Kind.RELOAD:
            self._reloader.ask(signal.Signals(event.words[0]), event.words[1])
        elif event.kind == Kind.ROLLED:
            self._reloader.has_rolled(event.words[0])
        elif event.kind == Kind.FAILED:
            self._reloader.has_failed(event.words[0])
        elif event.kind == Kind.STOPPING and not self._stopping:
            self._stopping = True
            ending = self._cancel()
            self._spawn(self._beat())
            self._spawn(self._stop(signal.Signals(event.words[0]), ending))

    def _on_closed(self) -> None:
        """The keeper's end is closed: the workers have gone, or the keeper has."""
        asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._closed.set()
        if not self._stopping and not self._end.done():
            self._end.set_result(0)

    async def _stop(self, number: signal.Signals, ending: list[asyncio.Task[None]]) -> None:
        """The end, in the order of node-network.md, 4.

        ending: tasks that must do nothing to the node any more once it is torn down.
        """
        log.info(_SAID.get(number, f"{number.name}: Shutting down"))
        with contextlib.suppress(ChannelClosedError):
            if number != signal.SIGQUIT:
                self._link.stop(ready_s=self._observer.lameduck_s + _DRAIN_S)
                await self._observer.lameduck()
            if ending:
                await asyncio.wait(ending, timeout=_CANCEL_S)
            if self._node is not None:
                await self._node.drain()
            self._link.stop()
        await self._closed.wait()
        if self._node is not None:
            with contextlib.suppress(ChannelClosedError):
                await self._node.remove()
        if not self._end.done():
            self._end.set_result(0)

    async def _apply(self, loaded: Loaded, strict: bool) -> None:
        """Take a configuration that is about to be handed over."""
        await self._observer.apply(loaded.corefile, loaded.config, strict)
        self._shares.listeners = endpoints(loaded.config)

    def _count(self, what: str) -> None:
        if self._observer.ledger is not None:
            self._observer.ledger.add(what)
