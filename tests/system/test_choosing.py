# SPDX-License-Identifier: Apache-2.0
"""Slow upstreams and lost packets, seen from clients (user-wants.md rows 16, 26). Every query is a miss."""

import asyncio
import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdns.loadgen.process import run_process
from fastdns.loadgen.spec import LoadResult, LoadSpec
from tests.peers.run import free_port
from tests.system.netns import network, skip_without_network_namespaces
from tests.system.server import Server, serve

RIGHT = "192.0.2.1"
AWAY_S = 0.04  # of an upstream that fares well: more than a busy machine adds
SLOW_S = 1.0
LIBC_S = 5.0  # a libc's own timeout
LOSS_PERCENT = 2  # of each direction


class Far(asyncio.DatagramProtocol):
    """An upstream `away_s` from here that takes next to no time itself, and counts."""

    def __init__(self) -> None:
        self.away_s = AWAY_S
        self.asked = 0
        self.transport: asyncio.DatagramTransport  # set by who made it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        question = data[12 : data.index(0, 12) + 5]
        record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4" + socket.inet_aton(RIGHT)
        reply = data[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + question + record
        asyncio.get_running_loop().call_later(self.away_s, self.transport.sendto, reply, addr)


@contextlib.contextmanager
def far() -> Iterator[tuple[Far, tuple[str, int]]]:
    """Such an upstream in a thread of its own, and where it is."""
    loop = asyncio.new_event_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    server = Far()
    server.transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(lambda: server, sock=sock))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server, sock.getsockname()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def load(server: Server, seconds: float, rate: int, suffix: str) -> LoadResult:
    return run_process(
        LoadSpec(server.endpoint, unique_suffix=suffix, seconds=seconds, rate=rate, timeout_s=LIBC_S)
    )


@pytest.mark.stress
def test_one_of_two_upstreams_turns_slow(tmp_path: Path) -> None:
    """One answers after 1 s from now on: p99 of misses stays within 1.5 times that of the other one."""
    with far() as (good, good_at), far() as (bad, bad_at):
        listen = ("127.0.0.1", free_port())
        conf = tmp_path / "Corefile"
        upstreams = f"127.0.0.1:{good_at[1]} 127.0.0.1:{bad_at[1]}"
        conf.write_text(f".:{listen[1]} {{\nbind {listen[0]}\nforward . {upstreams}\n}}\n")
        with serve([], listen=[listen], conf=conf) as server:
            before = load(server, 3.0, 200, "before.test")
            asked = good.asked + bad.asked
            bad.away_s = SLOW_S
            after = load(server, 10.0, 200, "after.test")
            asked = good.asked + bad.asked - asked
    assert min(good.asked, bad.asked) > 200, "policy random"
    assert after.answered == after.sent
    assert after.latency_us.p99 <= 1.5 * before.latency_us.p99, (before.latency_us, after.latency_us)
    assert asked <= 1.1 * after.sent, "5 % of hedges, what was asked again while it turned, and checks"


@pytest.mark.stress
@skip_without_network_namespaces
def test_lost_packets_upstream() -> None:
    """2 % of the questions and 2 % of the responses are lost: p99.9 under 600 ms."""
    with network() as net, net.entered():
        with far() as (_, (address, port)):
            # On the way in: what is dropped on its way out is an error for its sender.
            rules = "".join(
                f"add rule inet loss in udp {end} {port} numgen random mod 100 < {LOSS_PERCENT} drop\n"
                for end in ("dport", "sport")
            )
            table = "add table inet loss\nadd chain inet loss in { type filter hook input priority 0; }\n"
            subprocess.run(["nft", "-f", "-"], input=table + rules, text=True, check=True)
            with serve((address, port)) as server:
                began = time.monotonic()
                result = load(server, 12.0, 150, "lossy.test")
                assert time.monotonic() - began < 30
                stats = server.stats()
    assert result.answered == result.sent
    assert set(result.rcodes) == {"NOERROR"}, (result, stats.coordinator)
    assert result.latency_us.p999 < 600_000, result.latency_us
    assert stats.counter("upstream_retries") >= result.sent * LOSS_PERCENT / 100, "was anything lost?"
