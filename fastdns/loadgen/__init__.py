# SPDX-License-Identifier: Apache-2.0
"""The native load generator: DNS over UDP, faster on one core than any server on another.

``run(LoadSpec(...))`` loads a server from this process and thread; ``run_process`` does it from a process of
its own, on the cores that it is told, which is what a measurement wants. ``python -m fastdns.loadgen
--help`` is that process.
"""

import random
import resource
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fastdns.loadgen._generator import Generator, histogram_bounds
from fastdns.loadgen.process import run_process
from fastdns.loadgen.queries import encode_query, numbered_names, read_names, unique_query
from fastdns.loadgen.spec import RCODES, Latency, LoadResult, LoadSpec

if TYPE_CHECKING:
    from fastdns.loadgen._generator import Totals  # a type of the stub; the extension has none

__all__ = ["Latency", "LoadResult", "LoadSpec", "numbered_names", "read_names", "run", "run_process"]

_STEP_S: Final = 0.1  # between two looks at signals and the progress callback
_NAP_WINDOW: Final = 256  # below this the server could fall idle during a nap
_RECEIVE_QUEUE: Final = 4 << 20
_WAITS: Final = {"poll": 0, "nap": 1, "spin": 2}


def run(spec: LoadSpec, progress: Callable[[LoadResult], None] | None = None) -> LoadResult:
    """Do what `spec` says and return the figures. Ctrl-C ends it within 100 ms, as KeyboardInterrupt.

    `progress` is called about ten times a second with the figures so far.
    """
    generator, sockets = _prepare(spec)
    try:
        deadline = time.monotonic() + (spec.seconds if spec.seconds is not None else float("inf"))
        more = True
        while more and (left := deadline - time.monotonic()) > 0:
            more = generator.step(min(_STEP_S, left))
            if progress is not None:
                progress(_result(generator.totals()))
        # What was sent in the last moment may still be answered; after the timeout (and a look for it)
        # nothing can be.
        deadline = time.monotonic() + spec.timeout_s + 2 * _STEP_S
        while more and time.monotonic() < deadline:
            more = generator.step(_STEP_S, sending=False)
        return _result(generator.totals())
    finally:
        for sock in sockets:
            sock.close()


def _prepare(spec: LoadSpec) -> tuple[Generator, list[socket.socket]]:
    if spec.unique_suffix is not None:
        queries = [unique_query(spec.unique_suffix, spec.qtype, spec.edns, spec.dnssec_ok)]
    else:
        queries = [encode_query(name, qtype, spec.edns, spec.dnssec_ok) for name, qtype in spec.names]
    wait = spec.wait
    if wait == "auto":
        wait = "nap" if spec.rate is None and spec.window >= _NAP_WINDOW else "poll"
    sockets: list[socket.socket] = []
    try:
        sockets.extend(_connected(spec.server) for _ in range(spec.sockets))  # what was opened stays in it
        generator = Generator(
            [sock.fileno() for sock in sockets],
            queries,
            unique=spec.unique_suffix is not None,
            random_order=spec.order == "random",
            verify=spec.verify,
            wait=_WAITS[wait],
            window=spec.window,
            rate=spec.rate or 0.0,
            count=spec.count or 0,
            timeout_s=spec.timeout_s,
            seed=random.SystemRandom().getrandbits(64),
        )
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return generator, sockets


def _connected(server: tuple[str, int]) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(*server, type=socket.SOCK_DGRAM)[0]
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        raise OSError(
            error.errno, f"no more sockets ({limit} open files allowed): {error.strerror}"
        ) from error
    # A reply that our own queue drops would count as the server's loss. The forced size needs CAP_NET_ADMIN.
    try:
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _RECEIVE_QUEUE)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_QUEUE)
    sock.setblocking(False)
    sock.connect(address)
    return sock


def _result(totals: "Totals") -> LoadResult:
    elapsed = totals["busy_ns"] / 1e9
    answered = totals["answered"]
    return LoadResult(
        sent=totals["sent"],
        answered=answered,
        timeouts=totals["timeouts"],
        late=totals["late"],
        lost=max(0, totals["timeouts"] - totals["late"]),
        stray=totals["stray"],
        mismatched=totals["mismatched"],
        truncated=totals["truncated"],
        refused=totals["refused"],
        send_errors=totals["send_errors"],
        held_back=totals["held_back"],
        in_flight=totals["in_flight"],
        elapsed_s=elapsed,
        answers_per_s=answered / elapsed if elapsed else 0.0,
        octets_in=totals["octets_in"],
        rcodes={
            RCODES[code] if code < len(RCODES) else f"RCODE{code}": count
            for code, count in enumerate(totals["rcodes"])
            if count
        },
        latency_us=_latency(totals),
    )


def _latency(totals: "Totals") -> Latency:
    count = totals["answered"]
    if not count:
        return Latency()
    points = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    found: dict[str, float] = {}
    seen = 0
    for index, here in enumerate(totals["histogram"]):
        if not here:
            continue
        seen += here
        for name, share in points.items():
            if name not in found and seen >= share * count:
                low, high = histogram_bounds(index)
                found[name] = min((low + high) / 2, totals["latency_max_ns"]) / 1e3
    return Latency(
        min=totals["latency_min_ns"] / 1e3,
        mean=totals["latency_sum_ns"] / count / 1e3,
        max=totals["latency_max_ns"] / 1e3,
        **found,
    )
