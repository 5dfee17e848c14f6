# SPDX-License-Identifier: Apache-2.0
"""What control shows to others: /metrics, /health, /ready, and the lines of `log` and `errors`.

One object for a life of control; its methods are called from control's event loop and block it for no longer
than a scrape takes, some milliseconds.
"""

import itertools
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastdns import _stats, log
from fastdns.control.lean_asyncio import asyncio
from fastdns.control.observe import http
from fastdns.control.observe.health import Watch
from fastdns.control.observe.held import HeldSockets
from fastdns.control.observe.http import Listener, Request, Response
from fastdns.control.observe.listen import Address, Wanted, bind, wanted
from fastdns.control.observe.names import Facts, Names, hosts_facts, name_all
from fastdns.control.observe.scrape import Scraper
from fastdns.control.segments import Segments
from fastdns.errors import FastDNSError, ListenError

if TYPE_CHECKING:
    from fastdns.control.config.model import Corefile, ServerBlock
    from fastdns.control.model import Config
    from fastdns.control.observe.log import LogPump

_AGAIN_S = 1.0  #: after an error of ours
_PROBE_S = 1.0  #: between our own questions to /health
_PROBE_LIMIT_S = 3.0
_RETRY_TURNS = 10
_PROBE_SLOW_S = 1.0
_BOUNDS_S = (0.00025, 0.0025, 0.025, 0.25, 2.5)  #: of coredns_health_request_duration_seconds

# How long a record may lie in a ring: nobody wakes for each, and an idle server hardly wakes at all.
_LOG_FULL_S = 0.002  #: many at once: they may be as many again
_LOG_BUSY_S = 0.02
_LOG_IDLE_S = 0.125
_LOG_QUIET_S = 0.5  #: no `log`: only errors come


class Observer:
    """Create it in the event loop; ``start`` once, ``apply`` after each reload, ``stop`` at the end."""

    def __init__(
        self,
        metrics_listen: Address | None = None,
        arriving: frozenset[str] = frozenset(),
        held: HeldSockets | None = None,
    ) -> None:
        """metrics_listen: node-cache's -metrics-listen-address, "" as host for all;
        arriving: addresses that the node is yet to get, which may be bound all the same;
        held: sockets that outlive control; None: none does."""
        self._own = metrics_listen
        self._held = held
        self._arriving = arriving
        self._listeners: dict[Address, Listener] = {}
        self._plan: dict[Address, Wanted] = {}
        self._probed: tuple[Address, ...] = ()  # what /health is asked on
        self._segments: Segments | None = None
        self._scraper: Scraper | None = None
        self._names = Names()
        self._watch = Watch()
        self._ready_once = False
        self._stays_ready = True
        self.lameduck_s = 0.0  #: what `health` says
        self._tasks: list[asyncio.Task[None]] = []
        self._pump: LogPump | None = None
        self.facts = Facts()
        self.ledger: _stats.Ledger | None = None
        self.stopping = False  #: /ready says no

    # ---- for control ----

    async def start(
        self, corefile: "Corefile | None", config: "Config", segments: Segments, strict: bool = True
    ) -> None:
        """Listen, and begin to write lines. Raises SegmentError, and ListenError as ``apply`` does."""
        self._segments = segments
        self._scraper = Scraper(segments)
        self.ledger = _stats.Ledger(segments.ledger)
        await self.apply(corefile, config, strict)
        self._tasks = [asyncio.create_task(_keep_up(one)) for one in (self._probe, self._log)]

    async def apply(self, corefile: "Corefile | None", config: "Config", strict: bool = True) -> None:
        """Take another configuration. Listeners that are still wanted stay as they are.

        strict: raises ListenError where /health or /ready can't be served; nothing has changed then. What
        can't be listened on otherwise is said, and tried again every 10 s.
        """
        plan = wanted(corefile, self._own)
        opened = await self._open(plan, strict)
        self._plan = plan
        self._names = name_all(config, corefile).after(self._names)
        self.facts.number = config.number
        self.facts.digest = "" if corefile is None else corefile.digest
        blocks: tuple[ServerBlock, ...] = () if corefile is None else corefile.blocks
        self.facts.hosts = hosts_facts(config, corefile)
        self.facts.counted = any(block.prometheus is not None for block in blocks)
        self.lameduck_s = max(
            (one.health.lameduck_s for one in blocks if one.health is not None), default=0.0
        )
        self._stays_ready = all(one.ready.monitor == "until-ready" for one in blocks if one.ready is not None)
        gone = [one for address, one in self._listeners.items() if address not in opened]
        self._listeners = opened
        for one in gone:
            await one.close()
        self._hold()
        self._apply_log(corefile, config)

    async def lameduck(self) -> None:
        """The first part of the end: DNS and /health go on, /ready says no, for as long as `health` says."""
        self.stopping = True
        if self.lameduck_s > 0:
            from fastdns.control.observe.log import go_duration

            log.info(f"plugin/health: Going into lameduck mode for {go_duration(self.lameduck_s)}")
            await asyncio.sleep(self.lameduck_s)

    async def stop(self) -> None:
        """Write what is left, close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._pump is not None:
            self._pump.flush(time.monotonic())
        for one in self._listeners.values():
            await one.close()
        self._listeners = {}

    def addresses(self) -> dict[Address, Address]:
        """Where each wanted address is really listened on."""
        return {address: one.address for address, one in self._listeners.items()}

    # ---- listeners ----

    async def _open(self, plan: dict[Address, Wanted], strict: bool) -> dict[Address, Listener]:
        opened: dict[Address, Listener] = {}
        fresh: list[Listener] = []
        try:
            for address, one in plan.items():
                kept = self._listeners.get(address)
                if kept is None:
                    kept = await self._listen(address, one, strict)
                    if kept is None:
                        continue
                    fresh.append(kept)
                opened[address] = kept
        except ListenError:
            for one_fresh in fresh:
                await one_fresh.close()
            raise
        self._route(plan, opened)
        return opened

    def _route(self, plan: dict[Address, Wanted], opened: dict[Address, Listener]) -> None:
        handlers: dict[str, http.Handler] = {
            "/metrics": self._metrics,
            "/health": self._health,
            "/ready": self._ready,
        }
        for address, listener in opened.items():
            listener.routes = {path: handlers[path] for path in plan[address].paths}
        self._probed = tuple(address for address in opened if "/health" in plan[address].paths)

    async def _listen(
        self, address: Address, plan: Wanted, strict: bool, quiet: bool = False
    ) -> Listener | None:
        try:
            number = await http.resolve(address)
            sock = self._held.find(number) if self._held is not None else None
            if sock is None:
                sock = bind(number, shared=plan.shared, arriving=number[0] in self._arriving)
        except ListenError as error:
            if plan.fatal and strict:
                raise
            if not quiet:
                plugin = "plugin/prometheus: " if plan.shared else ""
                what = "health" if plan.fatal else "metrics"
                log.error(f"{plugin}Failed to start {what} handler: {error}")
            return None
        listener = Listener(sock, {})
        await listener.start()
        return listener

    async def _retry(self) -> None:
        """Listen on what could not be had: another server may have left."""
        missing = {address: one for address, one in self._plan.items() if address not in self._listeners}
        for address, one in missing.items():
            listener = await self._listen(address, one, strict=False, quiet=True)
            if listener is not None:
                log.info(f"listening on {address[0]}:{address[1]} at last")
                self._listeners[address] = listener
        if missing:
            self._route(self._plan, self._listeners)
            self._hold()

    def _hold(self) -> None:
        if self._held is not None:
            self._held.keep(one.socket for one in self._listeners.values())

    # ---- what is answered ----

    async def _metrics(self, request: Request) -> Response:
        assert self._scraper is not None
        assert self.ledger is not None
        try:
            body = await self._scraper.scrape(self._names, self.facts, request.takes_gzip)
        except FastDNSError:
            self.ledger.add("scrapes_failed")
            raise
        self.ledger.add("scrapes")
        return Response(200, body, "text/plain; version=0.0.4; charset=utf-8", request.takes_gzip)

    def _regions(self) -> "list[_stats.Region]":
        assert self._segments is not None
        return [_stats.read_region(one) for one in self._segments.regions]

    def _health(self, _: Request) -> Response:
        if self._watch.healthy(self._regions(), time.monotonic()):
            return Response(200, b"OK")
        return Response(503, b"no worker moves")

    def _ready(self, _: Request) -> Response:
        assert self._segments is not None
        if self.stopping:
            return Response(503, b"stopping")
        if self._ready_once and self._stays_ready:
            return Response(200, b"OK")
        missing = self._watch.missing(
            self._regions(), _stats.read_post(self._segments.post), time.monotonic()
        )
        if missing:
            return Response(503, ",".join(missing).encode())
        self._ready_once = True
        return Response(200, b"OK")

    # ---- our own question to /health, once a second ----

    async def _probe(self) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(_PROBE_S)
            if turn % _RETRY_TURNS == 0:
                await self._retry()
            self._watch.look(self._regions(), time.monotonic())
            for address in self._probed:
                await self._probe_one(address)

    async def _probe_one(self, address: Address) -> None:
        assert self.ledger is not None
        began = time.perf_counter()
        listener = self._listeners.get(address)
        if listener is None:
            return
        host, port = listener.address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
        error = ""
        try:
            async with asyncio.timeout(_PROBE_LIMIT_S):
                await _ask(host, port)
        except TimeoutError:
            error = "timeout"
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, FastDNSError) as failure:
            error = str(failure)
        took = time.perf_counter() - began
        bucket = next((i for i, bound in enumerate(_BOUNDS_S) if took <= bound), len(_BOUNDS_S))
        self.ledger.add(f"health_times_{bucket}")
        self.ledger.add("health_us", int(took * 1e6))
        if error:
            self.ledger.add("health_failures")
            log.warning(f'plugin/health: Local health request to "{url}" failed: {error}')
        elif took > _PROBE_SLOW_S:
            log.warning(f'plugin/health: Local health request to "{url}" took more than 1s: {took:.3f}s')

    # ---- lines ----

    def _apply_log(self, corefile: "Corefile | None", config: "Config") -> None:
        if self._pump is None:
            if corefile is None:
                return
            from fastdns.control.observe.log import LogPump, Writer

            assert self._segments is not None
            assert self.ledger is not None
            logs = self._segments.logs
            self._pump = LogPump(
                logs, Writer(self.ledger), lambda: sum(_stats.read_log(one)["dropped"] for one in logs)
            )
        self._pump.apply(config, corefile, self._names)

    async def _log(self) -> None:
        while True:
            pump = self._pump
            if pump is None:
                await asyncio.sleep(_LOG_QUIET_S)
            elif taken := pump.pump(time.monotonic()):
                await asyncio.sleep(_LOG_BUSY_S if taken < pump.batch else _LOG_FULL_S)
            else:
                await asyncio.sleep(_LOG_IDLE_S if pump.logs_queries else _LOG_QUIET_S)


async def _keep_up(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it again when it fails: neither probes nor lines end with one error."""
    while True:
        try:
            await work()
        except Exception as error:
            log.error(f"control: {work.__name__.strip('_')}: {error!r}")
        await asyncio.sleep(_AGAIN_S)


async def _ask(host: str, port: int) -> None:
    """GET /health. Raises OSError, FastDNSError where the answer isn't 200."""
    reader, writer = await asyncio.open_connection(host, port, limit=http.HEAD_MAX)
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        first = await reader.readuntil(b"\r\n")
        if first.split(b" ")[1:2] != [b"200"]:
            raise FastDNSError(first.decode("latin-1").strip())
        await reader.read()
    finally:
        writer.close()
