# SPDX-License-Identifier: Apache-2.0
"""What a worker counts behind CoreDNS's labels, and what its clients waited."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dns.flags
import dns.rcode
import pytest

from fastdns._testing.worker import fill_cache, zone_fingerprint
from fastdns.control.model import Block, Config, Zone
from tests.workertools import Node, a_records, ask_tcp, ask_udp, query, receive, serving, until, wire

UDP, TCP = 0, 1
TYPES = [
    "A",
    "AAAA",
    "CNAME",
    "DNSKEY",
    "DS",
    "HTTPS",
    "MX",
    "NS",
    "NSEC",
    "NSEC3",
    "PTR",
    "RRSIG",
    "SOA",
    "SRV",
    "TXT",
    "ANY",
    "AXFR",
    "IXFR",
]  # CoreDNS's; then `other`
OTHER = len(TYPES)
NONE, CACHE, LOADBALANCE, FORWARD, HOSTS, DNS64 = 0, 1, 2, 3, 4, 7  # FD_PLUGIN_*
SIZES = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
TIMES_US = tuple(250 << k for k in range(16))
POSITIVE, NODATA, NXDOMAIN, FAILURE = 1, 2, 3, 4
DROPPED = 1  # the number of the series of what no zone takes


def configure(caching: bool = True, **of_zone: Any) -> Callable[[Config], Config]:
    """One zone, test., whose series is number 0."""

    def change(config: Config) -> Config:
        blocks = tuple(replace(block, caching=caching) if block else None for block in config.blocks)
        zone = Zone("test.", group=0, block=0, **({"metrics": True} | of_zone))
        return replace(config, zones=(zone,), blocks=blocks, series=((0, 0, 0), (0, None, DROPPED)))

    return change


def bucket(bounds: tuple[int, ...], value: float) -> int:
    return next((index for index, bound in enumerate(bounds) if value <= bound), len(bounds))


def store(node: Node, name: str, qtype: int = 1, **marked: int) -> int:
    """Put an answer of one record into the cache; the octets of its reply."""
    answer = (wire(name), qtype, *a_records(["192.0.2.1"]))
    fingerprint = zone_fingerprint(node.handles.config, 0)
    assert fill_cache(node.cache, [answer], fingerprint=fingerprint, **marked) == 1
    return 12 + len(wire(name)) + 4 + 16


def ones(nested: Any) -> set[tuple[int, ...]]:
    """Where something was counted."""
    if isinstance(nested, int):
        return {()} if nested else set()
    return {(index, *rest) for index, one in enumerate(nested) for rest in ones(one)}


def test_a_hit() -> None:
    with serving(configure()) as (node, client):
        size = store(node, "www.test.", plain_len=700)
        message = query("wWw.test.", use_edns=0, want_dnssec=False)
        assert len(ask_udp(client, message).to_wire()) < size + 12
        until(lambda: sum(node.end.waits()[0]))
        counted = node.end.series(0)
        assert ones(counted["requests"]) == {(UDP, TYPES.index("A"))}
        assert ones(counted["responses"]) == {(CACHE, dns.rcode.NOERROR)}
        assert ones(counted["request_sizes"]) == {(UDP, bucket(SIZES, len(message.to_wire())))}
        assert counted["request_octets"] == [len(message.to_wire()), 0]
        assert ones(counted["response_sizes"]) == {(UDP, bucket(SIZES, 700))}
        assert counted["response_octets"] == [700, 0]
        assert sum(counted["times"]) == 1
        assert 0 < counted["times_us"] < 1_000_000
        assert (counted["cache_hits"], counted["cache_misses"]) == ([1, 0], 0)
        assert (counted["do_requests"], counted["served_stale"]) == (0, 0)
        assert ones(node.end.series(DROPPED)["requests"]) == set()


def test_a_miss_and_who_joined_it() -> None:
    """Each joined client counts as request and miss; the wait is each client's own."""
    with serving(configure()) as (node, client):
        message = query("slow.test.", "AAAA", use_edns=0, want_dnssec=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.connect(node.address)
            other.settimeout(5)
            for sock in (client, other):
                sock.send(message.to_wire())
            question = node.question()
            until(lambda: node.end.clients == 2)
            begun = time.monotonic()
            time.sleep(0.03)  # the wait that is to be seen
            assert sum(node.end.series(0)["times"]) == 0
            node.end.answer(question, *a_records(["192.0.2.1"]), plain_len=5000)
            least_us = (time.monotonic() - begun) * 1e6 * 0.9
            assert receive(client).answer == receive(other).answer
        counted = node.end.series(0)
        assert counted["requests"][UDP][TYPES.index("AAAA")] == 2
        assert counted["responses"][CACHE][dns.rcode.NOERROR] == 2
        assert counted["response_sizes"][UDP][bucket(SIZES, 5000)] == 2
        assert counted["do_requests"] == 2
        assert (counted["cache_hits"], counted["cache_misses"]) == ([0, 0], 2)
        assert sum(counted["times"]) == 2
        assert counted["times_us"] >= 2 * least_us
        assert sum(counted["times"][: bucket(TIMES_US, least_us)]) == 0
        hits, hits_us, misses, misses_us = node.end.waits()
        assert (sum(hits), hits_us, sum(misses)) == (0, 0, 2)
        assert misses_us == counted["times_us"]


@pytest.mark.parametrize(
    ("kind", "entry_plugin", "zone", "plugin", "classes"),
    [
        (POSITIVE, FORWARD, {}, CACHE, [1, 0]),
        (NODATA, FORWARD, {}, CACHE, [0, 1]),
        (NXDOMAIN, FORWARD, {"rotate": True}, LOADBALANCE, [0, 1]),
        (FAILURE, FORWARD, {}, CACHE, [0, 1]),
        (POSITIVE, HOSTS, {"rotate": True}, LOADBALANCE, [1, 0]),
        (POSITIVE, DNS64, {"rotate": True}, DNS64, [1, 0]),
        (POSITIVE, HOSTS, {"caching": False}, HOSTS, [0, 0]),
        (POSITIVE, 200, {"caching": False}, NONE, [0, 0]),
    ],
)
def test_plugin_and_class_labels(
    kind: int, entry_plugin: int, zone: dict[str, bool], plugin: int, classes: list[int]
) -> None:
    with serving(configure(**zone)) as (node, client):
        store(node, "www.test.", kind=kind, plugin=entry_plugin)
        ask_udp(client, query("www.test."))
        counted = node.end.series(0)
        assert ones(counted["responses"]) == {(plugin, 0)}
        assert counted["cache_hits"] == classes


def test_types() -> None:
    with serving(configure()) as (node, client):
        for name in (*TYPES, "CAA"):
            client.send(query("www.test.", name).to_wire())
            if name in ("AXFR", "IXFR"):
                assert receive(client).rcode() == dns.rcode.REFUSED
            else:
                node.end.fail(node.question(), 22)
                assert receive(client).rcode() == dns.rcode.SERVFAIL
        asked = [1 if name not in ("AXFR", "IXFR") else 0 for name in TYPES]
        assert node.end.series(0)["requests"] == [[*asked, 1], [0] * (OTHER + 1)]
        assert node.end.series(DROPPED)["requests"][UDP] == [1 - one for one in asked] + [0]


def test_failures_are_the_cores_own() -> None:
    """Nothing was written by a plugin: no label, size 0."""
    with serving(configure()) as (node, client):
        client.send(query("dead.test.").to_wire())
        node.end.fail(node.question(), 22)
        assert receive(client).rcode() == dns.rcode.SERVFAIL
        counted = node.end.series(0)
        assert ones(counted["responses"]) == {(NONE, dns.rcode.SERVFAIL)}
        assert ones(counted["response_sizes"]) == {(UDP, 0)}
        client.send(query("away.test.").to_wire())
        node.end.answer(node.question(), *a_records([]), msg_flags=dns.rcode.REFUSED, zone=0xFFFF)
        assert receive(client).rcode() == dns.rcode.REFUSED
        assert ones(node.end.series(0)["responses"]) == {
            (NONE, dns.rcode.SERVFAIL),
            (NONE, dns.rcode.REFUSED),
        }


def test_tcp_has_numbers_of_its_own() -> None:
    with serving(configure()) as (node, _):
        size = store(node, "www.test.")
        message = query("www.test.")
        ask_tcp(node, message)
        until(lambda: sum(node.end.series(0)["times"]))
        counted = node.end.series(0)
        assert ones(counted["requests"]) == {(TCP, TYPES.index("A"))}
        assert counted["request_octets"] == [0, len(message.to_wire())]
        assert counted["response_octets"] == [0, size]
        assert sum(node.end.waits()[0]) == 1


def test_without_prometheus_only_the_cache_counts() -> None:
    with serving(configure(metrics=False)) as (node, client):
        store(node, "www.test.")
        ask_udp(client, query("www.test."))
        client.send(query("new.test.").to_wire())
        node.end.answer(node.question(), *a_records(["192.0.2.1"]))
        receive(client)
        assert ask_udp(client, query("other.")).rcode() == dns.rcode.REFUSED
        counted = node.end.series(0)
        assert (counted.pop("cache_hits"), counted.pop("cache_misses")) == ([1, 0], 1)
        assert all(ones(one) == set() for one in counted.values())
        dropped = node.end.series(DROPPED)
        assert ones(dropped["requests"]) == {(UDP, TYPES.index("A"))}
        assert ones(dropped["responses"]) == {(NONE, dns.rcode.REFUSED)}
        assert dropped["response_octets"] == [12 + len(wire("other.")) + 4, 0]
        assert dropped["times"][0] == 1


def test_what_is_rejected_before_parsing_is_counted_nowhere() -> None:
    with serving(configure()) as (node, client):
        for message in (
            query("www.test.", use_edns=1),  # BADVERS
            query("www.test.", flags=dns.flags.RD | 0x2800),  # UPDATE: NOTIMP
        ):
            assert receive_after(client, message.to_wire()) in (16, dns.rcode.NOTIMP)
        assert receive_after(client, query("www.test.").to_wire() + b"x") == dns.rcode.FORMERR
        for number in (0, DROPPED):
            assert all(ones(one) == set() for one in node.end.series(number).values())


def receive_after(client: socket.socket, octets: bytes) -> int:
    client.send(octets)
    return receive(client).rcode()


def test_counts_go_on_over_a_death() -> None:
    with serving(configure()) as (node, client):
        store(node, "www.test.")
        for died in range(3):
            ask_udp(client, query("www.test."))
            until(lambda: sum(node.end.series(0)["times"]) > died)
            node.processes[-1].kill()
            node.processes[-1].join()
            node.start()
        assert node.end.series(0)["requests"][UDP][0] == 3
        assert sum(node.end.waits()[0]) == 3


def test_series_that_the_region_has_no_room_for() -> None:
    """A reload may ask for more than the region was made with."""
    with serving(configure(), series=1) as (node, client):
        assert ask_udp(client, query("other.")).rcode() == dns.rcode.REFUSED
        store(node, "www.test.")
        ask_udp(client, query("www.test."))
        assert sum(node.end.series(0)["requests"][UDP]) == 1


def test_many_series_in_one_batch() -> None:
    """Each zone's hits are timed under its own series, however they are mixed."""

    def change(config: Config) -> Config:
        zones = tuple(Zone(f"z{n}.test.", group=0, block=0, metrics=True) for n in range(70))
        blocks = tuple(replace(block or Block(), caching=True) for block in config.blocks)
        return replace(config, zones=zones, blocks=blocks, series=tuple((0, n, n) for n in range(70)))

    with serving(change, series=70) as (node, client):
        fingerprint = zone_fingerprint(node.handles.config, 0)
        for n in range(70):
            answer = (wire(f"z{n}.test."), 1, *a_records(["192.0.2.1"]))
            assert fill_cache(node.cache, [answer], fingerprint=fingerprint, zone=n) == 1
        os.kill(node.processes[-1].pid, 19)  # SIGSTOP: what comes now is one batch, and one more
        for n in range(70):
            client.send(query(f"z{n}.test.").to_wire())
        os.kill(node.processes[-1].pid, 18)  # SIGCONT
        for _ in range(70):
            receive(client)
        until(lambda: sum(node.end.waits()[0]) == 70)
        for n in range(70):
            counted = node.end.series(n)
            assert (sum(counted["requests"][UDP]), sum(counted["times"])) == (1, 1)
