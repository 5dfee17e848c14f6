# SPDX-License-Identifier: Apache-2.0
"""The node's network, from control's side: what is done at the start, all the time, and at the end.

    network = NodeNetwork(plan, link, regions, listeners)
    await network.start(board["addresses"])     # once the workers have been started
    task = asyncio.create_task(network.tend())
    ...
    await network.tear_down(TearDown.DRAIN)     # SIGTERM, after lameduck: new questions go elsewhere
    await network.tear_down(TearDown.REMOVE)    # once pending ones are answered

Whether an address is on the node decides who answers it (node-network.md, 1), so it comes last, when all
else has been seen to work, and goes first when it does not. After that the keeper alone renews it: nothing
here is needed for an answer, and control's death changes nothing. All that blocks is done in short-lived
children.
"""

import contextlib
import os
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Protocol

from fastdns import log
from fastdns.control.addresses import Endpoint
from fastdns.control.lean_asyncio import asyncio
from fastdns.control.node import jobs, watch
from fastdns.control.node.model import ErrorType, Held, Link, Mode, NodeError, NodePlan, NodeState, Standing
from fastdns.control.offload import offload
from fastdns.errors import FastDNSError, HopelessError
from fastdns.protocol import Address

LIFETIME_S = 2  #: of an address that nobody renews; the keeper does so each 0.5 s
EXIT_AFTER_MS = 5000  #: a container that exits is what makes a local redirect fall back

_LOOK_S = 1.0  #: is the interface there?
_LEGACY_S = 5.0  #: legacy tables notify nobody
_RETRY_S = 5.0  #: after something failed
_FULL_S = 60.0  #: everything, and who else listens: node-cache's own period
_SETTLE_S = 0.1  #: after a notification: a flush is many
_SELF_TEST_S = 3.0
_RENEW_S = 60.0  #: of the fallback's timeout, or a third of it

_RESTORED = "rules of ours had gone, and are back"


class KeeperPort(Protocol):
    """What the keeper does with addresses; KeeperLink has it. Each raises KeeperError."""

    async def keep_address(self, address: Address) -> None: ...
    async def forget_address(self, address: Address, leave: bool = False) -> None: ...
    async def exit_after(self, milliseconds: int) -> None: ...


class TearDown(Enum):
    """The two steps of the end."""

    DRAIN = "drain"
    REMOVE = "remove"


class NodeNetwork:
    """One for a life of control."""

    def __init__(
        self, plan: NodePlan, keeper: KeeperPort, regions: Sequence[int], listeners: Sequence[Endpoint] = ()
    ) -> None:
        """regions: descriptors of the workers' regions. listeners: what is bound, for the self-test."""
        self.plan = plan
        self.state = NodeState()
        self._keeper = keeper
        self._regions = tuple(regions)
        self._listeners = tuple(listeners)
        self._standing = Standing()
        self._link: Link | None = None
        self._foreign: frozenset[str] = frozenset()
        self._complete = False
        self._looked = True  #: at everything; a later life's first look may fail
        self._said: set[str] = set()
        self._notifications: watch.Notifications | None = None
        self._changed = asyncio.Event()  #: of what we need, something may have
        self._touched = False  #: a part of our tables has been taken away since they were looked at
        self._gone = asyncio.Event()  #: our tables have

    def fallbacks(self) -> dict[str, bool]:
        """Of each address that only this node knows: do questions to it find an answer without us?"""
        if self.plan.touches_nothing:
            return {}
        there = {one.address for one in self.plan.fallbacks()} if self.state.fallback else set()
        return {one: one in there for one in self.plan.known_here()}

    # ---- start

    async def start(self, kept: int) -> bool:
        """What a life of control begins with. Returns whether all is there.

        kept: how many addresses the keeper renews already (its board says it). A later life of control finds
        them all; it looks after them, and takes none away for a question that was lost.

        Nothing is raised, but HopelessError: what fails is counted, logged, and tried again by ``tend``;
        the addresses are not on the node then.
        """
        if self.plan.mode is not Mode.NONE:
            self._listen()
        if self.plan.touches_nothing:
            await self._only_serve()
        elif self.plan.setup_interface and kept >= len(self.plan.addresses):
            self._complete = True
            self._looked = await self._guarded(self._full_check())
        else:
            await self._try_set_up()
        return self._complete

    async def _try_set_up(self) -> None:
        try:
            await self._set_up()
            self._complete = True
            self._report_all()
        except FastDNSError as error:
            self._count(error)
            await self._withdraw()

    async def _only_serve(self) -> None:
        """Nothing leads clients elsewhere while we live but cannot serve: leave then."""
        await self._keeper.exit_after(EXIT_AFTER_MS)
        for endpoint in self._listeners:
            wrong = await self._ask_ourselves(endpoint, EXIT_AFTER_MS / 1000)
            if wrong:
                raise HopelessError(f"self-test: {wrong}")
        self._complete = True

    async def _set_up(self) -> None:
        self._foreign = await self._others()
        if self.plan.setup_interface:
            await _together(self._establish(), self._make_link())
        else:
            await self._establish()
        self._report_rules()
        if self._link is not None:
            await self._place_addresses(self._link)

    async def _establish(self) -> None:
        self._standing = await offload(jobs.establish, self.plan, self._foreign)

    async def _make_link(self) -> None:
        self._link = await offload(jobs.ensure_link, self.plan.interface)
        self._report_link(self._link)

    async def _place_addresses(self, link: Link) -> None:
        held = await offload(jobs.held, self.plan.addresses)
        first, *others = self.plan.in_order()
        await self._keep(first, link, held)
        wrong = await self._ask_ourselves(Endpoint(first, self.plan.port), _SELF_TEST_S)
        if wrong:
            raise NodeError(ErrorType.INTERFACE_CHECK, f"self-test: {wrong}; the addresses wait")
        for address in others:
            await self._keep(address, link, held)
        self.state.serving = self.plan.in_order()

    async def _ask_ourselves(self, endpoint: Endpoint, within_s: float) -> str:
        return await offload(jobs.self_test, endpoint, self._regions, within_s, keep=self._regions)

    async def _keep(self, address: str, link: Link, held: Sequence[Held]) -> None:
        """Have an address renewed; one that somebody else serves, too, keeps what lifetime it has."""
        there = [one for one in held if one.address == address]
        for one in there:
            if one.interface != link.name:
                self._say(f"{address} is on {one.interface}, too: it stays there when it should go")
        permanent = any(one.permanent and one.interface == link.name for one in there)
        forever = self.plan.skip_teardown or (permanent and address in self._foreign)
        if permanent and not forever:
            log.info(f"{address} was left on {link.name} without a lifetime; it has one now")
        await self._keeper.keep_address(Address(address, link.index, 0 if forever else LIFETIME_S))

    async def _withdraw(self) -> None:
        """Take the addresses away again: nobody may be led to what does not answer."""
        for address in reversed(self.plan.in_order()):
            with contextlib.suppress(FastDNSError):
                await self._keeper.forget_address(Address(address), leave=address in self._foreign)
        self.state.serving = ()

    async def _others(self) -> frozenset[str]:
        ours = (os.getpid(), os.getppid())  # the keeper holds all sockets
        return await offload(jobs.foreign_listeners, self.plan.addresses, self.plan.port, ours)

    # ---- all the time

    async def tend(self) -> None:
        """Look after all of it until cancelled; nothing of it goes on when this ends."""
        if self.plan.touches_nothing:
            await asyncio.Event().wait()
        # Tables are put back beside whatever else is under way: it may wait for the xtables lock.
        works = (self._restore_tables(), self._guarded(self._examine()), self._tend())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._stop_listening()

    def _listen(self) -> None:
        """From before the first rule on: one that goes before ``tend`` begins is noticed, too."""
        try:
            self._notifications = one = watch.Notifications()
        except OSError as error:
            self._say(
                f"no notifications of nftables ({error.strerror}): a look at its rules each {_FULL_S:.0f} s"
            )
            return
        asyncio.get_running_loop().add_reader(one.fileno(), self._on_notification, one)

    def _stop_listening(self) -> None:
        if self._notifications is not None:
            asyncio.get_running_loop().remove_reader(self._notifications.fileno())
            self._notifications.close()
            self._notifications = None

    def _on_notification(self, notifications: watch.Notifications) -> None:
        change = notifications.read()
        if change is watch.Change.GONE:
            self._gone.set()
        if change is watch.Change.OURS:
            self._touched = True
        if change is not watch.Change.NONE:
            self._changed.set()

    async def _restore_tables(self) -> None:
        while True:
            await self._gone.wait()
            if self._complete and self._standing.mode is Mode.AUTO:
                await self._guarded(self._restore())
            self._gone.clear()

    async def _restore(self) -> None:
        await offload(jobs.restore_tables, self.plan, self._standing.fallback)
        log.warning(_RESTORED)

    async def _tend(self) -> None:
        clock = asyncio.get_running_loop().time
        retry_s = _RETRY_S
        full = clock() + (_FULL_S if self._looked else retry_s)
        legacy, renew = clock() + _LEGACY_S, clock() + self._renew_s()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            if not self._complete:
                await asyncio.sleep(_RETRY_S)
                await self._try_set_up()
                continue
            well = True
            if self._changed.is_set():
                await asyncio.sleep(_SETTLE_S)
                if self._gone.is_set():
                    continue  # the tables first
                self._changed.clear()
                well = await self._guarded(self._check_rules())
            if self._link_has_gone():
                well &= await self._guarded(self._restore_link())
            if clock() >= full:
                full = legacy = clock() + _FULL_S
                well &= await self._guarded(self._full_check())
                retry_s = _RETRY_S if well else min(2 * retry_s, _FULL_S)
            if clock() >= legacy:
                legacy = clock() + _LEGACY_S
                well &= await self._guarded(self._check_legacy())
            if not well:  # a lock, a process that could not be had
                full = min(full, clock() + retry_s)
            if clock() >= renew:
                renew = clock() + self._renew_s()
                await self._guarded(self._renew())

    async def _guarded(self, step: Coroutine[Any, Any, object]) -> bool:
        """Whether it was done; its error is counted and said."""
        try:
            await step
        except FastDNSError as error:
            self._count(error)
            return False
        return True

    async def _check_rules(self, all_of_them: bool = False) -> None:
        """all_of_them: also what others have left since the start, and what could not be had before."""
        if self.plan.mode is Mode.NONE:
            return
        # A later life knows nothing yet; and what nft could not do may have been a passing weakness.
        if self._standing.mode is Mode.NONE or (all_of_them and self._standing.lacks_of(self.plan)):
            await self._establish()
        else:
            known = self._standing
            if self._touched:  # perhaps between a table's going in and its listing
                known, self._touched = replace(known, listing=None), False
            self._standing = await offload(jobs.check_rules, self.plan, known, self._foreign, all_of_them)
        self._report_rules()
        if self._standing.restored:
            log.warning(_RESTORED)

    async def _check_legacy(self) -> None:
        if watch.legacy_in_use():
            await self._check_rules()

    async def _full_check(self) -> None:
        self._foreign = await self._others()
        await self._check_rules(all_of_them=True)
        if self.plan.setup_interface:
            await self._restore_link()

    def _link_has_gone(self) -> bool:
        return self._link is not None and _index_of(self.plan.interface) != self._link.index

    async def _restore_link(self) -> None:
        """The interface as it should be, with all addresses; those that are there stay as they are."""
        link = await offload(jobs.ensure_link, self.plan.interface)
        self._report_link(link)
        held = await offload(jobs.held, self.plan.addresses)
        for address in self.plan.in_order():
            await self._keep(address, link, held)
        self._link = link  # not before: what fails is tried again, as the interface has "gone" until then
        self.state.serving = self.plan.in_order()

    async def _renew(self) -> None:
        if self._standing.fallback:
            await offload(jobs.renew_fallback, self.plan)

    def _renew_s(self) -> float:
        return min(_RENEW_S, (self.plan.linger_s or _RENEW_S) / 3)

    # ---- end

    async def tear_down(self, step: TearDown) -> None:
        """One step of the end; what fails is logged, and the rest is done all the same."""
        if self.plan.skip_teardown or self.plan.touches_nothing:
            return
        if step is TearDown.DRAIN:
            log.info("Tearing down")
            for address in self._foreign:  # somebody else serves on, behind the same rules
                with contextlib.suppress(FastDNSError):
                    await self._keeper.forget_address(Address(address), leave=True)
            if self._foreign:
                return
            await self._guarded(offload(jobs.drain_rules, self.plan, self._last_standing()))
            return
        await self._withdraw()
        await self._guarded(offload(jobs.remove_all, self.plan, self._last_standing(), self._foreign))

    def _last_standing(self) -> Standing:
        """What may be in the kernel, also where no look at it has ended: at a start, in a later life."""
        if self._standing.mode is not Mode.NONE:
            return self._standing
        return Standing(self.plan.mode, fallback=bool(self.plan.fallbacks()))

    # ---- what is said of it

    def _report_link(self, link: Link) -> None:
        if link.created:
            log.info(f"Added interface - {link.name}")
            if link.kind != "dummy":
                self._say(f"this kernel makes no dummy interface: {link.name} is a {link.kind}")

    def _report_rules(self) -> None:
        standing = self._standing
        for rule in standing.added:
            log.info(f"Added back nodelocaldns rule - {rule}")
        if standing.removed:
            log.info(f"removed {standing.removed} iptables rules that were left over")
        for text in standing.trouble:
            self._say(text)
        self.state.fallback = standing.fallback
        self.state.rules = {Mode.AUTO: "nft", Mode.IPTABLES: "iptables", Mode.NONE: "none"}[standing.mode]

    async def _examine(self) -> None:
        """One line about the node, and what of it keeps queries from us."""
        log.info(f"node: {await offload(jobs.examine, self.plan)}")

    def _report_all(self) -> None:
        fallbacks = [
            f"{one.address} to {one.service}" for one in self.plan.fallbacks() if self.state.fallback
        ]
        log.info(
            f"node: serving on {' '.join(self.state.serving) or 'what is there'}; rules: {self.state.rules};"
            f" fallback: {', '.join(fallbacks) or 'none'}"
        )

    def _count(self, error: FastDNSError) -> None:
        kind = error.kind if isinstance(error, NodeError) else ErrorType.INTERFACE_CHECK
        self.state.errors[kind.value] += 1
        log.error(f"{_ERROR_WORDS[kind]}: {error}")

    def _say(self, text: str) -> None:
        """A warning that holds until something changes: once."""
        if text not in self._said:
            self._said.add(text)
            log.warning(text)


async def _together(*steps: Coroutine[Any, Any, None]) -> None:
    """Steps beside each other: none of them goes on when this ends. Raises the first error."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _index_of(name: str) -> int:
    """The number of an interface, or 0."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


# Words that operators of node-cache look for (corefile.md, 6.5).
_ERROR_WORDS = {
    ErrorType.IPTABLES: "Error checking/adding iptables rule",
    ErrorType.IPTABLES_LOCK: "Error checking/adding iptables rule",
    ErrorType.INTERFACE_ADD: "Failed to add non-existent interface",
    ErrorType.INTERFACE_CHECK: "Error checking dummy device",
}
