# SPDX-License-Identifier: Apache-2.0
"""A worker and expired entries (RFC 8767): upstream gets its time, or gets asked behind the answer."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import dns.edns
import dns.message
import dns.rcode
import pytest

from fastdns import _segments
from fastdns._testing.worker import fill_cache, zone_fingerprint
from fastdns.control.model import Config
from tests.workertools import (
    PATIENCE_S,
    Node,
    a_records,
    ask_tcp,
    make_node,
    query,
    receive,
    silent,
    until,
    wire,
)

OLD, NEW = "192.0.2.1", "192.0.2.2"
NAME = "www.example.test."
POSITIVE, NXDOMAIN = 1, 3
STALE, STALE_NXDOMAIN, NO_REACHABLE = 3, 19, 22
RD, REFRESH = 1, 8
LONG = 4000  #: ms; no test waits for it


def with_block(**changes: int) -> Callable[[Config], Config]:
    """The plain configuration; its block's `cache` with these times."""

    def configure(config: Config) -> Config:
        block = config.blocks[0]
        assert block is not None
        return replace(
            config,
            blocks=(replace(block, **changes),),  # type: ignore[arg-type]
            zones=(replace(config.zones[0], metrics=True),),  # type: ignore[type-var]
            series=((0, 0, 0), (0, None, 1)),
        )

    return configure


@contextlib.contextmanager
def serving(
    deadline_ms: int = 4500, block: dict[str, int] | None = None, **sizes: int
) -> Iterator[tuple[Node, socket.socket]]:
    nodes = make_node("127.0.0.1", deadline_ms, with_block(**(block or {})), **sizes)
    node = next(nodes)
    try:
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.connect(node.address)
            client.settimeout(PATIENCE_S)
            yield node, client
    finally:
        nodes.close()  # type: ignore[attr-defined]


def expire(node: Node, name: str = NAME, **marked: int) -> None:
    """Put an entry into the cache whose time was over a minute ago."""
    answer = (wire(name), 1, *a_records([OLD]))
    fingerprint = zone_fingerprint(node.handles.config, 0)
    settings = {"age_ms": 120_000, "stale_s": 3600, "fingerprint": fingerprint, **marked}
    assert fill_cache(node.cache, [answer], ttl_s=60, **settings) == 1


def is_stale(reply: dns.message.Message, ttl: int = 30, code: int = STALE) -> bool:
    codes = [one.code for one in reply.options if isinstance(one, dns.edns.EDEOption)]
    return codes == [code] and [rrset.ttl for rrset in reply.answer] == [ttl]


def addresses(reply: dns.message.Message) -> list[str]:
    return [str(rdata) for rrset in reply.answer for rdata in rrset]


def test_upstream_gets_its_time_then_the_client_the_stale_answer() -> None:
    """Nobody answers; the question has gone out once, and what its answer brings later is nobody's."""
    with serving() as (node, client):
        expire(node)
        began = time.monotonic()
        client.send(query(NAME, use_edns=0).to_wire())
        question = node.question()
        assert question["flags"] == RD
        reply = receive(client)
        assert time.monotonic() - began > 0.19
        assert is_stale(reply)
        assert addresses(reply) == [OLD]
        until(lambda: node.end.pending == node.end.clients == 0)
        assert node.end.take() is None
        assert node.end.answer(question, *a_records([NEW]))
        until(lambda: node.count("answers_unmatched") == 1)
        assert silent(client)
        assert [node.count(name) for name in ("misses", "hits", "stale_answers", "servfail")] == [1, 0, 1, 0]
        assert [node.end.series(0)[name] for name in ("served_stale", "cache_misses")] == [1, 1]


def test_never_stale_if_upstream_answers_in_time() -> None:
    with serving(block={"stale_wait_ms": LONG}) as (node, client):
        expire(node)
        client.send(query(NAME, use_edns=0).to_wire())
        assert node.end.answer(node.question(), *a_records([NEW]))
        reply = receive(client)
        assert addresses(reply) == [NEW]
        assert not reply.options
        assert node.count("stale_answers") == 0


def test_all_who_wait_get_it_over_udp_and_tcp_with_their_own_names_letters() -> None:
    with serving() as (node, client):
        expire(node)
        for message in (query("WWW.example.test.", use_edns=0), query(NAME)):
            client.send(message.to_wire())
        over_tcp = ask_tcp(node, query("www.EXAMPLE.test.", use_edns=0))
        replies = [receive(client), receive(client)]
        assert is_stale(over_tcp)
        assert [str(reply.question[0].name) for reply in (*replies, over_tcp)] == [
            "WWW.example.test.", NAME, "www.EXAMPLE.test.",
        ]  # fmt: skip
        assert is_stale(replies[0])
        assert not replies[1].options  # no OPT in, none out
        assert node.count("joined_local") + node.count("answers") >= 1


def test_a_failure_brings_the_stale_answer_at_once() -> None:
    with serving(block={"stale_wait_ms": LONG}) as (node, client):
        expire(node, kind=NXDOMAIN)
        client.send(query(NAME, use_edns=0).to_wire())
        assert node.end.fail(node.question(), NO_REACHABLE)
        assert is_stale(receive(client), code=STALE_NXDOMAIN)
        assert (node.count("stale_answers"), node.count("servfail")) == (1, 0)


def test_what_is_marked_is_a_hit() -> None:
    """After a failed refresh: no question, no wait, until the mark's time is over or its epoch."""
    with serving(block={"stale_wait_ms": LONG, "stale_ttl_s": 7}) as (node, client):
        expire(node, stale_mark=_segments.now_ms() + 60_000)
        client.send(query(NAME, use_edns=0).to_wire())
        assert is_stale(receive(client), ttl=7)
        assert node.end.take() is None
        assert [node.count(name) for name in ("hits", "misses", "stale_answers")] == [1, 0, 1]
        assert [node.end.series(0)[name] for name in ("served_stale", "cache_hits")] == [1, [1, 0]]
        for number, mark in enumerate((_segments.now_ms(), 1 << 48 | _segments.now_ms() + 60_000)):
            expire(node, f"n{number}.test.", stale_mark=mark)
            client.send(query(f"n{number}.test.").to_wire())
            node.question()


def test_immediate_answers_first_and_asks_behind() -> None:
    """`serve_stale immediate`: nobody waits for the question, so nothing is kept of it."""
    with serving(block={"stale_wait_ms": 0, "stale_ttl_s": 0}) as (node, client):
        expire(node)
        client.send(query(NAME, use_edns=0).to_wire())
        assert is_stale(receive(client), ttl=0)
        question = node.question()
        assert (question["flags"], question["qname"], question["ticket"]) == (RD | REFRESH, wire(NAME), 0)
        assert (node.end.pending, node.end.clients) == (0, 0)
        assert [node.count(name) for name in ("hits", "refreshes", "stale_answers")] == [1, 1, 1]


def test_refreshes_that_find_the_ring_full_are_left_to_the_next_client() -> None:
    with serving(block={"stale_wait_ms": 0}, questions=4096) as (node, client):
        expire(node)
        for _ in range(200):
            client.send(query(NAME).to_wire())
            receive(client)
        full, asked = node.count("refreshes_unsent"), node.count("refreshes")
        assert full > 0
        assert full + asked == 200
        for _ in range(asked):
            node.question()
        assert node.end.take() is None


def test_a_full_table_gives_the_stale_answer_at_once() -> None:
    with serving(block={"stale_wait_ms": LONG}, pending=4, clients=6) as (node, client):
        for number in range(4):
            client.send(query(f"new{number}.test.").to_wire())
        until(lambda: node.end.pending == 4)
        expire(node)
        client.send(query(NAME, use_edns=0).to_wire())
        assert is_stale(receive(client))
        client.send(query("fifth.test.").to_wire())
        assert receive(client).rcode() == dns.rcode.SERVFAIL
        assert (node.count("pending_full"), node.count("stale_answers")) == (2, 1)


def test_an_entry_that_is_gone_by_then_leaves_its_clients_waiting() -> None:
    """It is looked up again when the time is over: evicted, or replaced by what its block would not say."""
    with serving(deadline_ms=600) as (node, client):
        expire(node)
        client.send(query(NAME, use_edns=0).to_wire())
        node.question()
        expire(node, fingerprint=1)
        reply = receive(client)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert [one.code for one in reply.options if isinstance(one, dns.edns.EDEOption)] == [NO_REACHABLE]


def test_an_entry_that_is_fresh_by_then_is_given_fresh() -> None:
    """Its answer found the ring full, say."""
    with serving(block={"stale_wait_ms": 500}) as (node, client):
        expire(node)
        client.send(query(NAME, use_edns=0).to_wire())
        node.question()
        expire(node, age_ms=0)
        reply = receive(client)
        assert not reply.options
        assert node.count("stale_answers") == 0


def test_verify_without_a_time_waits_for_the_client_s_end() -> None:
    with serving(deadline_ms=500, block={"stale_wait_ms": 500}) as (node, client):
        expire(node)
        client.send(query(NAME, use_edns=0).to_wire())
        assert is_stale(receive(client))
        assert (node.count("stale_answers"), node.count("deadline_expired")) == (1, 0)


def test_a_successor_keeps_the_time() -> None:
    """SIGKILL while clients wait: the successor gives them the stale answer; the coordinator is dead, too."""
    with serving(block={"stale_wait_ms": 1000}) as (node, client):
        expire(node)
        client.send(query(NAME, use_edns=0).to_wire())
        until(lambda: node.end.pending == 1)
        node.processes[-1].kill()
        node.processes[-1].join()
        node.start()
        assert is_stale(receive(client))
        until(lambda: node.end.pending == 0)


@pytest.mark.parametrize("count", [300])
def test_many_names_at_once_each_in_its_time(count: int) -> None:
    """More than leave with one sendmmsg; the last one no later than the first."""
    with serving() as (node, client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        names = [f"n{number}.example.test." for number in range(count)]
        answers = [(wire(name), 1, *a_records([OLD])) for name in names]
        fingerprint = zone_fingerprint(node.handles.config, 0)
        assert (
            fill_cache(node.cache, answers, ttl_s=60, age_ms=70_000, stale_s=60, fingerprint=fingerprint)
            == count
        )
        sent = {}
        for number, name in enumerate(names):
            message = query(name)
            message.id = number
            sent[number] = time.monotonic()
            client.send(message.to_wire())
        waits = []
        for _ in names:
            (number,) = struct.unpack_from("!H", client.recv(512))
            waits.append(time.monotonic() - sent[number])
        assert min(waits) > 0.19
        assert node.count("stale_answers") == count
        until(lambda: node.end.pending == node.end.clients == 0)
