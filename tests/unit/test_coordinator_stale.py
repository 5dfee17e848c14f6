# SPDX-License-Identifier: Apache-2.0
"""What the coordinator makes of expired entries and of failures beside them (RFC 8767, RFC 9520)."""

import contextlib
import struct
import time
from collections.abc import Iterator

import dns.rcode
import pytest

from fastdns import _segments
from fastdns._testing.cache import Cache
from fastdns._testing.worker import fill_cache, zone_fingerprint
from fastdns.control import model
from tests.cachetools import PREFERRED
from tests.coordtools import (
    ANSWER,
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    FAILURE,
    NXDOMAIN,
    POSITIVE,
    Answer,
    Asked,
    Reply,
    Upstream,
    World,
    address,
    closed_port,
    reply,
    silence,
    take_apart,
    wire,
)
from tests.workertools import a_records

OLD, NEW = "192.0.2.77", "192.0.2.1"  # NEW is what coordtools.address says
NAME = "www.example."
RD, ALONE, REFRESH = 1, 2, 8
NO_TIME, LONG = 300, 4000  # ms: a question's deadline
RECHECK = 30_000  # ms


@contextlib.contextmanager
def world(
    *upstreams: Upstream | int, names: tuple[str, ...] = (NAME,), **settings: object
) -> Iterator[World]:
    """A coordinator that finds an expired answer for each of the names."""
    tcp = settings.pop("tcp", 0)
    ports = [(up if isinstance(up, int) else up.port, tcp) for up in upstreams]
    workers = settings.pop("workers", 2)
    with contextlib.ExitStack() as stack:
        w = World(ports, settings, workers=workers)  # type: ignore[arg-type]
        answers = [(wire(name), 1, *a_records([OLD])) for name in names]
        fingerprint = zone_fingerprint(w.config, 0)
        marked = {"age_ms": 120_000, "stale_s": 3600, "fingerprint": fingerprint}
        if settings.get("prefer_positive"):
            marked["marks"] = PREFERRED
        assert fill_cache(w.cache, answers, ttl_s=60, **marked) == len(names)
        yield stack.enter_context(w)


def take_old(w: World, worker: int = 0) -> Answer:
    """The next record, which is the expired answer."""
    record = w.take(worker)
    assert record.kind == ANSWER
    answer = take_apart(record.entry)
    assert addresses(answer) == [OLD]
    assert answer.stored_ms + 60_000 < _segments.now_ms()
    return answer


def addresses(answer: Answer) -> list[str]:
    return [item.address for rrset in answer.message().answer for item in rrset]


def look(w: World, entry: Answer) -> tuple[str, int]:
    """What a worker finds: the outcome, and for how many ms from now the entry is held."""
    key = struct.pack("<4Q3IH2B3H2B7H3B5xH", entry.key_hash, 0, 0, 0, 0, 0, 0, entry.group, entry.variant,
                      entry.key_flags, entry.qtype, entry.qclass, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                      len(entry.qname), 1, 0, 0) + entry.qname  # fmt: skip
    now = _segments.now_ms()
    outcome, _, header, *_ = Cache(w.cache).lookup(key + bytes(-len(key) % 8), now)
    (mark,) = struct.unpack_from("<Q", header, 16) if header else (0,)
    return outcome, (mark & (1 << 48) - 1) - now


def test_silence_brings_the_stale_answer_and_holds_it() -> None:
    """Both workers get it; no failure is counted, none is kept; for 30 s it is given at once."""
    with Upstream(silence) as up, world(up, question_deadline_ms=NO_TIME, stale_wait_ms=LONG) as w:
        w.put(NAME)
        w.put(NAME, worker=1)
        entry = take_old(w)
        take_old(w, worker=1)
        w.wait(lambda: w.count("stale_marks") == 1, "a mark")
        outcome, held_ms = look(w, entry)
        assert outcome == "stale now"
        assert RECHECK - 5000 < held_ms <= RECHECK
        assert (w.count("failures"), w.count("stores")) == (0, 0)


def test_silence_without_a_usable_answer_is_a_failure() -> None:
    with Upstream(silence) as up, world(up, question_deadline_ms=NO_TIME) as w:
        w.put("other.example.")
        assert w.take().kind == FAILURE
        assert (w.count("failures"), w.count("stores"), w.count("stale_marks")) == (1, 1, 0)


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
def test_a_failure_that_upstream_answers_holds_a_second(rcode: dns.rcode.Rcode) -> None:
    """RFC 9520: it hides no usable answer, and is over soon. pain 7: recovery visible within 1 s."""
    with Upstream(lambda asked: reply(asked, rcode=rcode)) as up, world(up) as w:
        w.put(NAME)
        outcome, held_ms = look(w, take_old(w))
        assert outcome == "stale now"
        assert 0 < held_ms <= 1000
        assert (w.count("failures"), w.count("stores")) == (0, 0)


def test_good_failing_three_times_and_good_again() -> None:
    """pain 7: no SERVFAIL reaches a client while there is something better."""
    rcodes = iter([dns.rcode.SERVFAIL] * 3)

    def play(asked: Asked) -> Reply:
        rcode = next(rcodes, None)
        return address(asked) if rcode is None else reply(asked, rcode=rcode)

    with Upstream(play) as up, world(up) as w:
        for _ in range(3):
            w.put(NAME)
            take_old(w)
        assert addresses(w.ask(NAME)) == [NEW]


def test_what_is_asked_alone_fails_as_upstream_says() -> None:
    with Upstream(lambda asked: reply(asked, rcode=dns.rcode.REFUSED)) as up, world(up) as w:
        assert w.ask(NAME, flags=ALONE).rcode == dns.rcode.REFUSED
        assert w.count("stale_marks") == 0


def test_nxdomain_takes_an_expired_answer_s_place() -> None:
    def play(asked: Asked) -> Reply:
        return reply(asked, rcode=dns.rcode.NXDOMAIN, soa=60)

    with Upstream(play) as up, world(up) as w:
        assert w.ask(NAME).kind == NXDOMAIN
        assert w.ask(NAME).kind == NXDOMAIN
        assert len(up.asked) == 1


def test_nxdomain_does_not_where_positive_answers_are_preferred() -> None:
    """serve_stale_policy prefer_positive: as long as the negative answer would have lasted."""

    def play(asked: Asked) -> Reply:
        if len(up.asked) > 1:
            return address(asked)
        return reply(asked, rcode=dns.rcode.NXDOMAIN, soa=3)

    with Upstream(play) as up, world(up, prefer_positive=True) as w:
        w.put(NAME)
        entry = take_old(w)
        outcome, held_ms = look(w, entry)
        assert (outcome, 0 < held_ms <= 3000) == ("stale now", True)
        assert (entry.kind, w.count("stores")) == (POSITIVE, 0)
        assert addresses(w.ask(NAME)) == [NEW]


def test_who_asks_after_the_stale_time_gets_the_stale_answer_at_once() -> None:
    """The refresh goes on; the entry is held until its end, so that nobody else waits."""
    with Upstream(silence) as up, world(up, question_deadline_ms=LONG, stale_wait_ms=100) as w:
        w.put(NAME)
        w.wait(lambda: w.post.inflight == 1, "the question")
        time.sleep(0.15)
        began = time.monotonic()
        w.put(NAME, worker=1)
        entry = take_old(w, worker=1)
        w.put(NAME)
        take_old(w)
        assert time.monotonic() - began < 2.0
        assert w.post.inflight == 1
        outcome, held_ms = look(w, entry)
        assert (outcome, 0 < held_ms <= LONG) == ("stale now", True)


def test_who_asks_before_it_waits() -> None:
    with Upstream(silence) as up, world(up, question_deadline_ms=500, stale_wait_ms=LONG) as w:
        w.put(NAME)
        w.put(NAME, worker=1)
        w.wait(lambda: w.count("joined") == 1, "the other worker's question")
        assert w.side[1].next() is None
        take_old(w)
        take_old(w, worker=1)


def test_a_refresh_is_asked_once_and_nobody_is_told() -> None:
    """serve_stale immediate: workers ask until they see the mark."""
    with Upstream() as up, world(up, stale_wait_ms=0) as w:
        for i in range(50):
            w.put(NAME, worker=i % 2, flags=RD | REFRESH)
        w.wait(lambda: w.count("questions") == 50 and w.count("stores") == 1, "the refreshed answer")
        assert len(up.asked) == 1
        assert w.side[0].next() is None
        assert w.side[1].next() is None
        assert addresses(w.ask(NAME)) == [NEW]
        assert w.post.inflight == 0


def test_a_refresh_holds_the_entry_while_it_is_under_way() -> None:
    with Upstream(silence) as up, world(up, question_deadline_ms=LONG, stale_wait_ms=0) as w:
        w.put(NAME, flags=RD | REFRESH)
        w.wait(lambda: w.count("stale_marks") == 1, "a mark")
        w.put(NAME)
        outcome, held_ms = look(w, take_old(w))
        assert (outcome, 0 < held_ms <= LONG) == ("stale now", True)


def test_a_refresh_holds_the_entry_while_another_question_is_under_way() -> None:
    """Or workers would put a refresh for each query until that one's end."""
    with Upstream(silence) as up, world(up, question_deadline_ms=LONG, stale_wait_ms=0) as w:
        w.put(NAME)
        w.wait(lambda: w.post.inflight == 1, "the question")
        w.put(NAME, flags=RD | REFRESH)
        w.wait(lambda: w.count("stale_marks") == 1, "a mark")


def test_recheck_0_holds_nothing() -> None:
    """serve_stale 1h verify 100ms 30s 0s: as CoreDNS, each client asks again."""
    with Upstream(silence) as up, world(up, question_deadline_ms=NO_TIME, recheck_ms=0) as w:
        w.put(NAME)
        assert look(w, take_old(w))[0] == "stale"


def test_our_own_overload_is_not_kept() -> None:
    """RFC 9520 is about upstreams: what finds no room here fails, and the next one is asked for."""
    with Upstream(silence) as up, world(up, question_deadline_ms=LONG) as w:
        w.side[0].put(1, wire(NAME), 1)
        w.wait(lambda: w.post.inflight == 1, "the question")
        capacity = 0
        while w.count("inflight_full") == 0:
            capacity += 1
            if not w.side[0].put(1000 + capacity, wire(f"n{capacity}.example."), 1):
                time.sleep(0.001)
        assert w.take().kind == FAILURE
        assert w.count("stores") == 0


# -------------------------------------------------------------- the return of an upstream ----


class Switched(Upstream):
    """An upstream that is off until it is switched on, and never answers for one of the names."""

    def __init__(self, never: str = "", *, on: bool = False) -> None:
        self.never = never
        self.on = on
        super().__init__(self.act)

    def act(self, asked: Asked) -> Reply:
        return address(asked) if self.on and asked.qname != self.never else None


def checks(up: Upstream) -> int:
    return sum(asked.query.question[0].to_text() == ". IN NS" for asked in up.asked)


def wait_for_the_end(w: World, entry: Answer) -> None:
    """The upstream is back: within 1 s nobody is given the stale answer at once any more."""
    began = time.monotonic()
    w.wait(lambda: look(w, entry)[0] == "stale", "the end of the hold", 3.0)
    assert time.monotonic() - began < 1.0
    assert w.count("upstreams_back") == 1


@pytest.mark.parametrize("tcp", [0, 1])
@pytest.mark.parametrize("health_check_ms", [500, 30_000])
def test_the_return_of_an_upstream_ends_all_holds(tcp: int, health_check_ms: int) -> None:
    """Nobody has to ask for anything: it is checked twice a second, however seldom the text says."""
    with (
        Switched() as up,
        world(up, question_deadline_ms=NO_TIME, max_fails=2, health_check_ms=health_check_ms, tcp=tcp) as w,
    ):
        w.put(NAME)
        entry = take_old(w)
        w.wait(lambda: checks(up) >= 4, "checks of a silent upstream")
        assert look(w, entry)[0] == "stale now"
        up.on = True
        wait_for_the_end(w, entry)
        assert addresses(w.ask(NAME)) == [NEW]
        asked = checks(up)
        time.sleep(0.7)
        assert checks(up) == asked


def test_nobody_at_the_address_is_found_out_as_well() -> None:
    port = closed_port()
    with world(port, question_deadline_ms=NO_TIME, max_fails=2) as w:
        w.put(NAME)
        entry = take_old(w)
        time.sleep(0.7)
        assert look(w, entry)[0] == "stale now"
        with Upstream(port=port):
            wait_for_the_end(w, entry)


def test_an_outage_of_a_moment_ends_them_too() -> None:
    """The kernel said that nobody is there: no check has to fail before that is believed."""
    port = closed_port()
    with world(port, question_deadline_ms=NO_TIME, max_fails=2, health_check_ms=30_000) as w:
        w.put(NAME)
        entry = take_old(w)
        with Upstream(port=port):
            wait_for_the_end(w, entry)


def test_one_of_several_upstreams_is_enough() -> None:
    with Switched() as up, world(closed_port(), up, question_deadline_ms=NO_TIME, max_fails=2) as w:
        w.put(NAME)
        entry = take_old(w)
        w.wait(lambda: checks(up) >= 3, "checks of a silent upstream")
        up.on = True
        wait_for_the_end(w, entry)


def test_a_name_that_leads_a_resolver_nowhere_stays_held() -> None:
    """The upstream answers its first check: it was never away."""
    with Switched(NAME, on=True) as up, world(up, question_deadline_ms=NO_TIME, max_fails=2) as w:
        w.put(NAME)
        entry = take_old(w)
        w.wait(lambda: checks(up) == 1, "a check")
        time.sleep(1.2)
        assert addresses(w.ask("other.example.")) == [NEW]
        assert look(w, entry)[0] == "stale now"
        assert (checks(up), w.count("upstreams_back")) == (1, 0)


def test_without_checks_any_answer_ends_holds() -> None:
    """max_fails 0: silent is who was so four times in a row."""
    with Switched() as up, world(up, question_deadline_ms=LONG, max_fails=0) as w:
        w.put(NAME)
        entry = take_old(w)
        up.on = True
        time.sleep(0.7)
        assert look(w, entry)[0] == "stale now"
        assert addresses(w.ask("other.example.")) == [NEW]
        wait_for_the_end(w, entry)
        assert checks(up) == 0


def test_what_fails_right_after_the_return_is_not_held_for_long() -> None:
    """It may have been asked in the outage only."""
    with Switched(NAME) as up, world(up, question_deadline_ms=1500, max_fails=2) as w:
        w.put("other.example.")
        time.sleep(1.0)
        w.put(NAME)
        assert w.take().kind == FAILURE
        up.on = True
        w.wait(lambda: w.count("upstreams_back") == 1, "the upstream's return")
        outcome, held_ms = look(w, take_old(w))
        assert (outcome, 0 < held_ms <= 1000) == ("stale now", True)


# ------------------------------------------------------------------ failures that are kept ----


def test_a_failure_of_silence_ends_with_it() -> None:
    """And carries its EDE while it is kept (RFC 8914); what an upstream said itself stays for its 5 s."""

    def play(asked: Asked) -> Reply:
        if asked.qname == "broken.example.":
            return reply(asked, rcode=dns.rcode.SERVFAIL)
        return address(asked) if on else None

    on = False
    with Upstream(play) as up, world(up, question_deadline_ms=NO_TIME, max_fails=2) as w:
        assert w.ask_failing("lost.example.") == EDE_NO_REACHABLE_AUTHORITY
        kept = w.ask("lost.example.")
        assert (kept.rcode, kept.stale_mark & 0xFFFF) == (dns.rcode.SERVFAIL, EDE_NO_REACHABLE_AUTHORITY)
        w.wait(lambda: checks(up) >= 2, "checks of a silent upstream")
        on = True
        w.wait(lambda: w.count("upstreams_back") == 1, "the upstream's return", 1.0)
        assert w.ask("broken.example.").rcode == dns.rcode.SERVFAIL
        assert addresses(w.ask("lost.example.")) == [NEW]
        asked = len(up.asked)
        assert w.ask("broken.example.").rcode == dns.rcode.SERVFAIL
        assert len(up.asked) == asked


def test_a_failure_holds_until_another_upstream_is_back() -> None:
    """RFC 9520 s3.2: it is that of those who were asked. One that was silent may answer the name."""
    with (
        Switched() as silent,
        Upstream(lambda asked: reply(asked, rcode=dns.rcode.SERVFAIL)) as broken,
        world(silent, broken, max_fails=2) as w,
    ):
        assert w.ask("lost.example.").rcode == dns.rcode.SERVFAIL
        asked = len(broken.asked)
        assert w.ask("lost.example.").rcode == dns.rcode.SERVFAIL
        assert len(broken.asked) == asked
        silent.on = True
        w.wait(lambda: w.count("upstreams_back") == 1, "the upstream's return")
        assert addresses(w.ask("lost.example.")) == [NEW]


def test_no_failure_is_kept_where_another_upstream_answers() -> None:
    with (
        Upstream(lambda asked: reply(asked, rcode=dns.rcode.SERVFAIL)) as broken,
        Upstream() as good,
        world(closed_port(), broken, good) as w,
    ):
        assert addresses(w.ask("lost.example.")) == [NEW]
        assert addresses(w.ask("lost.example.")) == [NEW]
        assert (len(good.asked), w.count("stores"), w.count("found_stored")) == (1, 1, 1)


def test_a_block_s_failure_is_not_another_s() -> None:
    """Two groups of listeners, and two blocks, for one name: each keeps its own."""

    def make(upstreams: tuple[model.Upstream, ...]) -> model.Config:
        blocks = tuple(model.Block(text=str(i), steps=(model.Forward((i,), max_fails=0),)) for i in (0, 1))
        zones = tuple(model.Zone(".", group, group) for group in (0, 1))
        return model.Config((), upstreams, zones, blocks, worker_count=2)

    with Upstream() as good, World([(closed_port(), 0), (good.port, 0)], make=make) as w:
        assert w.ask_failing(NAME, group=0) == EDE_NETWORK_ERROR
        assert addresses(w.ask(NAME, group=1)) == [NEW]
        assert w.ask(NAME, group=0).rcode == dns.rcode.SERVFAIL


def test_a_successor_begins_anew() -> None:
    """Who is silent it doesn't know: the first clients find out."""
    with Upstream(silence) as up, world(up, question_deadline_ms=NO_TIME) as w:
        w.put(NAME)
        entry = take_old(w)
        w.kill()
        assert look(w, entry)[0] == "stale now"
        w.start()
        assert look(w, entry)[0] == "stale"
