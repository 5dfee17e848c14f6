# SPDX-License-Identifier: Apache-2.0
"""ns for one parse, hash, reply, response and rewriting.

Each round calls the function many times inside the compiled wrapper, without the GIL and without
Python in between. The table's times are those of a whole round; `ns_per_op` in the extra info,
printed with -s, is the best round's for one call.
"""

import struct
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastdns._testing import wire
from tests.wiretools import header, labels, opt, question, record

CALLS = 100_000
ROUNDS = 30
NAME = labels(b"nginx-svc1", b"default", b"svc", b"cluster", b"local")  # 38 octets
LONG = labels(b"a-rather-long-service-name", b"a-long-namespace-name", b"svc", b"cluster", b"local")
POINTER = b"\xc0\x0c"
RESPONSE = 0x8180
A = record(POINTER, 1, b"\x0a\x00\x00\x01", ttl=30)
SOA = record(
    labels(b"cluster", b"local"),
    6,
    labels(b"ns", b"dns", b"cluster", b"local") + labels(b"hostmaster", b"cluster", b"local") + bytes(20),
)
HEADLESS = header(flags=RESPONSE, an=100) + question(NAME)
HEADLESS += b"".join(record(NAME, 1, struct.pack("!I", i), ttl=5) for i in range(100))


def measure(benchmark: BenchmarkFixture, run: Callable[[int], float], calls: int = CALLS) -> None:
    """Let pytest-benchmark repeat `run(calls)`; keep the best ns for one call."""
    rounds: list[float] = []
    benchmark.pedantic(lambda: rounds.append(run(calls)), rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["ns_per_op"] = round(min(rounds), 1)
    print(f"\n{benchmark.name}: {min(rounds):.1f} ns")


@pytest.mark.parametrize("name", [NAME, LONG], ids=["38 octets", "70 octets"])
def test_fold_and_hash(benchmark: BenchmarkFixture, name: bytes) -> None:
    measure(benchmark, lambda n: wire.bench_hash(name, n))


@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
def test_parse_query(benchmark: BenchmarkFixture, edns: bytes) -> None:
    packet = header(ar=1 if edns else 0) + question(NAME) + edns
    measure(benchmark, lambda n: wire.bench_parse(packet, n))


@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
@pytest.mark.parametrize("records", [1, 10])
def test_compose(benchmark: BenchmarkFixture, records: int, edns: bytes) -> None:
    packet = header(ar=1 if edns else 0) + question(NAME) + edns
    entry = wire.Entry(A * records, [6 + len(A) * i for i in range(records)], (records, 0, 0))
    measure(benchmark, lambda n: wire.bench_compose(entry, packet, 1232, 3000, n))


def test_compose_truncated(benchmark: BenchmarkFixture) -> None:
    entry = wire.Entry(A * 100, [6 + len(A) * i for i in range(100)], (100, 0, 0))
    packet = header() + question(NAME)
    measure(benchmark, lambda n: wire.bench_compose(entry, packet, 512, 3000, n), CALLS // 10)


RESPONSES = {
    "A": header(flags=RESPONSE, an=1, ar=1) + question(NAME) + A + opt(),
    "A, uncompressed": header(flags=RESPONSE, an=1, ar=1) + question(NAME) + record(NAME, 1, b"abcd") + opt(),
    "NXDOMAIN": header(flags=RESPONSE | 3, ns=1) + question(NAME) + SOA,
    "100 addresses, uncompressed": HEADLESS,
}


@pytest.mark.parametrize("message", RESPONSES.values(), ids=RESPONSES.keys())
def test_parse_response(benchmark: BenchmarkFixture, message: bytes) -> None:
    measure(benchmark, lambda n: wire.bench_parse_answer(message, n), CALLS // 10)


@pytest.mark.parametrize("message", RESPONSES.values(), ids=RESPONSES.keys())
def test_compress(benchmark: BenchmarkFixture, message: bytes) -> None:
    measure(benchmark, lambda n: wire.bench_compress(message, n), CALLS // 10)
