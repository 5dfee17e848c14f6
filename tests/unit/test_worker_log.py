# SPDX-License-Identifier: Apache-2.0
"""Lines for CoreDNS's `log`, `bufsize`, and how a worker leaves for its successor."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import dns.flags
import dns.rcode
import dns.rdatatype
import pytest

from fastdns import _segments
from fastdns._testing.worker import fill_cache, zone_fingerprint
from fastdns.control.model import Config, Zone
from tests.workertools import (
    PATIENCE_S,
    Node,
    a_records,
    ask_tcp,
    ask_udp,
    query,
    receive,
    serving,
    until,
    wire,
)

ROLL = 3  # FD_STOP_ROLL


def configure(**of_zone: Any) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        zones = (Zone("test.", group=0, block=0, **of_zone), Zone("quiet.test.", group=0, block=0))
        return replace(config, zones=zones)

    return change


def store(node: Node, name: str, addresses: int = 1, zone: int = 0, **marked: int) -> None:
    answer = (wire(name), 1, *a_records([f"192.0.2.{n % 256}" for n in range(addresses)]))
    fingerprint = zone_fingerprint(node.handles.config, zone)
    assert fill_cache(node.cache, [answer], fingerprint=fingerprint, zone=zone, **marked) == 1


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0", "::1"])
@pytest.mark.parametrize("hit", [True, False])
def test_a_line_for_each_query(listen: str, hit: bool) -> None:
    with serving(configure(log=True), listen) as (node, client):
        message = query("WwW.test.", use_edns=0, payload=900, want_dnssec=False)
        if hit:
            store(node, "www.test.", plain_len=777)
        client.send(message.to_wire())
        if not hit:
            node.end.answer(node.question(), *a_records(["192.0.2.1"]), plain_len=777)
        reply = receive(client)
        line = node.line()
        family, port = struct.unpack_from("=H2s", line["peer"])
        assert (family, int.from_bytes(port)) == (client.family, client.getsockname()[1])
        at = 8 if client.family == socket.AF_INET6 else 4
        octets = 16 if client.family == socket.AF_INET6 else 4
        assert socket.inet_ntop(client.family, line["peer"][at : at + octets]) == client.getsockname()[0]
        local = socket.inet_aton("127.0.0.1") if listen == "0.0.0.0" else bytes(4)
        assert line["local"][:4] == local
        assert (line["id"], line["qname"], line["qtype"], line["qclass"]) == (
            message.id,
            b"\3WwW\4test\0",
            1,
            1,
        )
        assert (line["zone"], line["listener"], line["tcp"], line["edns"]) == (0, 0, 0, 1)
        assert line["query_flags"] == int(message.flags)
        assert line["reply_flags"] == int(reply.flags)
        assert (line["rcode"], line["reply_size"], line["udp_size"]) == (0, 777, 900)
        assert line["request_size"] == len(message.to_wire())
        assert abs(line["time_ms"] - _segments.now_ms()) < 10_000
        assert line["duration_us"] < 5_000_000


@pytest.mark.parametrize("hit", [True, False])
def test_lines_of_tcp(hit: bool) -> None:
    with (
        serving(configure(log=True)) as (node, _),
        closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as sock,
    ):
        if hit:
            store(node, "www.test.")
        octets = query("www.test.").to_wire()
        sock.sendall(struct.pack("!H", len(octets)) + octets)
        if not hit:
            node.end.answer(node.question(), *a_records(["192.0.2.1"]))
        line = node.line()
        assert (line["tcp"], line["udp_size"]) == (1, 65535)
        port = int.from_bytes(line["peer"][2:4])
        assert (socket.inet_ntoa(line["peer"][4:8]), port) == sock.getsockname()


def test_no_plugin_wrote_anything() -> None:
    """A failure told by the coordinator, and one by the clock: flags 0, size 0, rcode SERVFAIL."""
    with serving(configure(log=True), deadline_ms=150) as (node, client):
        client.send(query("dead.test.").to_wire())
        node.end.fail(node.question(), 22)
        assert receive(client).rcode() == dns.rcode.SERVFAIL
        client.send(query("silent.test.").to_wire())
        assert receive(client).rcode() == dns.rcode.SERVFAIL
        for least_us in (0, 149_000):
            line = node.line()
            assert (line["reply_flags"], line["reply_size"], line["rcode"]) == (0, 0, dns.rcode.SERVFAIL)
            assert line["duration_us"] >= least_us


def test_only_zones_with_log_are_written_down() -> None:
    with serving(configure(log=True)) as (node, client):
        store(node, "www.quiet.test.", zone=1)
        ask_udp(client, query("www.quiet.test."))
        assert ask_udp(client, query("elsewhere.")).rcode() == dns.rcode.REFUSED
        store(node, "www.test.")
        ask_udp(client, query("www.test."))
        assert node.line()["qname"] == wire("www.test.")


def test_a_full_ring_drops_lines_and_no_queries() -> None:
    with serving(configure(log=True), log=1024) as (node, client):
        store(node, "www.test.")
        for _ in range(40):
            assert ask_udp(client, query("www.test.")).answer
        dropped = node.count("log_dropped")
        assert dropped > 0
        for _ in range(40 - dropped):
            node.line()
        ask_udp(client, query("www.test."))
        assert node.line()["qname"] == wire("www.test.")
        assert node.count("log_dropped") == dropped


# ----------------------------------------------------------------------------- bufsize ----


@pytest.mark.parametrize("hit", [True, False])
def test_bufsize_is_the_most_that_a_datagram_has(hit: bool) -> None:
    with serving(configure(edns_max=700, log=True)) as (node, client):
        addresses = [f"192.0.2.{n % 256}" for n in range(100)]
        if hit:
            store(node, "many.test.", 100)
        for payload, most in ((4096, 700), (600, 600), (None, 512)):
            message = query("many.test.", use_edns=False if payload is None else 0, payload=payload)
            client.send(message.to_wire())
            if not hit:
                node.end.answer(node.question(), *a_records(addresses))
            octets = client.recv(65535)
            assert most - 16 < len(octets) <= most
            assert octets[2] & 0x02  # TC
            assert node.line()["udp_size"] == most
        if hit:
            assert len(ask_tcp(node, query("many.test.", use_edns=0)).answer[0]) == 100


# ---------------------------------------------------------------------- a planned end ----


def ask(sock: socket.socket, name: str) -> None:
    octets = query(name).to_wire()
    sock.sendall(struct.pack("!H", len(octets)) + octets)


def test_roll_hands_over_what_waits_over_udp() -> None:
    with serving(configure()) as (node, client):
        client.send(query("waits.test.").to_wire())
        first = node.question()
        until(lambda: node.end.clients == 1)
        node.end.stop(ROLL)
        node.processes[-1].join(PATIENCE_S)
        assert node.processes[-1].exitcode == 0
        node.end.stop(0)
        node.start()
        again = node.question()
        assert again["ticket"] == first["ticket"]
        node.end.answer(again, *a_records(["192.0.2.1"]))
        assert receive(client).answer
        assert node.count("recovered_clients") == 1


def test_roll_lets_connections_have_what_they_asked_for() -> None:
    """Idle ones are closed, UDP is served to the last, and then the worker leaves."""
    with (
        serving(configure()) as (node, client),
        closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as idle,
        closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as busy,
    ):
        store(node, "www.test.")
        ask(busy, "slow.test.")
        question = node.question()
        until(lambda: node.count("tcp_accepted") == 2)
        node.end.stop(ROLL)
        assert idle.recv(1) == b""
        assert ask_udp(client, query("www.test.")).answer
        assert node.processes[-1].is_alive()
        node.end.answer(question, *a_records(["192.0.2.1"]))
        stream = busy.makefile("rb")
        (length,) = struct.unpack("!H", stream.read(2))
        assert len(stream.read(length)) == length
        assert stream.read(1) == b""
        node.processes[-1].join(PATIENCE_S)
        assert node.processes[-1].exitcode == 0


@pytest.mark.slow
def test_roll_does_not_wait_for_ever() -> None:
    with (
        serving(configure(), deadline_ms=60_000) as (node, _),
        closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as busy,
    ):
        ask(busy, "never.test.")
        node.question()
        node.end.stop(ROLL)
        node.processes[-1].join(PATIENCE_S)
        assert node.processes[-1].exitcode == 0
        assert busy.recv(1) == b""
        node.end.stop(0)
        node.start()
        until(lambda: node.end.pending == 0)
