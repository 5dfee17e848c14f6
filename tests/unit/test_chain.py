# SPDX-License-Identifier: Apache-2.0
"""The coordinator and its blocks: which zone a question falls in, whom its block asks, what it keeps."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import dns.rcode
import pytest

from fastdns.control.model import Block, Config, Forward, HostRecord, HostsStep, Limits, Step, Upstream, Zone
from tests.coordtools import (
    ANSWER,
    EDE_NO_REACHABLE_AUTHORITY,
    Asked,
    Reply,
    World,
    closed_port,
    records,
    reply,
    take_apart,
    wire,
    world,
)
from tests.coordtools import Upstream as Server

REFUSED = 5


def by_name(text: str) -> Callable[[Asked], Reply]:
    """An upstream that says who it is."""

    def play(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 300, "TXT", text))

    return play


def chain(
    zones: dict[str, Block], *, group: int = 0, limits: Limits | None = None, number: int = 1
) -> Callable[[tuple[Upstream, ...]], Config]:
    """A configuration with these zones, a block each, of one group."""

    def make(upstreams: tuple[Upstream, ...]) -> Config:
        return Config(
            listeners=(),
            upstreams=upstreams,
            zones=tuple(Zone(name, group, number) for number, name in enumerate(zones)),
            blocks=tuple(zones.values()),
            worker_count=2,
            number=number,
            limits=limits or Limits(),
        )

    return make


def block(*steps: Step, text: str = "", **settings: object) -> Block:
    return Block(text=text, steps=steps, **settings)  # type: ignore[arg-type]


def running(
    zones: dict[str, Block], *servers: Server | int, **options: object
) -> AbstractContextManager[World]:
    return world(*servers, make=chain(zones), **options)  # type: ignore[arg-type]


def said(w: World, name: str, **options: int) -> str:
    """Who answered a question for this name."""
    return str(w.ask(name, "TXT", **options).message().answer[0][0].strings[0].decode())


def test_each_zone_asks_its_own_upstream() -> None:
    with Server(by_name("one")) as one, Server(by_name("two")) as two:
        zones = {".": block(Forward((0,))), "cluster.local.": block(Forward((1,)), text="cluster")}
        with running(zones, one, two) as w:
            assert said(w, "www.example.") == "one"
            assert said(w, "a.b.cluster.local.") == "two"
            assert said(w, "cluster.local.") == "two"
            assert said(w, "acluster.local.") == "one"
            answer = w.ask("other.cluster.local.", "TXT")
            assert (answer.zone, w.ask("other.example.", "TXT").zone) == (1, 0)
            assert answer.fingerprint != w.ask("third.example.", "TXT").fingerprint


def test_a_name_in_no_zone_is_refused() -> None:
    zones = {"example.": block(Forward((0,)))}
    with Server(by_name("one")) as one, running(zones, one) as w:
        w.put("www.test.")
        record = w.take()
        answer = take_apart(record.entry)
        assert (record.kind, answer.rcode, answer.counts, answer.zone) == (ANSWER, REFUSED, (0, 0, 0), 0xFFFF)
        assert (answer.qname, answer.plain_len) == (wire("www.test."), 12 + len(wire("www.test.")) + 4)
        w.put("www.example.", group=3)
        assert take_apart(w.take().entry).rcode == REFUSED, "another group has no such zone"
        assert one.asked == []
        assert w.count("stores") == 0


def test_forward_takes_what_lies_below_from() -> None:
    steps = (
        Forward((0,), zone="corp.", except_=("lab.corp.",)),
        Forward((0,), zone="own.", except_=("own.",)),
        Forward((1,), zone="."),
    )
    with Server(by_name("one")) as one, Server(by_name("two")) as two:
        with running({".": block(*steps)}, one, two) as w:
            assert said(w, "www.corp.") == "one"
            assert said(w, "corp.") == "one"
            assert said(w, "www.own.") == "two"
            assert said(w, "own.") == "one", "FROM itself is forwarded in spite of except"
            assert said(w, "lab.corp.") == "two"
            assert said(w, "a.lab.corp.") == "two"
            assert said(w, "alab.corp.") == "one"
            assert said(w, "example.") == "two"


def test_except_names_side_by_side() -> None:
    step = Forward((0,), except_=("a.example.", "b.example."))
    with Server(by_name("one")) as one, running({".": block(step)}, one) as w:
        for name in ("a.example.", "x.b.example."):
            assert w.ask_failing(name) == EDE_NO_REACHABLE_AUTHORITY
        assert said(w, "c.example.") == "one"
        assert len(one.asked) == 1


def test_a_dead_upstream_leads_to_the_next_of_its_own_list() -> None:
    with Server(by_name("far")) as far, Server(by_name("near")) as near:
        dead = closed_port()
        zones = {".": block(Forward((0, 2))), "corp.": block(Forward((0,)), text="corp")}
        with running(zones, dead, far, near) as w:
            assert said(w, "www.example.") == "near"
            assert w.ask_failing("www.corp.", "TXT") != 0
            assert far.asked == []


def test_upstreams_are_shared_between_blocks() -> None:
    with Server(by_name("one")) as one:
        zones = {".": block(Forward((0,))), "corp.": block(Forward((0,)), text="corp")}
        with running(zones, one) as w:
            assert [said(w, name) for name in ("a.corp.", "a.example.")] == ["one", "one"]


def test_ds_is_asked_of_the_parent() -> None:
    with Server(by_name("parent")) as parent, Server(by_name("child")) as child:
        zones = {"example.": block(Forward((0,))), "sub.example.": block(Forward((1,)), text="sub")}
        with running(zones, parent, child) as w:
            w.ask("sub.example.", "DS")
            w.ask("sub.example.", "A")
            assert (len(parent.asked), len(child.asked)) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "name", "rcode", "stored"),
    [
        ({}, "www.example.", 0, True),
        ({"cached": ("example.",)}, "www.example.", 0, True),
        ({"cached": ("example.",)}, "www.test.", 0, False),
        ({"disabled": ((".",), ())}, "www.example.", 0, False),
        ({"disabled": ((".",), ())}, "www.example.", 3, True),
        ({"disabled": ((), ("a.example.", "b.example."))}, "x.b.example.", 3, False),
        ({"disabled": ((), ("a.example.", "b.example."))}, "x.b.example.", 2, False),
        ({"disabled": ((), ("a.example.", "b.example."))}, "c.example.", 3, True),
        ({"caching": False}, "www.example.", 0, False),
    ],
)
def test_what_a_block_keeps(settings: dict[str, object], name: str, rcode: int, stored: bool) -> None:
    def play(asked: Asked) -> Reply:
        return (
            reply(asked, rcode=rcode, soa=60) if rcode else reply(asked, records(name, 60, "A", "192.0.2.1"))
        )

    zones = {".": block(Forward((0,)), uniform_ttl=True, ttl_min_s=5, **settings)}  # type: ignore[arg-type]
    with Server(play) as one, running(zones, one) as w:
        assert w.ask(name).rcode == rcode
        assert w.count("stores") == stored


def test_a_name_outside_the_cache_keeps_its_ttls() -> None:
    def play(asked: Asked) -> Reply:
        return reply(
            asked, records(asked.qname, 900, "A", "192.0.2.1"), records("x.test.", 1, "A", "192.0.2.2")
        )

    zones = {".": block(Forward((0,)), uniform_ttl=True, ttl_min_s=5, ttl_max_s=30, cached=("example.",))}
    with Server(play) as one, running(zones, one) as w:
        inside, outside = w.ask("www.example."), w.ask("www.test.")
        assert (inside.ttls(), bool(inside.msg_flags & 0x400)) == ([5, 5], True)
        assert (outside.ttls(), bool(outside.msg_flags & 0x400)) == ([900, 1], False)


def test_keepttl_is_marked() -> None:
    zones = {".": block(Forward((0,)), keep_ttl=True), "a.": block(Forward((0,)), text="a")}
    with Server(by_name("one")) as one, running(zones, one) as w:
        assert [w.ask(name, "TXT").marks for name in ("x.", "x.a.")] == [2, 0]


def test_an_answer_of_another_block_is_not_handed_on() -> None:
    """An entry that the sweep after a reload has not come to is asked anew, not answered from before."""
    zones = {".": block(Forward((0,)), text="one")}
    with Server(by_name("one")) as one, running(zones, one) as w:
        w.ask("www.example.", "TXT")
        w.ask("www.example.", "TXT", worker=1)
        assert w.count("found_stored") == 1
        w.stop()
        w.make = chain({".": block(Forward((0,)), text="two")})
        w.renew_config()
        w.start()
        assert said(w, "www.example.") == "one"
        assert (w.count("found_stored"), len(one.asked)) == (1, 2)


def test_a_changed_hosts_file_costs_the_names_in_it() -> None:
    """What the old table said, and what the new one knows, is asked anew; the block's other names stay."""

    def hosts(**names: int) -> dict[str, Block]:
        table = {f"{name}.": HostRecord(inet4=(bytes([192, 0, 2, last]),)) for name, last in names.items()}
        return {".": block(HostsStep(table, through=(".",)), Forward((0,)))}

    def play(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 300, "A", "10.0.0.1"))

    def address(w: World, name: str) -> str:
        return str(w.ask(name).message().answer[0][0])

    with Server(play) as one, running(hosts(both=1, gone=1), one) as w:
        first = {name: address(w, name) for name in ("both.", "gone.", "come.", "stays.", "x.come.")}
        assert first["come."] == first["stays."] == "10.0.0.1"
        w.stop()
        w.make = chain(hosts(both=2, come=2), number=2)
        w.renew_config()
        w.start()
        w.wait(lambda: w.count("outdated") == 3, "the sweep")
        assert {name: address(w, name) for name in first} == {
            "both.": "192.0.2.2", "gone.": "10.0.0.1", "come.": "192.0.2.2", "stays.": "10.0.0.1",
            "x.come.": "10.0.0.1",
        }  # fmt: skip
        assert w.count("found_stored") == 2
        assert [asked.qname for asked in one.asked] == ["come.", "stays.", "x.come.", "gone."]


def test_a_failure_takes_no_answers_place() -> None:
    codes = [dns.rcode.NOERROR, dns.rcode.SERVFAIL]

    def play(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 300, "A", "192.0.2.1"), rcode=codes.pop(0))

    zones = {".": block(Forward((0,)))}
    with Server(play) as one, running(zones, one) as w:
        first = w.ask("www.example.")
        # As a refresh is asked: not joined to what is stored. Its failure leaves the answer in place.
        second = w.ask("www.example.", flags=1 | 2)
        assert (first.rcode, second.rcode) == (0, 2)
        assert w.ask("www.example.", worker=1).rcode == 0
