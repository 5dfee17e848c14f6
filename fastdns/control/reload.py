# SPDX-License-Identifier: Apache-2.0
"""A new configuration for a running server: when it is looked for, checked, and handed over.

The Corefile is read and checked in a process of its own, so that what is wrong with it changes nothing
here. What is right goes to the keeper: sockets for new addresses, the configuration's segment, then the
rolling restart; the coordinator sweeps the cache before the workers follow. One reload at a time.

Where children die on what passed the check, the keeper gives the restart up, and another one brings the
configuration before back.
"""

import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from fastdns import log
from fastdns.control.apart import ApartError
from fastdns.control.lean_asyncio import asyncio
from fastdns.control.link import KeeperLink
from fastdns.control.load import Loaded, Source, load_corefile, load_former, stamp_of
from fastdns.control.model import Options
from fastdns.control.offload import offload
from fastdns.control.setup import endpoints, hand_over, open_listeners, plan_for, put_config
from fastdns.errors import UsageError
from fastdns.protocol import State

_POLL_S = 10.0  # as often as node-cache looks at its ConfigMaps
_ROLL_S = 30.0  # a rolling restart that takes longer is worth a line

#: Has the rest of control take a configuration. Where the second is true it raises UsageError for what can't
#: be had, and has changed nothing then; else it goes on without.
Apply = Callable[[Loaded, bool], Awaitable[None]]


class GivenUpError(UsageError):
    """Children died on a configuration that had passed the check, and the one before is back."""

    def __init__(self) -> None:
        super().__init__("its processes die when they start; the configuration before is served again")


@dataclass(slots=True)
class _File:
    """A file that is looked at from time to time."""

    path: str
    every_s: float
    due_s: float
    stamp: tuple[int, ...]


class Reloader:
    """The one that brings new configurations to the keeper."""

    def __init__(
        self,
        link: KeeperLink,
        options: Options,
        loaded: Loaded,
        former: Loaded | None,
        source: Source | None,
        apply: Apply,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """former: the configuration before, which some children may have still; source: of the Corefile's
        text; apply: tells the rest of control; count: is told `reloads` and `reload_failures`, for the
        ledger.
        """
        self.running = loaded
        self._former = former
        self._source = source
        self._link = link
        self._options = options
        self._apply = apply
        self._count = count
        self._asked: tuple[signal.Signals, int] | None = None
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()  # a rolling restart
        self._rolled_number = self._failed_number = 0
        self._seen = ""  # the text that was looked at last
        self._seen_stamps: tuple[tuple[int, ...], ...] = ()
        self._files: list[_File] = []
        self._look_s = self._look_due_s = 0.0  # the plugin reload's period, 0: none; and when it is due
        self._poll_due_s = 0.0  # node-cache's template and ConfigMap

    # ---- told by others

    def ask(self, number: signal.Signals, serial: int = 0) -> None:
        """A signal: read the Corefile again, whatever it says. serial: of the keeper's event, 0: our own."""
        self._asked = (number, serial)
        self._wake.set()

    def has_rolled(self, number: int) -> None:
        """All children have the configuration of this number."""
        self._rolled_number = number
        self._ended.set()

    def has_failed(self, number: int) -> None:
        """Children die on the configuration of this number, and the keeper has given it up."""
        self._failed_number = number
        self._ended.set()

    # ---- the task

    async def run(self, state: State) -> None:
        """Look and reload until cancelled. ``state``: what this life of control found."""
        await self._finish_former(state)
        self._begin_watching()
        while True:
            await self._pause()
            if self._asked is not None:
                (number, serial), self._asked = self._asked, None
                await self._on_signal(number)
                if serial:
                    self._link.reloaded(serial)
            now_s = time.monotonic()
            if self._makes_corefile and now_s >= self._poll_due_s:
                self._poll_due_s = now_s + _POLL_S
                self._on_poll()
            if self._look_s and now_s >= self._look_due_s:
                self._look_due_s = now_s + self._look_s
                await self._on_look()
            if self._any_file_changed(now_s):
                await self._on_files()

    async def _pause(self) -> None:
        """Until somebody asks, or something is due."""
        due_s = [one.due_s for one in self._files]
        if self._look_s:
            due_s.append(self._look_due_s)
        if self._makes_corefile:
            due_s.append(self._poll_due_s)
        wait_s = max(0.0, min(due_s) - time.monotonic()) if due_s else None
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _finish_former(self, state: State) -> None:
        """Go on with what a former life of control had begun."""
        if not state.started:
            return
        number = self.running.config.number
        changed = self._line_up(state.listeners)
        try:
            if not changed and state.rolling == number:
                await self._finish_roll()
            elif changed or state.rolled != number:
                await self._roll()
        except GivenUpError as error:
            self._failed()
            log.error(f"Restart failed: {error}")

    # ---- when

    def _begin_watching(self) -> None:
        """Take up what the running configuration says is to be looked at."""
        now_s = time.monotonic()
        self._files = [
            _File(one.path, one.every_s, now_s + one.every_s, one.stamp) for one in self.running.watched
        ]
        period = self.running.reload
        self._look_s = 0.0
        if period is not None:
            # Once a load, as in CoreDNS: the nodes of a cluster spread, and each keeps its period.
            jitter_s = min(period.jitter_s, period.interval_s / 2)
            self._look_s = period.interval_s + jitter_s * (_fraction() - 0.5)
        self._look_due_s = now_s + self._look_s

    def _any_file_changed(self, now_s: float) -> bool:
        changed = False
        for one in self._files:
            if now_s >= one.due_s:
                one.due_s = now_s + one.every_s
                stamp = stamp_of(one.path)
                changed |= stamp != one.stamp
                one.stamp = stamp
        return changed

    # ---- why

    @property
    def _makes_corefile(self) -> bool:
        return self._source is not None and self._options.node is not None

    def _on_poll(self) -> None:
        """Make the Corefile anew where template or ConfigMap have changed; the plugin reload reads it."""
        assert self._source is not None
        assert self._options.node is not None
        if self._source.poll() is not None and self._options.node.reload_with_signal:
            self.ask(signal.SIGUSR1)

    async def _on_signal(self, number: signal.Signals) -> None:
        if not self._options.has_corefile:
            log.info(f"{number.name} ignored: the options of this server can't change while it runs")
            return
        log.info(f"{number.name}: Reloading")
        try:
            await self._reload(await self._load(self._read()))
        except UsageError as error:
            self._failed(by_plugin=isinstance(error, GivenUpError))
            log.error(f"{number.name}: {error}")

    async def _on_look(self) -> None:
        try:
            text = self._read()
            stamps = tuple(stamp_of(one) for one in self.running.files)
            if (text, stamps) == (self._seen or self.running.text, self._seen_stamps or stamps):
                return
            self._seen, self._seen_stamps = text, stamps
            loaded = await self._load(text)
        except UsageError as error:
            self._failed()
            log.warning(f"plugin/reload: Corefile parse failed: {error}")
            return
        if loaded.digest == self.running.digest:
            return
        log.info("Reloading")
        try:
            await self._reload(loaded)
        except UsageError as error:
            self._failed()
            log.error(f"Restart failed: {error}")
            log.error(f"plugin/reload: Corefile changed but reload failed: {error}")

    async def _on_files(self) -> None:
        """A hosts file, a resolv.conf: the Corefile is the running one's, whatever the file has by now."""
        try:
            await self._reload(await self._load(self.running.text), quiet=True)
        except UsageError as error:
            self._failed()
            log.error(f"a file that the Corefile names has changed, and can't be used: {error}")

    def _failed(self, by_plugin: bool = True) -> None:
        self._count("reloads")
        if by_plugin:  # CoreDNS's counter is the plugin's; what dies is counted whoever asked for it
            self._count("reload_failures")

    # ---- how

    def _read(self) -> str:
        """The Corefile as it is now. Raises UsageError."""
        assert self._source is not None
        return self._source.read()

    async def _load(self, text: str) -> Loaded:
        """The configuration that a text means, numbered after the running one's. Raises UsageError."""
        try:
            return await offload(load_corefile, self._options, text, self.running)
        except ApartError as error:
            raise UsageError(str(error)) from None

    async def _reload(self, loaded: Loaded, quiet: bool = False) -> None:
        """Hand a configuration over; all children have it when this returns.

        Raises UsageError; nothing has changed then.
        """
        if loaded.outdates(self.running):
            await self._replace(loaded)
        else:
            loaded = replace(loaded, config=self.running.config)
            await self._apply(loaded, True)
            self.running = loaded
            self._begin_watching()
        if quiet:
            return
        self._count("reloads")
        log.info(f"plugin/reload: Running configuration SHA512 = {loaded.digest}")
        log.info("Reloading complete")

    async def _replace(self, loaded: Loaded) -> None:
        before, after = endpoints(self.running.config), endpoints(loaded.config)
        gone = [slot for slot, one in before.items() if after.get(slot) != one]
        new = {slot: one for slot, one in after.items() if before.get(slot) != one}
        if set(gone) & set(new):
            raise UsageError(
                "all places for addresses are taken: expected a reload without the old ones first"
            )
        opened = {}
        if new:
            rcvbuf = plan_for(self._options, loaded.config, loaded.memory).rcvbuf
            opened = open_listeners(self._options, new, loaded.config.worker_count, rcvbuf)
        try:
            await self._apply(loaded, True)
        except UsageError:
            for one in opened.values():
                one.close()
            raise
        hand_over(self._link, opened)
        put_config(self._link, loaded)
        for slot in gone:
            self._link.remove_listener(slot)
        self._former, self.running = self.running, loaded
        self._begin_watching()
        await self._roll()

    def _line_up(self, held: int) -> bool:
        """Have children get the listeners of the running configuration. Returns whether others were held.

        held: a bit for each slot that they get. What is missing was removed by a restart that was given up.
        """
        wanted = sum(1 << slot for slot in endpoints(self.running.config))
        for slot in range((held | wanted).bit_length()):
            if wanted & ~held & 1 << slot:
                self._link.restore_listener(slot)
            elif held & ~wanted & 1 << slot:
                self._link.remove_listener(slot)
        return held != wanted

    async def _roll(self) -> None:
        """Restart the children one by one for the running configuration. As ``_finish_roll``."""
        self._begin_roll()
        await self._finish_roll()

    def _begin_roll(self) -> None:
        self._ended.clear()
        self._rolled_number = self._failed_number = 0
        self._link.roll(self.running.config.number)

    async def _finish_roll(self) -> None:
        """All children have the running configuration when this returns.

        Raises GivenUpError when they died on it: all have the one before then.
        """
        while not await self._has_reached_all():
            failed, former = self.running, self._former
            if former is not None and failed.outdates(former):
                await self._go_back(former, failed)
                raise GivenUpError
            # They die with what they had before, too: it is not the configuration, and nothing else is left.
            log.error(f"configuration {failed.config.number} can't be started, nor is there another one")
            self._begin_roll()
        self._former = None

    async def _has_reached_all(self) -> bool:
        number = self.running.config.number
        while self._rolled_number != number and self._failed_number != number:
            try:
                async with asyncio.timeout(_ROLL_S):
                    await self._ended.wait()
            except TimeoutError:
                log.error(f"configuration {number} has not reached all processes after {_ROLL_S:.0f} s")
            self._ended.clear()
        return self._rolled_number == number

    async def _go_back(self, former: Loaded, failed: Loaded) -> None:
        """All children have the former configuration when this returns."""
        held = sum(1 << slot for slot in endpoints(failed.config))
        back = await offload(load_former, former, failed)
        await self._apply(back, False)
        self.running = back
        self._line_up(held)
        put_config(self._link, back)
        self._seen = failed.text  # it is not tried again before it changes
        self._seen_stamps = tuple(stamp_of(one) for one in back.files)
        self._begin_watching()
        await self._roll()


def _fraction() -> float:
    """From 0 to 1, at random. The module random would bring OpenSSL along."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF
