# SPDX-License-Identifier: Apache-2.0
"""What the options of `forward` do (corefile.md 2.2), in a coordinator run whole."""

import time
from collections.abc import Callable
from dataclasses import replace

import dns.flags
import dns.rcode
import dns.rdatatype
import pytest

from fastdns import _stats
from fastdns.control import model
from fastdns.control.model import Block, Forward, HealthCheck, Limits, plain_config
from tests.coordtools import (
    ANSWER,
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    NODATA,
    NXDOMAIN,
    POSITIVE,
    Asked,
    Play,
    Reply,
    Upstream,
    World,
    address,
    closed_port,
    records,
    reply,
    silence,
    take_apart,
    world,
)

QUICK = HealthCheck(interval_s=0.1)


def forwards(*steps: Forward, **limits: int) -> Callable[[tuple[model.Upstream, ...]], model.Config]:
    """A configuration of one block with these steps."""

    def make(servers: tuple[model.Upstream, ...]) -> model.Config:
        plain = plain_config((), servers, 2, Block(negative_max_s=10800), Limits(**limits))
        assert plain.blocks[0] is not None
        return replace(plain, blocks=(replace(plain.blocks[0], steps=steps),))

    return make


def says(rcode: dns.rcode.Rcode, soa: int | None = None) -> Play:
    return lambda asked: reply(asked, rcode=rcode, soa=soa)


def nodata(asked: Asked) -> Reply:
    return reply(asked, soa=60)


def checks(up: Upstream) -> list[Asked]:
    """The health checks among what it was asked."""
    return [asked for asked in up.asked if asked.query.question[0].rdtype == dns.rdatatype.NS]


def failed_checks(w: World, upstream: int = 0) -> int:
    series = _stats.read_post_series(w.post_fd)[0]
    return int(series[upstream]["health_failures"]) if upstream in series else 0


# ------------------------------------------------------------------------- other rcodes ----


@pytest.mark.parametrize(("play", "kind"), [(says(dns.rcode.NXDOMAIN, 60), NXDOMAIN), (nodata, NODATA)])
@pytest.mark.parametrize("listed", [False, True])
def test_next_asks_the_forward_behind(play: Play, kind: int, listed: bool) -> None:
    options: dict[str, object] = (
        {"next_rcodes": (dns.rcode.NXDOMAIN,), "next_on_nodata": True} if listed else {}
    )
    make = forwards(Forward((0,), **options), Forward((1,)))  # type: ignore[arg-type]
    with Upstream(play) as first, Upstream() as second, world(first, second, make=make) as w:
        assert w.ask("www.example.").kind == (POSITIVE if listed else kind)
        assert (len(first.asked), len(second.asked)) == (1, int(listed))
        first.play = address
        assert w.ask("other.example.").kind == POSITIVE
        assert len(second.asked) == int(listed)


def test_next_without_a_forward_behind_is_nothing() -> None:
    make = forwards(Forward((0,), next_rcodes=(dns.rcode.NXDOMAIN,)), model.WhoamiStep())  # type: ignore[arg-type]
    with Upstream(says(dns.rcode.NXDOMAIN, 60)) as up, world(up, make=make) as w:
        assert w.ask("www.example.").kind == NXDOMAIN


def test_next_goes_to_the_first_forward_that_takes_the_name() -> None:
    """The one right behind may be another name's: then the walk goes on, and may end with nobody."""
    on = (dns.rcode.REFUSED,)
    make = forwards(Forward((0,), next_rcodes=on), Forward((1,), "example."), Forward((0,), "test."))
    with (
        Upstream(says(dns.rcode.REFUSED)) as first,
        Upstream() as second,
        world(first, second, make=make) as w,
    ):
        assert w.ask("www.example.").kind == POSITIVE
        assert w.ask_failing("www.elsewhere.") == EDE_NO_REACHABLE_AUTHORITY


def test_failover_asks_each_of_the_others() -> None:
    make = forwards(Forward((0, 1, 2), failover_rcodes=(dns.rcode.YXDOMAIN,)))
    bad = says(dns.rcode.YXDOMAIN)
    with (
        Upstream(bad) as one,
        Upstream(bad) as two,
        Upstream() as three,
        world(one, two, three, make=make) as w,
    ):
        assert w.ask("www.example.").kind == POSITIVE
        assert [len(up.asked) for up in (one, two, three)] == [1, 1, 1]
        three.play = bad
        assert w.ask("all.example.").rcode == dns.rcode.YXDOMAIN
        assert [len(up.asked) for up in (one, two, three)] == [2, 2, 2]


# ------------------------------------------------------------------------------- bounds ----


def test_max_concurrent_refuses_and_keeps_nothing() -> None:
    def play(asked: Asked) -> Reply:
        return None if asked.qname.startswith("held") else address(asked)

    make = forwards(Forward((0,), max_concurrent=2), question_deadline_ms=600)
    with Upstream(play) as up, world(up, make=make) as w:
        for i in range(2):
            w.put(f"held{i}.example.")
        ticket = w.put("www.example.")
        record = w.take()
        assert (record.kind, record.ticket) == (ANSWER, ticket)
        assert take_apart(record.entry).rcode == dns.rcode.REFUSED
        assert w.count("concurrent_full") == 1
        assert w.count("stores") == 0
        w.take_all(2)
        assert w.ask("www.example.").kind == POSITIVE


def test_read_timeout_ends_a_wait() -> None:
    make = forwards(Forward((0, 1), read_timeout_s=0.02))
    with Upstream(silence) as first, Upstream() as second, world(first, second, make=make) as w:
        began = time.monotonic()
        w.ask("www.example.")
        assert time.monotonic() - began < 0.18  # the wait for one that was never measured is 0.2 s


def test_max_connect_attempts_bounds_those_who_may_fail() -> None:
    make = forwards(Forward((0, 1), max_attempts=1, read_timeout_s=0.1))
    with Upstream() as second, world(closed_port(), second, make=make) as w:
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        assert second.asked == []
    with Upstream(silence) as first, Upstream() as second, world(first, second, make=make) as w:
        began = time.monotonic()
        assert w.ask_failing("www.example.") == EDE_NO_REACHABLE_AUTHORITY
        assert 0.28 < time.monotonic() - began < 1.5  # two questions, and once more as long for a late answer
        assert second.asked == []
        assert w.count("stores") == 0  # it is not the other one's failure


# -------------------------------------------------------------------------- health checks ----


@pytest.mark.parametrize("recursion", [True, False])
def test_an_upstream_that_failed_is_checked_until_it_answers(recursion: bool) -> None:
    refused = []

    def refuse(asked: Asked) -> Reply:
        refused.append(asked)
        return reply(asked, rcode=dns.rcode.REFUSED)

    check = HealthCheck(interval_s=0.1, name="check.example.", recursion=recursion)
    with Upstream(silence) as first, Upstream() as second:
        with world(first, second, make=forwards(Forward((0, 1), check=check))) as w:
            w.ask("www.example.")
            w.wait(lambda: failed_checks(w) >= 1 and len(checks(first)) >= 2, "a second check")
            query = checks(first)[0].query
            assert query.question[0].to_text() == "check.example. IN NS"
            assert (query.edns, bool(query.flags & dns.flags.RD)) == (-1, recursion)
            assert checks(second) == []
            first.play = refuse  # an answer, whatever it says
            w.wait(lambda: len(refused) == 1, "the last check")
            first.play = address
            count = len(checks(first))
            time.sleep(0.7)
            assert len(checks(first)) == count
            w.ask("other.example.")
            assert first.asked[-1].qname == "other.example."


def test_no_checks_with_max_fails_0() -> None:
    make = forwards(Forward((0, 1), max_fails=0, check=QUICK))
    with Upstream(silence) as first, Upstream() as second, world(first, second, make=make) as w:
        for i in range(3):
            w.ask(f"www{i}.example.")
        time.sleep(0.3)
        assert checks(first) == []


def down(w: World) -> bool:
    """Every upstream is down: a question says so."""
    before = w.count("all_down")
    w.put(f"n{time.monotonic_ns()}.example.", flags=3)
    w.take()
    return w.count("all_down") > before


@pytest.mark.parametrize("failfast", [False, True])
def test_all_down(failfast: bool) -> None:
    """More than max_fails checks failed: one of them is asked anyway, or nobody where the text says so."""
    make = forwards(Forward((0,), max_fails=1, failfast=failfast, check=QUICK), question_deadline_ms=200)
    with Upstream(silence) as up, world(up, make=make) as w:
        w.wait(lambda: down(w), "the upstream's being down", timeout=10)
        assert failed_checks(w) >= 2
        questions = len(up.asked) - len(checks(up))
        began = time.monotonic()
        assert w.ask_failing("www.example.") == EDE_NO_REACHABLE_AUTHORITY
        assert (time.monotonic() - began < 0.15) == failfast
        assert (len(up.asked) - len(checks(up)) > questions) == (not failfast)
        up.play = address
        w.wait(lambda: not down(w), "the upstream's return")


def test_an_answer_clears_an_upstream_without_a_check() -> None:
    def play(asked: Asked) -> Reply:
        failing = asked.query.question[0].rdtype == dns.rdatatype.NS or not answering
        return None if failing else reply(asked, records(asked.qname, 300, "A", "192.0.2.1"))

    answering = False
    make = forwards(Forward((0,), max_fails=1, check=QUICK), question_deadline_ms=200)
    with Upstream(play) as up, world(up, make=make) as w:
        w.wait(lambda: down(w), "the upstream's being down", timeout=10)
        answering = True
        assert w.ask("www.example.").kind == POSITIVE
        assert not down(w)
