# SPDX-License-Identifier: Apache-2.0
"""control/probe: what is concluded from who gets what; the workers and the keeper are the test's."""

import asyncio

import pytest

from fastdns.control import probe
from fastdns.control.addresses import Endpoint

ADDRESSES = (Endpoint("127.0.0.1", 5300), Endpoint("::1", 5300))


class FakeLink:
    """Notes what control asks of the keeper."""

    def __init__(self) -> None:
        self.program: dict[int, bool] = {}

    def use_program(self, listener: int, use: bool) -> None:
        self.program[listener] = use


class World:
    """Which listeners a foreign socket shares, and whether workers come up or die."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.foreign: set[Endpoint] = set()
        self.serving = True
        self.dies = False
        self.starts = 1
        self.probes = 0
        monkeypatch.setattr(probe, "wait_until_serving", self.wait)
        monkeypatch.setattr(probe, "each_has_its_share", self.probe)
        monkeypatch.setattr(probe, "_starts", lambda regions: [self.starts])

    async def wait(self, regions: object, pause: object) -> bool:
        return self.serving

    async def probe(self, endpoint: Endpoint, regions: object, pause: object) -> bool:
        self.probes += 1
        self.starts += self.dies
        return not self.dies and endpoint not in self.foreign


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def check(watch: probe.ShareWatch) -> float:
    return asyncio.run(watch.check())


def watch_of(link: FakeLink, workers: int = 2) -> probe.ShareWatch:
    return probe.ShareWatch(link, dict(enumerate(ADDRESSES)), list(range(workers)))  # type: ignore[arg-type]


def test_all_well_is_looked_at_again_seldom(world: World) -> None:
    link = FakeLink()
    assert check(watch_of(link)) == 600
    assert link.program == {0: True, 1: True}


def test_a_foreign_socket_costs_its_listener_the_program(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    link = FakeLink()
    watch = watch_of(link)
    world.foreign = {ADDRESSES[1]}
    assert check(watch) == 60
    assert check(watch) == 60
    assert link.program == {0: True, 1: False}
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1  # said once
    assert lines[0].startswith("[WARNING] [::1]:5300: a worker does not get its share")
    world.foreign = set()
    assert check(watch) == 600
    assert link.program == {0: True, 1: True}
    assert capfd.readouterr().err == "[INFO] [::1]:5300: each worker gets its share again\n"


def test_a_worker_that_dies_meanwhile_is_no_foreign_socket(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    link = FakeLink()
    world.dies = True
    assert check(watch_of(link)) == 600
    assert link.program == {0: True, 1: True}
    assert capfd.readouterr().err == ""


def test_workers_that_do_not_serve_are_not_probed(world: World) -> None:
    link = FakeLink()
    world.serving = False
    check(watch_of(link))
    assert world.probes == 0
    assert link.program == {}


def test_one_worker_has_no_shares(world: World) -> None:
    link = FakeLink()
    check(watch_of(link, workers=1))
    assert world.probes == 0
    assert link.program == {}
