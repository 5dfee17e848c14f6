# SPDX-License-Identifier: Apache-2.0
"""The observer: listeners over reloads, /health that is slow to say no, /ready, lameduck."""

import asyncio
import gzip
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastdns._stats import read_post, read_region
from fastdns._testing.observe import Log as Ring
from fastdns._testing.observe import Region
from fastdns.control.config.model import Corefile, Health, Prometheus, Ready
from fastdns.control.observe import observer as module
from fastdns.control.observe import scrape
from fastdns.control.observe.health import Watch
from fastdns.control.observe.listen import open_needed, wanted
from fastdns.control.observe.observer import Observer
from fastdns.control.segments import Segments
from fastdns.errors import ListenError
from tests.observetools import WHERE, make_segments, rke2, rke2_config
from tests.peers.run import free_port

if TYPE_CHECKING:
    from fastdns._stats import Region as Stats


@pytest.fixture
def segments() -> Iterator[Segments]:
    with make_segments() as made:
        yield made


def children() -> str:
    """PIDs of this process's children, zombies included."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def corefile(**plugins: object) -> Corefile:
    """RKE2's, with other plugins in its first block."""
    whole = rke2()
    first, second = whole.blocks
    plugins = {"health": None, "prometheus": None, **plugins}
    return replace(whole, blocks=(replace(first, **plugins), second))  # type: ignore[arg-type]


def health(port: int, lameduck_s: float = 0.0) -> Health:
    return Health(where=WHERE, address=("127.0.0.1", port), lameduck_s=lameduck_s)


def prometheus(port: int) -> Prometheus:
    return Prometheus(where=WHERE, address=("127.0.0.1", port))


async def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 5.0)).decode().partition("\r\n\r\n")
        return int(head.split(" ")[1]), body
    finally:
        writer.close()


async def get_with(port: int, path: str, header: str) -> tuple[list[str], bytes]:
    """The lines of the reply's head, and its body as it came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\n{header}\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 5.0)).partition(b"\r\n\r\n")
        return head.decode().splitlines(), body
    finally:
        writer.close()


def test_what_is_listened_on() -> None:
    """Blocks share addresses; what several of them name has all their paths."""
    plan = wanted(corefile(health=health(8080), prometheus=prometheus(9253)), ("", 9353))
    assert {address: set(one.paths) for address, one in plan.items()} == {
        ("127.0.0.1", 8080): {"/health"},
        ("127.0.0.1", 9253): {"/metrics"},
        ("", 9353): {"/metrics"},
    }
    assert [one.fatal for one in plan.values()] == [True, False, False]
    assert [one.shared for one in plan.values()] == [True, True, False]
    both = wanted(corefile(health=health(9253), prometheus=prometheus(9253)), ("127.0.0.1", 9253))
    assert {address: set(one.paths) for address, one in both.items()} == {
        ("127.0.0.1", 9253): {"/health", "/metrics"}
    }
    assert wanted(None, None) == {}


@pytest.mark.parametrize(
    "texts", [("localhost", "127.0.0.1"), ("127.0.0.1", "localhost"), ("::1", "0:0::1"), ("", "")]
)
def test_an_address_is_one_however_it_is_written(texts: tuple[str, str], segments: Segments) -> None:
    """In node-cache each spelling has a socket of its own, and half of the requests find the wrong one."""
    port = free_port()
    first = Health(where=WHERE, address=(texts[0], port))
    file = corefile(health=first, prometheus=Prometheus(where=WHERE, address=(texts[1], port)))
    opened = open_needed(file, frozenset())
    assert len(opened) == 1
    opened[0].close()

    async def run() -> None:
        observer = Observer((texts[0], port))  # node-cache's own, without SO_REUSEPORT, is no other one
        await observer.start(file, rke2_config(), segments)
        try:
            for path in ("/health", "/metrics") * 8:
                assert (await get(port, path, "::1" if ":" in texts[0] else "127.0.0.1"))[0] == 200
        finally:
            await observer.stop()

    asyncio.run(run())


def test_everything_at_its_address(segments: Segments) -> None:
    first, second, own = free_port(), free_port(), free_port()

    async def run() -> None:
        observer = Observer(("127.0.0.1", own))
        file = corefile(health=health(first), prometheus=prometheus(second))
        await observer.start(file, rke2_config(), segments)
        try:
            assert await get(first, "/health") == (200, "OK")
            assert (await get(first, "/metrics"))[0] == 404
            head, _ = await get_with(second, "/metrics", "Accept: application/openmetrics-text;version=1.0.0")
            assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head  # CoreDNS's only one
            head, body = await get_with(second, "/metrics", "Accept-Encoding: gzip")
            assert "Content-Encoding: gzip" in head
            assert b"coredns_build_info" in gzip.decompress(body)
            assert (await get(first, "/ready"))[0] == 404  # as node-cache: not on health's address
            for port in (second, own):
                status, text = await get(port, "/metrics")
                assert status == 200
                assert "coredns_build_info" in text
                assert "fastdns_hit_wait_seconds_bucket" in text
        finally:
            await observer.stop()
        with pytest.raises(OSError):
            await get(first, "/health")

    asyncio.run(run())


def test_scrapes_leave_nothing_behind(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once: each is answered, no process and no descriptor remains; one that hangs is given up."""
    port = free_port()

    async def run() -> None:
        observer = Observer()
        await observer.start(corefile(prometheus=prometheus(port)), rke2_config(), segments)
        try:
            await get(port, "/metrics")
            before = descriptors()
            found = await asyncio.gather(*(get(port, "/metrics") for _ in range(5)))
            assert [status for status, _ in found] == [200] * 5
            monkeypatch.setattr(scrape, "_LIMIT_S", 0.1)
            monkeypatch.setattr(scrape, "expose", lambda *_: time.sleep(60))
            assert (await get(port, "/metrics"))[0] == 500
            monkeypatch.setattr(scrape, "expose", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            assert (await get(port, "/metrics"))[0] == 500
            assert descriptors() == before
            assert observer.ledger is not None
            assert observer.ledger.read()["scrapes"] == 6
            assert observer.ledger.read()["scrapes_failed"] == 2
        finally:
            await observer.stop()

    before = children()
    asyncio.run(run())
    assert children() == before


def test_listeners_stay_over_a_reload(segments: Segments) -> None:
    """What is still wanted is the same socket, a connection to it lives on; the rest comes and goes."""
    kept, old, new = free_port(), free_port(), free_port()

    async def run() -> None:
        observer = Observer()
        await observer.start(
            corefile(health=health(kept), prometheus=prometheus(old)), rke2_config(), segments
        )
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", kept)
            await observer.apply(corefile(health=health(kept), prometheus=prometheus(new)), rke2_config())
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"OK")
            writer.close()
            assert (await get(new, "/metrics"))[0] == 200
            with pytest.raises(OSError):
                await get(old, "/metrics")
            # The same address now has another task.
            await observer.apply(corefile(prometheus=prometheus(kept)), rke2_config())
            assert (await get(kept, "/health"))[0] == 404
            assert (await get(kept, "/metrics"))[0] == 200
        finally:
            await observer.stop()

    asyncio.run(run())


def test_a_listener_that_cannot_be_had(
    segments: Segments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """/health is fatal, /metrics is said; a reload with such an error changes nothing."""
    said: list[str] = []
    monkeypatch.setattr("fastdns.log.error", said.append)

    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port, good = taken.getsockname()[1], free_port()
            with pytest.raises(ListenError, match="address already in use"):
                await Observer().start(corefile(health=health(port)), rke2_config(), segments)
            with pytest.raises(ListenError, match="address already in use"):
                open_needed(corefile(health=health(port)), frozenset())
            observer = Observer(("127.0.0.1", port))
            file = corefile(health=health(good), prometheus=prometheus(port))
            await observer.start(file, rke2_config(), segments)
            reason = f"listen tcp 127.0.0.1:{port}: bind: address already in use"
            assert said == [f"plugin/prometheus: Failed to start metrics handler: {reason}"]
            late = free_port()
            bad = corefile(prometheus=prometheus(late), health=health(port))
            with pytest.raises(ListenError):
                await observer.apply(bad, rke2_config())
            assert await get(good, "/health") == (200, "OK")
            with pytest.raises(OSError):
                await get(late, "/metrics")
            await observer.stop()

    asyncio.run(run())


def test_what_could_not_be_had_is_tried_again(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old server still has the port: a later life, or a reload, goes on without it, and gets it later."""
    monkeypatch.setattr(module, "_PROBE_S", 0.01)
    monkeypatch.setattr(module, "_RETRY_TURNS", 2)

    async def run() -> None:
        observer = Observer()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            await observer.start(corefile(health=health(port)), rke2_config(), segments, strict=False)
            assert observer.addresses() == {}
        async with asyncio.timeout(10.0):
            while not observer.addresses():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await get(port, "/health") == (200, "OK")
        await observer.stop()

    asyncio.run(run())


def test_ready(segments: Segments) -> None:
    port = free_port()

    async def run() -> None:
        observer = Observer()
        block = {"ready": Ready(where=WHERE, address=("127.0.0.1", port), monitor="continuously")}
        await observer.start(corefile(**block), rke2_config(), segments)
        try:
            assert await get(port, "/ready") == (503, "worker-0,worker-1,coordinator")
            Region(segments.regions[0]).beat()
            assert await get(port, "/ready") == (503, "worker-1,coordinator")
        finally:
            await observer.stop()

    asyncio.run(run())


def test_lameduck(segments: Segments) -> None:
    """DNS and /health go on meanwhile (corefile.md section 4)."""
    port, other = free_port(), free_port()

    async def run() -> float:
        observer = Observer()
        file = corefile(
            health=health(port, lameduck_s=0.3), ready=Ready(where=WHERE, address=("127.0.0.1", other))
        )
        await observer.start(file, rke2_config(), segments)
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = asyncio.create_task(observer.lameduck())
        await asyncio.sleep(0)
        assert await get(port, "/health") == (200, "OK")
        assert await get(other, "/ready") == (503, "stopping")
        await task
        took = loop.time() - began
        await observer.stop()
        return took

    assert 0.3 <= asyncio.run(run()) < 2.0


def test_it_asks_itself(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROBE_S", 0.01)
    port = free_port()

    async def run() -> dict[str, int]:
        observer = Observer()
        await observer.start(corefile(health=health(port)), rke2_config(), segments)
        assert observer.ledger is not None
        ledger = observer.ledger
        async with asyncio.timeout(10.0):
            while sum(ledger.read()[f"health_times_{i}"] for i in range(6)) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await observer.stop()
        return observer.ledger.read()

    found = asyncio.run(run())
    assert found["health_failures"] == 0
    assert found["health_us"] > 0


def test_lines_come_out(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole object: a record in a ring, a line on stdout, the last ones at the end."""
    output, stdout = os.pipe()
    monkeypatch.setattr("fastdns.control.observe.log.Writer.__init__.__defaults__", (stdout,))
    ring = Ring(segments.logs[0])

    async def run() -> None:
        observer = Observer()
        await observer.start(corefile(), rke2_config(), segments)
        ring.error(b"\x01a\0", 3)
        loop = asyncio.get_running_loop()
        first = await loop.run_in_executor(None, os.read, output, 4096)
        assert first == b"[ERROR] plugin/errors: 2 a. A: no healthy proxies\n"
        ring.error(b"\x01b\0", 3)
        await observer.stop()

    try:
        asyncio.run(run())
        assert os.read(output, 4096) == b"[ERROR] plugin/errors: 2 b. A: no healthy proxies\n"
    finally:
        os.close(output)
        os.close(stdout)


def test_an_error_of_ours_is_not_the_end(segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tasks that nobody waits for: it is said, and they go on."""
    said: list[str] = []
    monkeypatch.setattr("fastdns.log.error", said.append)
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    calls = 0

    async def run() -> None:
        done = asyncio.Event()

        async def work() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ValueError("first")
            done.set()

        task = asyncio.create_task(module._keep_up(work))
        async with asyncio.timeout(5.0):
            await done.wait()
        task.cancel()

    asyncio.run(run())
    assert said == ["control: work: ValueError('first')"]


class Workers:
    """Two workers, by decree."""

    def __init__(self, segments: Segments) -> None:
        self.descriptors = segments.regions
        self.watch = Watch()
        self.workers = [Region(one) for one in segments.regions]

    def regions(self) -> "list[Stats]":
        return [read_region(one) for one in self.descriptors]

    def healthy(self, now_s: float) -> bool:
        return self.watch.healthy(self.regions(), now_s)


def test_health_is_slow_to_say_no(segments: Segments) -> None:
    """node-network.md section 6: no worker moved for 15 s, although each was replaced."""
    two = Workers(segments)
    for second in range(60):  # both stand still, nobody replaces them: the keeper's business
        assert two.healthy(second)
    two.workers[0].start()
    assert two.healthy(60)
    two.workers[1].start()
    assert not two.healthy(61)
    two.workers[1].beat()
    for second in range(62, 78):
        assert two.healthy(second)
    assert two.healthy(78), "the one that moved was not replaced since"
    two.workers[1].start()
    assert not two.healthy(79)


def test_health_waits_15_seconds(segments: Segments) -> None:
    two = Workers(segments)
    two.healthy(0)
    for one in two.workers:
        one.start()
    assert [second for second in range(1, 20) if not two.healthy(second)] == [16, 17, 18, 19]


def test_time_in_which_we_stood_still_ourselves_does_not_count(segments: Segments) -> None:
    two = Workers(segments)
    two.healthy(0)
    for one in two.workers:
        one.start()
    assert two.healthy(100)
    assert two.healthy(101)


def test_no_workers_at_all() -> None:
    assert Watch().healthy([], 0.0)


def test_who_is_missing(segments: Segments) -> None:
    two = Workers(segments)
    post = {**read_post(segments.post), "serving": 1}
    for one in two.workers:
        one.beat()
    assert two.watch.missing(two.regions(), post, 0) == []  # type: ignore[arg-type]
    two.workers[0].beat()
    assert two.watch.missing(two.regions(), post, 2) == []  # type: ignore[arg-type]
    assert two.watch.missing(two.regions(), post, 3) == ["worker-1"]  # type: ignore[arg-type]
