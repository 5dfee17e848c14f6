# SPDX-License-Identifier: Apache-2.0
"""What the coordinator tells control: lines of `errors`, series, upstreams that send questions back."""

import errno
from typing import Any

import dns.name
import dns.rdatatype
import pytest

from fastdns import _stats
from fastdns.control.model import Forward, HostsStep, Limits, NameStep
from fastdns.control.observe._lines import LogReader, Out, Texts, take
from tests.coordtools import (
    EDE_NO_REACHABLE_AUTHORITY,
    Asked,
    Reply,
    World,
    closed_port,
    records,
    reply,
    silence,
    world,
)
from tests.coordtools import Upstream as Server
from tests.unit.test_chain import block, by_name, chain, running, said

TIMEOUT, REFUSED, NO_UPSTREAM, NO_NEXT, BUSY, PLUGIN, LOOP = range(1, 8)
NOBODY = 0xFFFF
HINFO = 13


def lines(w: World, count: int = 1) -> list[tuple[object, ...]]:
    """The lines so far, as (zone, rcode, qtype, upstream, errno, kind, tcp, name, text)."""
    found: list[tuple[object, ...]] = []
    reader = LogReader(w.log, Texts({}, {}, {}))

    def enough() -> bool:
        take([reader], [], Out(), found, 100)  # type: ignore[arg-type]
        return len(found) >= count

    w.wait(enough, f"{count} lines")
    assert reader.invalid == 0
    return found


def upstream_series(w: World) -> dict[int, dict[str, Any]]:
    return dict(_stats.read_post_series(w.post_fd)[0])  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ errors ----


def test_a_failure_has_a_line() -> None:
    zones = {
        "dead.": block(Forward((0,)), errors=True),
        "none.": block(Forward(()), text="none", errors=True),
        "empty.": block(text="empty", errors=True),
        "bad.": block(NameStep("prefix", "a.", "x" * 64 + "."), Forward((0,)), text="bad", errors=True),
        "quiet.": block(Forward((0,)), text="quiet"),
        "hosts.": block(HostsStep({}), text="hosts", errors=True),
    }
    with running(zones, closed_port()) as w:
        for name in ("www.dead.", "www.none.", "www.empty.", "a.bad.", "www.quiet.", "www.hosts."):
            w.ask_failing(name)
        assert lines(w, 4) == [
            (0, 2, 1, 0, errno.ECONNREFUSED, REFUSED, False, "www.dead.", b""),
            (1, 2, 1, NOBODY, 0, NO_UPSTREAM, False, "www.none.", b""),
            (2, 2, 1, NOBODY, 0, NO_NEXT, False, "www.empty.", b""),
            (3, 2, 1, NOBODY, 0, PLUGIN, False, "a.bad.", b""),
        ]


def test_a_refused_connection_has_a_line() -> None:
    zones = {".": block(Forward((0,)), errors=True)}
    with running(zones, closed_port(), force_tcp=True) as w:
        w.ask_failing("www.example.", "AAAA")
        assert lines(w) == [(0, 2, 28, 0, errno.ECONNREFUSED, REFUSED, True, "www.example.", b"")]


def test_silence_has_a_line() -> None:
    make = chain({".": block(Forward((0,)), errors=True)}, limits=Limits(question_deadline_ms=300))
    with Server(silence) as one, world(one, make=make) as w:
        assert w.ask_failing("www.example.") == EDE_NO_REACHABLE_AUTHORITY
        assert lines(w) == [(0, 2, 1, 0, 0, TIMEOUT, False, "www.example.", b"")]


def test_a_full_log_loses_lines_and_no_question() -> None:
    zones = {".": block(errors=True)}
    with running(zones) as w:
        for number in range(600):
            w.ask_failing(f"n{number}.example.")
        assert 0 < w.count("log_dropped") < 600
        assert len(lines(w, 600 - w.count("log_dropped"))) == 600 - w.count("log_dropped")


# ------------------------------------------------------------------------------ series ----


def test_exchanges_are_counted() -> None:
    def play(asked: Asked) -> Reply:
        if asked.qname.startswith("nx"):
            return reply(asked, rcode=3, soa=60)
        return reply(asked, records(asked.qname, 60, "A", "192.0.2.1"))

    zones = {".": block(Forward((0,)))}
    with Server(play) as one, running(zones, one) as w:
        assert upstream_series(w) == {}, "what was never asked has no figures"
        for name in ("a.", "b.", "nx.", "a."):
            w.ask(name)
        series = upstream_series(w)[0]
        assert [sum(times) for times in series["times"]] == [2, 0, 0, 1, 0, 0, 0, 0]
        assert series["times_us"][0] > 0
        assert sum(series["reused"]) + sum(series["dialed"]) == 3
        assert series["dialed"][0] >= 1


def test_connections_are_counted() -> None:
    zones = {".": block(Forward((0,)))}
    with Server(by_name("one")) as one, running(zones, one, force_tcp=True) as w:
        for number in range(3):
            w.ask(f"n{number}.", "TXT")
        series = upstream_series(w)[0]
        assert (series["dialed"], series["reused"]) == ([0, 1], [0, 2])


def test_another_upstream_of_the_same_number_begins_anew() -> None:
    zones = {".": block(Forward((0,)))}
    with Server(by_name("one")) as one, Server(by_name("two")) as two, running(zones, one) as w:
        w.ask("a.", "TXT")
        w.stop()
        w.start()
        assert sum(upstream_series(w)[0]["times"][0]) == 1, "the same one goes on"
        w.stop()
        w.upstreams = [(two.port, 0)]
        w.renew_config()
        w.start()
        assert upstream_series(w) == {}


# ------------------------------------------------------------------- shares of the cache ----


def block_series(w: World) -> dict[int, dict[str, Any]]:
    return dict(_stats.read_post_series(w.post_fd)[1])  # type: ignore[arg-type]


def positive_or_not(asked: Asked) -> Reply:
    if asked.qname.startswith("nx"):
        return reply(asked, rcode=3, soa=60)
    return reply(asked, records(asked.qname, 60, "A", "192.0.2.1"))


def test_entries_are_counted_by_block_and_class() -> None:
    zones = {".": block(Forward((0,))), "corp.": block(Forward((0,)), text="corp")}
    with Server(positive_or_not) as one, running(zones, one) as w:
        for name in ("a.", "b.", "nx.", "a.corp.", "nx.corp.", "nx1.corp."):
            w.ask(name)
        assert [block_series(w)[number]["entries"] for number in (0, 1)] == [[2, 1], [1, 2]]
        w.stop()
        w.start()
        assert [block_series(w)[number]["entries"] for number in (0, 1)] == [[2, 1], [1, 2]]
        assert all(series["evictions"] == [0, 0] for series in block_series(w).values())


def test_capacity_is_a_soft_quota() -> None:
    zones = {
        ".": block(Forward((0,)), capacity=(100, 0)),
        "corp.": block(Forward((0,)), text="corp"),
    }
    with Server(positive_or_not) as one, running(zones, one) as w:
        for number in range(40):
            w.ask(f"n{number}.corp.")
        for number in range(400):
            w.ask(f"n{number}.example.")
            w.ask(f"nx{number}.example.")
        first, second = block_series(w)[0], block_series(w)[1]
        assert 100 <= first["entries"][0] < 150
        assert first["entries"][0] + first["evictions"][0] == 400
        assert (first["entries"][1], first["evictions"][1]) == (400, 0), "the other class has no bound"
        assert second["entries"] == [40, 0], "nor is it another block's loss"


def test_a_response_to_another_question_is_counted() -> None:
    def play(asked: Asked) -> Reply:
        other = reply(Asked(wire_of(asked, "other."), asked.peer, asked.tcp, asked.at))
        assert isinstance(other, bytes)
        return [other, positive_or_not(asked)]  # type: ignore[list-item]

    zones = {".": block(Forward((0,)))}
    with Server(play) as one, running(zones, one) as w:
        w.ask("a.")
        assert block_series(w)[0]["drops"] == 1


def wire_of(asked: Asked, name: str) -> bytes:
    """The query with another name."""
    query = asked.query
    query.question[0].name = dns.name.from_text(name)
    return query.to_wire()


# -------------------------------------------------------------------------------- loop ----


def probes(server: Server) -> list[str]:
    return [asked.qname for asked in server.asked if asked.query.question[0].rdtype == dns.rdatatype.HINFO]


def test_each_upstream_is_asked_once() -> None:
    zones = {"corp.": block(Forward((0, 1)), loop=True), ".": block(Forward((1,)), text="rest", loop=True)}
    with Server(by_name("one")) as one, Server(by_name("two")) as two, running(zones, one, two) as w:
        w.wait(lambda: len(probes(one)) >= 1 and len(probes(two)) >= 2, "probes")
        assert probes(one)[0].endswith(".corp.")
        assert len({*probes(one), *probes(two)}) == 3
        assert all(len(name.partition(".")[0]) == 16 for name in probes(two))
        assert said(w, "www.corp.") == "one"
        assert w.count("loops") == 0


def test_no_probe_without_loop() -> None:
    with Server(by_name("one")) as one, running({".": block(Forward((0,)))}, one) as w:
        said(w, "www.example.")
        assert probes(one) == []


def test_an_upstream_that_sends_questions_back_is_left_alone() -> None:
    zones = {".": block(Forward((0, 1)), loop=True), "corp.": block(Forward((0,)), text="corp")}
    with Server(by_name("looping")) as looping, Server(by_name("other")) as other:
        with running(zones, looping, other) as w:
            w.wait(lambda: probes(looping) != [], "a probe")
            assert said(w, "before.example.") == "looping"
            w.ask_failing(probes(looping)[0], HINFO)
            assert said(w, "after.example.") == "other"
            assert said(w, "www.corp.") == "looping", "this block has no `loop`"
            assert w.count("loops") == 1
            # Said once, whatever the block's text has; a second sign of the same changes nothing.
            w.ask_failing(probes(looping)[0], HINFO)
            (line,) = lines(w)
            assert line == (0, 2, HINFO, 0, 0, LOOP, False, probes(looping)[0], b"")
            assert w.count("loops") == 2


def test_the_last_upstream_of_a_block_loops() -> None:
    zones = {".": block(Forward((0,)), loop=True, errors=True)}
    with Server(by_name("looping")) as looping, running(zones, looping) as w:
        w.wait(lambda: probes(looping) != [], "a probe")
        w.ask_failing(probes(looping)[0], HINFO)
        assert w.ask_failing("www.example.") == EDE_NO_REACHABLE_AUTHORITY
        assert [line[5] for line in lines(w, 2)] == [LOOP, NO_UPSTREAM]


@pytest.mark.parametrize("name", ["x.", "0123456789abcdef.0123456789abcdef."])
def test_other_questions_of_that_type(name: str) -> None:
    zones = {".": block(Forward((0,)), loop=True)}
    with Server(lambda asked: reply(asked, soa=60)) as one, running(zones, one) as w:
        assert w.ask(name, HINFO).rcode == 0
        assert w.count("loops") == 0
