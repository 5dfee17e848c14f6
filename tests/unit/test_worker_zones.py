# SPDX-License-Identifier: Apache-2.0
"""What a worker makes of zones: REFUSED, classes, variants, questions with their client, empty slots."""

from __future__ import annotations

import socket
import struct
from contextlib import closing
from dataclasses import replace

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import pytest

from fastdns._testing.worker import fill_cache, zone_fingerprint
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Config, Listener, Zone
from tests.workertools import (
    PATIENCE_S,
    a_records,
    ask_tcp,
    ask_udp,
    listener_of,
    query,
    receive,
    serving,
    until,
    wire,
    with_zones,
)

RD, ALONE, CLIENT = 1, 2, 4  # fd_question_t.flags


def test_what_no_zone_takes_is_refused_at_once() -> None:
    zones = (Zone("corp.test.", group=0, block=0), Zone("dead.corp.test.", group=0, block=0, refused=True))
    with serving(with_zones(*zones)) as (node, client):
        for number, name in enumerate(("elsewhere.test.", "x.dead.corp.test.", "."), 1):
            for reply in (ask_udp(client, query(name, use_edns=0)), ask_tcp(node, query(name, use_edns=0))):
                assert reply.rcode() == dns.rcode.REFUSED
                assert reply.question == query(name).question
                assert reply.edns == 0
            assert node.count("refused") == 2 * number
        assert node.end.take() is None
        assert node.count("misses") == 0
        dropped = node.end.series(0)
        assert [sum(one) for one in dropped["requests"]] == [3, 3]
        assert dropped["responses"][0][dns.rcode.REFUSED] == 6
        client.send(query("www.corp.test.").to_wire())
        assert node.question()["qname"] == wire("www.corp.test.")


@pytest.mark.parametrize("any_class", [True, False])
def test_classes(any_class: bool) -> None:
    """Without a block that forwards other classes than IN are refused; else they are keys of their own."""
    with serving(with_zones(Zone(".", group=0, block=0), any_class=any_class)) as (node, client):
        chaos = query("version.test.", "TXT", rdclass=dns.rdataclass.CH)
        client.send(chaos.to_wire())
        if any_class:
            question = node.question()
            assert question["qclass"] == dns.rdataclass.CH
            client.send(query("version.test.", "TXT").to_wire())
            assert node.question()["key_hash"] != question["key_hash"]
        else:
            assert receive(client).rcode() == dns.rcode.REFUSED
            assert sum(node.end.series(0)["requests"][0]) == 1


@pytest.mark.parametrize(("listen", "variant"), [("127.0.0.1", 4), ("::1", 6)])
def test_variants_only_where_answers_differ_by_family(listen: str, variant: int) -> None:
    zones = (Zone(".", group=0, block=0), Zone("six.test.", group=0, block=0, by_family=True))
    with serving(with_zones(*zones, by_family=True), listen) as (node, client):
        hashes = set()
        for name, expected in (("plain.test.", 0), ("www.six.test.", variant)):
            client.send(query(name, "AAAA").to_wire())
            question = node.question()
            assert question["variant"] == expected
            hashes.add(question["key_hash"])
            assert node.end.answer(question, *a_records(["192.0.2.1"]))
            assert receive(client).question == query(name, "AAAA").question
        fingerprint = zone_fingerprint(node.handles.config, 1)
        for stored, address in ((4, "192.0.2.4"), (6, "192.0.2.6")):
            answer = (wire("cached.six.test."), 1, *a_records([address]))
            assert fill_cache(node.cache, [answer], variant=stored, zone=1, fingerprint=fingerprint) == 1
            if stored == 4:
                continue
            reply = ask_udp(client, query("cached.six.test."))
            assert reply.answer[0][0].to_text() == f"192.0.2.{variant}"


def test_entry_of_another_text_is_a_miss() -> None:
    """After a reload, before the sweep: another text, a number that nothing has, a refusing zone."""
    zones = (Zone(".", group=0, block=0), None, Zone("dead.test.", group=0, block=0, refused=True))
    with serving(with_zones(*zones)) as (node, client):
        good = zone_fingerprint(node.handles.config, 0)
        for name, zone, fingerprint in (
            ("changed.test.", 0, good ^ 1),
            ("gone.test.", 1, 0),
            ("beyond.test.", 7, good),
            ("x.dead.test.", 2, good),
        ):
            answer = (wire(name), 1, *a_records(["192.0.2.1"]))
            assert fill_cache(node.cache, [answer], zone=zone, fingerprint=fingerprint) == 1
            client.send(query(name).to_wire())
            if zone == 2:
                assert receive(client).rcode() == dns.rcode.REFUSED
            else:
                assert node.question()["qname"] == wire(name)
        answer = (wire("kept.test."), 1, *a_records(["192.0.2.1"]))
        assert fill_cache(node.cache, [answer], zone=0, fingerprint=good) == 1
        assert ask_udp(client, query("kept.test.")).answer
        assert node.count("hits") == 1


def test_questions_that_carry_their_client_are_asked_alone() -> None:
    with serving(with_zones(Zone(".", group=0, block=0, by_client=True))) as (node, client):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
            other.connect(node.address)
            other.settimeout(PATIENCE_S)
            for number, sock in enumerate((client, other), 1):
                sock.send(query("who.test.", use_edns=0, want_dnssec=True).to_wire())
                question = node.question()
                assert question["flags"] == RD | ALONE | CLIENT
                family, port, address = struct.unpack_from("=H2s4s", question["peer"])
                assert family == socket.AF_INET
                assert (socket.inet_ntoa(address), int.from_bytes(port)) == sock.getsockname()
                assert (question["listener"], question["tcp"], question["edns"]) == (0, 0, 3)
                node.end.answer(question, *a_records([f"192.0.2.{number}"]))
            for number, sock in enumerate((client, other), 1):
                assert receive(sock).answer[0][0].to_text() == f"192.0.2.{number}"
        # Nothing of such a zone is taken from the cache, whatever lies there.
        fingerprint = zone_fingerprint(node.handles.config, 0)
        answer = (wire("who.test."), 1, *a_records(["192.0.2.9"]))
        assert fill_cache(node.cache, [answer], fingerprint=fingerprint) == 1
        client.send(query("who.test.").to_wire())
        assert node.question()["qname"] == wire("who.test.")
        assert node.count("joined_local") == 0


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])
def test_a_client_over_tcp_is_carried_too(listen: str) -> None:
    with serving(with_zones(Zone(".", group=0, block=0, by_client=True)), listen) as (node, _):
        with closing(socket.create_connection(node.address, timeout=PATIENCE_S)) as sock:
            octets = query("who.test.").to_wire()
            sock.sendall(struct.pack("!H", len(octets)) + octets)
            question = node.question()
            port = int.from_bytes(question["peer"][2:4])
            assert (socket.inet_ntoa(question["peer"][4:8]), port) == sock.getsockname()
            assert question["tcp"] == 1
            local = "127.0.0.1" if listen == "0.0.0.0" else "0.0.0.0"
            assert socket.inet_ntoa(question["local"][:4]) == local


def test_questions_with_a_client_survive_a_kill_and_a_full_ring() -> None:
    """What a successor puts again carries the same client."""
    with serving(with_zones(Zone(".", group=0, block=0, by_client=True))) as (node, client):
        client.send(query("who.test.").to_wire())
        first = node.question()
        until(lambda: node.end.clients == 1)
        node.processes[-1].kill()
        node.processes[-1].join()
        node.start()
        again = node.question()
        assert again["ticket"] == first["ticket"]
        assert again["peer"] == first["peer"]
        node.end.answer(again, *a_records(["192.0.2.1"]))
        assert receive(client).answer


def test_empty_listener_slots() -> None:
    """Addresses come and go at a reload; who stays keeps its number."""

    def configure(config: Config) -> Config:
        gone = Listener(Endpoint("127.0.0.9", 53), group=5)
        ours = replace(listener_of(config), group=1)
        zones = (Zone(".", group=5, block=0), Zone("here.test.", group=1, block=0))
        return replace(config, listeners=(None, replace(gone), ours, None), zones=zones)

    def emptied(config: Config) -> Config:
        whole = configure(config)
        return replace(whole, listeners=(None, None, whole.listeners[2], None))

    with serving(emptied) as (node, client):
        client.send(query("www.here.test.").to_wire())
        question = node.question()
        assert question["group"] == 1
        node.end.answer(question, *a_records(["192.0.2.1"]), zone=1)
        assert receive(client).answer
        assert ask_udp(client, query("elsewhere.test.")).rcode() == dns.rcode.REFUSED
        assert ask_tcp(node, query("elsewhere.test.")).rcode() == dns.rcode.REFUSED
        node.end.stop(1)
        node.processes[-1].join(PATIENCE_S)
        assert node.processes[-1].exitcode == 0
