# SPDX-License-Identifier: Apache-2.0
"""Traffic as clients shouldn't send it: all from one socket, random octets, connections that never finish."""

import os
import random
import secrets
import socket
import struct
import threading
import time

import dns.message
import dns.rcode
import pytest

from fastdns.loadgen.process import run_process
from fastdns.loadgen.spec import LoadSpec
from tests.counts import count
from tests.peers import make_zone
from tests.peers.run import Peer
from tests.system.clients import TCP, UDP, Client, Variant
from tests.system.server import Server, serve

NAME = "nginx-svc.default.svc.cluster.local"
NAMES = [(name, rdtype) for name, rdtype in make_zone.questions(make_zone.CLUSTER) if "headless-" not in name]
FAIR_SHARE = 0.60  # of one socket's queries, for either of two workers
FLOOD_BURST = 32


def test_one_socket_is_shared_by_the_workers(server: Server) -> None:
    """One client socket at full speed: the choice by message ID gives neither worker more than 60 %."""
    before = server.stats()
    result = run_process(LoadSpec(server.endpoint, names=NAMES, seconds=2.0, window=256, sockets=1))
    after = server.stats()
    shares = [
        after.worker_counter(index, "udp_queries") - before.worker_counter(index, "udp_queries")
        for index in (0, 1)
    ]
    assert result.timeouts == 0, result
    assert sum(shares) >= result.answered
    assert max(shares) <= FAIR_SHARE * sum(shares), shares


def test_few_sockets_at_full_speed_lose_nothing(server: Server) -> None:
    """Hits and misses mixed, window after window: each question has its answer, and the right one."""
    result = run_process(
        LoadSpec(server.endpoint, names=NAMES, seconds=3.0, window=512, sockets=4, order="random")
    )
    assert result.timeouts == 0, result
    assert result.mismatched == 0, result
    assert set(result.rcodes) == {"NOERROR"}, result


@pytest.mark.fault
def test_flood_of_random_packets(coredns: Peer) -> None:
    """Random and mutated datagrams at full speed: during the flood and after it questions are answered."""
    total = count("flood_packets") // 2
    with serve(coredns.server) as server:
        flood = threading.Thread(target=flood_with_packets, args=(server.endpoint, total))
        flood.start()
        during = 0
        with Client(server.endpoint) as client:
            while flood.is_alive():
                assert client.ask(NAME).rcode() == dns.rcode.NOERROR
                during += 1
                time.sleep(0.005)
            flood.join()
            for variant in (UDP, TCP, Variant(edns=1232, dnssec_ok=True)):
                assert client.ask(NAME, "A", variant).rcode() == dns.rcode.NOERROR
                missing = client.ask(f"{secrets.token_hex(4)}.svc.cluster.local", "A", variant)
                assert missing.rcode() == dns.rcode.NXDOMAIN
        stats = server.stats()
        assert during > 10
        assert stats.counter("udp_queries") > total // 2, "the kernel dropped most of the flood"
        assert stats.counter("dropped_short") > 0
        assert stats.counter("dropped_response") > 0
        assert stats.counter("formerr") > 0
        assert not stats.restarts, stats.children


def flood_with_packets(endpoint: tuple[str, int], total: int) -> None:
    """Send `total` datagrams: noise, and real queries with some octets changed, added or cut off."""
    rng = random.Random(20)  # the same packets each time
    query = dns.message.make_query(NAME, "A", use_edns=0, payload=1232, want_dnssec=True).to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(endpoint)
        for sent in range(0, total, FLOOD_BURST):
            for _ in range(FLOOD_BURST):
                try:
                    sock.send(random_packet(rng, query))
                except ConnectionRefusedError as error:
                    raise AssertionError("nobody listens any more") from error
            if sent % (FLOOD_BURST * 64) == 0:
                drain(sock)


def drain(sock: socket.socket) -> None:
    """Throw away what has come."""
    try:
        while True:
            sock.recv(65535, socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass


def random_packet(rng: random.Random, query: bytes) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(64))
    if kind == 1:
        return rng.randbytes(rng.randrange(1400))
    packet = bytearray(query)
    for _ in range(rng.randrange(1, 5)):
        packet[rng.randrange(len(packet))] = rng.randrange(256)
    if kind == 2:
        return bytes(packet[: rng.randrange(len(packet))])
    if kind == 3:
        return bytes(packet) + rng.randbytes(rng.randrange(40))
    if kind == 4:  # header counts of one's own, the question whole
        return query[:2] + rng.randbytes(10) + query[12:]
    return bytes(packet)


def test_hostile_tcp_clients(coredns: Peer) -> None:
    """Noise, lengths that nothing follows, half a message, connections closed at once: others go on."""
    rng = random.Random(21)
    query = dns.message.make_query(NAME, "A").to_wire()
    framed = struct.pack("!H", len(query)) + query
    starts = [b"", b"\0", b"\xff\xff", b"\0\0", b"\0\x01\x00", framed[:7], framed + b"\x10", os.urandom(900)]
    with serve(coredns.server) as server:
        held: list[socket.socket] = []
        try:
            for number in range(400):
                sock = socket.create_connection(server.endpoint, 2.0)
                held.append(sock)
                sock.sendall(starts[number % len(starts)])
                if number % 3 == 0:
                    held.pop(rng.randrange(len(held))).close()
                if number % 50 == 0:
                    with Client(server.endpoint) as client:
                        assert client.ask(NAME, "A", TCP).rcode() == dns.rcode.NOERROR
                        assert client.ask(NAME, "A", UDP).rcode() == dns.rcode.NOERROR
        finally:
            for sock in held:
                sock.close()
        assert not server.stats().restarts


def test_pipelined_tcp(server: Server) -> None:
    """200 questions written at once on one connection, hits and misses mixed: all come back, in any order."""
    asked = {}
    for number in range(200):
        name = NAME if number % 2 else f"pipelined-{secrets.token_hex(4)}.svc.cluster.local"
        query = dns.message.make_query(name, "A")
        query.id = number
        asked[number] = query
    with socket.create_connection(server.endpoint, 5.0) as sock:
        wires = [query.to_wire() for query in asked.values()]
        sock.sendall(b"".join(struct.pack("!H", len(wire)) + wire for wire in wires))
        stream = sock.makefile("rb")
        for _ in range(len(wires)):
            (length,) = struct.unpack("!H", stream.read(2))
            response = dns.message.from_wire(stream.read(length))
            assert asked.pop(response.id).is_response(response)
    assert not asked


def test_more_names_than_places(coredns: Peer) -> None:
    """Names by the ten thousand through a small cache: it keeps its bounds, evicts, and answers right."""
    with serve(coredns.server, arguments=["--memory", "8M"]) as server:
        unique = LoadSpec(
            server.endpoint, unique_suffix="svc.cluster.local", count=60_000, window=128, timeout_s=4.0
        )
        result = run_process(unique)
        assert result.rcodes == {"NXDOMAIN": 60_000}, result
        stats = server.stats()
        assert (
            stats.counter("evicted_bytes") + stats.counter("evicted_bucket") + stats.counter("expired")
            > 10_000
        )
        assert stats.coordinator["entry_octets"] < 8 << 20
        assert stats.coordinator["entries"] > 1000
        names = LoadSpec(
            server.endpoint, names=NAMES, count=30_000, window=128, timeout_s=4.0, order="random"
        )
        result = run_process(names)
        assert result.rcodes == {"NOERROR": 30_000}, result
        with Client(server.endpoint) as client:
            assert [str(rdata) for rdata in client.ask(NAME).answer[0]] == ["10.43.10.20"]
        assert not server.stats().restarts
