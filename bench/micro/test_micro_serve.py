# SPDX-License-Identifier: Apache-2.0
"""ns for one hit in a worker, from packet to reply without the system calls, and what a Corefile adds.

Each round serves batches of 64 inside the compiled wrapper, without the GIL. `ns_per_op`, printed
with -s, is the best round's for one query. Under callgrind (docs/development.md) the same counts
instructions.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastdns import _segments
from fastdns._testing.serve_load import Serving
from fastdns._testing.worker import fill_cache, zone_fingerprint
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Config, Upstream, Zone, plain_config
from tests.wiretools import header, labels, question

CACHE = 8 << 20
NAMES = [labels(b"nginx-svc%02d" % n, b"default", b"svc", b"cluster", b"local") for n in range(64)]
ROUNDS = 30
TURNS = 400
LOG = 1 << 21  # nobody reads it: what doesn't fit is dropped, as with a control that is slow

CONFIGS: dict[str, Callable[[Zone], Zone]] = {
    "plain": lambda zone: zone,
    "metrics": lambda zone: replace(zone, metrics=True),
    "metrics, rotate": lambda zone: replace(zone, metrics=True, rotate=True),
    "metrics, log": lambda zone: replace(zone, metrics=True, log=True),
}


def config_of(change: Callable[[Zone], Zone]) -> Config:
    plain = plain_config((Endpoint("127.0.0.1", 53),), (Upstream(Endpoint("127.0.0.1", 9)),), 1)
    zone = change(Zone("cluster.local.", group=0, block=0))
    series = ((0, 1, 0), (0, None, 1)) if zone.metrics else ()
    return replace(plain, zones=(Zone(".", group=0, block=0), zone), series=series)


def serving(change: Callable[[Zone], Zone], records: int, **marked: int) -> Iterator[Serving]:
    """A worker with the 64 names in its cache, each with so many A records."""
    config = create_config(config_of(change))
    region = _segments.create_region(0, slots=_segments.cache_slots(CACHE), series=2)
    cache, log = _segments.create_cache(CACHE), _segments.create_log("worker-0", LOG)
    body = b"".join(
        struct.pack("!HHHIHI", 0xC00C, 1, 1, 30, 4, 0x0A000000 + number) for number in range(records)
    )
    answers = [
        (name, 1, body, [6 + 16 * number for number in range(records)], (records, 0, 0)) for name in NAMES
    ]
    try:
        fingerprint = zone_fingerprint(config, 1)
        assert fill_cache(cache, answers, zone=1, fingerprint=fingerprint, **marked) == len(NAMES)
        yield Serving(config, region, cache, log)
    finally:
        for descriptor in (config, region, cache, log):
            os.close(descriptor)


def measure(benchmark: BenchmarkFixture, server: Serving, limit: int, reply_len: int) -> None:
    packets = [header() + question(name) for name in NAMES]
    assert server.hits(packets, 1, limit)[1] == reply_len * len(NAMES)
    rounds: list[float] = []
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: rounds.append(server.hits(packets, TURNS, limit)[0]), rounds=ROUNDS, warmup_rounds=1
    )
    benchmark.extra_info["ns_per_op"] = round(min(rounds), 1)
    print(f"\n{benchmark.name}: {min(rounds):.1f} ns")


@pytest.mark.parametrize("plugins", CONFIGS)
def test_hit(benchmark: BenchmarkFixture, plugins: str) -> None:
    for server in serving(CONFIGS[plugins], 1):
        measure(benchmark, server, 1232, 12 + len(NAMES[0]) + 4 + 16)


@pytest.mark.parametrize("rotate", [0, 1], ids=["as they lie", "rotated"])
@pytest.mark.parametrize("limit", [512, 1232, 4096])
def test_hit_of_many_records(benchmark: BenchmarkFixture, limit: int, rotate: int) -> None:
    """260 addresses, of which a reply has what fits."""
    base = 12 + len(NAMES[0]) + 4
    for server in serving(CONFIGS["metrics, rotate"], 260, rotate=rotate):
        measure(benchmark, server, limit, base + (limit - base) // 16 * 16)
