# SPDX-License-Identifier: Apache-2.0
"""Shared memory as a running server has it, for tests of what control makes of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastdns import _segments, _stats
from fastdns.control.addresses import Endpoint
from fastdns.control.config.model import (
    Bind,
    BindAddress,
    Cache,
    Corefile,
    Errors,
    Forward,
    Health,
    Key,
    Log,
    Position,
    Prometheus,
    ServerBlock,
    Settings,
)
from fastdns.control.model import Block, Config, Listener, Upstream, Zone
from fastdns.control.observe.figures import Figures
from fastdns.control.observe.names import Facts, Names
from fastdns.control.segments import Segments

WHERE = Position("/etc/Corefile", 1)
LOCAL = "169.254.20.10"


@contextmanager
def make_segments(workers: int = 2, log: int = 32768, series: int = 16) -> Iterator[Segments]:
    """Segments without a server behind them; the board is the keeper's of this process."""
    regions = tuple(
        _segments.create_region(i, pending=64, clients=128, slots=10, tcp=4096, series=series)
        for i in range(workers)
    )
    logs = tuple(_segments.create_log(f"test-{i}", log) for i in range(workers + 1))
    segments = Segments(
        config=-1,
        board=_segments.create_board(workers),
        post=_segments.create_post(),
        ledger=_segments.create_ledger(),
        regions=regions,
        logs=logs,
    )
    try:
        yield segments
    finally:
        for one in (segments.board, segments.post, segments.ledger, *regions, *logs):
            os.close(one)


def take(segments: Segments, names: Names | None = None, facts: Facts | None = None) -> Figures:
    """The figures that stand there now."""
    return Figures.take(segments, names or Names(), facts or Facts(), _stats.Ledger(segments.ledger))


def bind(*hosts: str) -> Bind:
    return Bind(where=WHERE, words=hosts, addresses=tuple(map(BindAddress, hosts)))


def rke2_blocks(*, log: tuple[Log, ...] = ()) -> tuple[ServerBlock, ...]:
    """Two of the blocks that RKE2's chart renders: the cluster's, and all other names."""
    return (
        ServerBlock(
            keys=(Key("cluster.local."), Key("corp.")),
            where=WHERE,
            bind=bind(LOCAL, "fd00::1"),
            errors=Errors(where=WHERE),
            cache=Cache(where=WHERE),
            forward=(Forward(where=WHERE, zones=(".",), to_words=("10.43.0.10",)),),
            prometheus=Prometheus(where=WHERE, address=("127.0.0.1", 9253)),
            health=Health(where=WHERE, address=("127.0.0.1", 8080)),
            log=log,
        ),
        ServerBlock(keys=(Key("."),), where=WHERE, cache=Cache(where=WHERE), log=log),
    )


def rke2(*, log: tuple[Log, ...] = ()) -> Corefile:
    return Corefile(path="/etc/Corefile", blocks=rke2_blocks(log=log), settings=Settings(), digest="ab" * 64)


def rke2_config() -> Config:
    """What the chain makes of it: four listeners, of which the wildcards are the unbound block's."""
    listeners = (
        Listener(Endpoint(LOCAL, 53), group=0),
        Listener(Endpoint("fd00::1", 53), group=0),
        Listener(Endpoint("0.0.0.0", 53), group=1),
        Listener(Endpoint("::", 53), group=1),
    )
    zones = (
        Zone("cluster.local.", group=0, block=0, metrics=True),
        Zone("corp.", group=0, block=0, metrics=True),
        Zone(".", group=1, block=1),
    )
    series: list[tuple[int, int | None, int]] = []
    for listener, zone in ((0, 0), (0, 1), (0, None), (1, 0), (1, 1), (1, None), (2, 2), (2, None), (3, 2)):
        series.append((listener, zone, len(series)))
    return Config(
        listeners=listeners,
        upstreams=(Upstream(Endpoint("10.43.0.10", 53), force_tcp=True), Upstream(Endpoint("10.0.0.2", 53))),
        zones=zones,
        blocks=(Block(uniform_ttl=True), Block(uniform_ttl=True)),
        worker_count=2,
        series=tuple(series),
    )
