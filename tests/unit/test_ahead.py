# SPDX-License-Identifier: Apache-2.0
"""Names in use are asked again before they expire: which, when, and what comes of it."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import dns.rcode
import pytest

from fastdns import _segments
from fastdns._testing.cache import Cache
from fastdns.control.model import PREFETCH_HITS, Forward, HostRecord, HostsStep, Limits
from tests.coordtools import ANSWER, Asked, Reply, Upstream, World, records, reply, world
from tests.unit.test_chain import block, chain, running

NAME = "www.example."


def counting(*ttls: int) -> Callable[[Asked], Reply]:
    """Another address each time; the TTLs in turn, the last for ever."""
    given: list[int] = []

    def play(asked: Asked) -> Reply:
        given.append(ttls[min(len(given), len(ttls) - 1)])
        return reply(asked, records(asked.qname, given[-1], "A", f"192.0.2.{len(given)}"))

    return play


LARGE = 96 << 20  # octets of a cache: more shards than a pass has ms


def served(up: Upstream, **settings: Any) -> AbstractContextManager[World]:
    """What is asked is counted: nothing is asked again because the machine is slow."""
    zones = {"example.": block(Forward((0,)), **{"prefetch_hits": 1} | settings)}
    return world(up, make=chain(zones, limits=Limits(retry_floor_ms=5000)))


class Name:
    """What the cache has for a question that was asked once."""

    def __init__(self, w: World, name: str = NAME, qtype: str = "A") -> None:
        self.w = w
        self.entry = b""
        w.put(name, qtype)
        self.entry = w.take().entry
        self.cache = Cache(w.cache)

    @property
    def _found(self) -> tuple[str, int, bytes]:
        outcome, slot, header, *_ = self.cache.lookup(self.entry, _segments.now_ms())
        return outcome, slot or 0, header

    @property
    def stored(self) -> bytes:
        """The entry's header: another one after it was stored anew."""
        outcome, _, header = self._found
        assert outcome == "hit"
        return header

    def hit(self, times: int = 1) -> None:
        outcome, slot, _ = self._found
        assert outcome == "hit"
        self.w.side[0].hit(slot, times)


def expires(w: World, up: Upstream, seconds: float, asked: int) -> None:
    """Nothing is asked for so long but what was."""
    time.sleep(seconds)
    assert (len(up.asked), w.post.inflight) == (asked, 0)


def test_a_name_in_use_never_expires() -> None:
    with Upstream(counting(2)) as up, served(up) as w:
        name = Name(w)
        for life in range(2, 4):
            before = name.stored
            name.hit()
            w.wait(lambda before=before: name.stored != before, "the next life")  # type: ignore[misc]
            assert len(up.asked) == life
        assert all(one.at - other.at > 1.4 for one, other in zip(up.asked[1:], up.asked, strict=False))
        assert w.side[0].next() is None, "nobody waits for that"


def test_a_name_that_nobody_hits_goes() -> None:
    with Upstream(counting(1)) as up, served(up) as w:
        name = Name(w)
        expires(w, up, 1.2, asked=1)
        assert name.cache.lookup(name.entry, _segments.now_ms())[0] == "stale"


def test_it_has_to_be_hit_in_each_life_and_often_enough() -> None:
    with Upstream(counting(1)) as up, served(up, prefetch_hits=3) as w:
        name = Name(w)
        name.hit(3)
        w.wait(lambda: len(up.asked) == 2, "the second life")
        time.sleep(0.1)
        name.hit(2)
        expires(w, up, 1.2, asked=2)


def test_a_block_may_say_never_or_when() -> None:
    with Upstream(counting(1)) as up, served(up, prefetch_hits=0) as w:
        Name(w).hit(100)
        expires(w, up, 1.2, asked=1)
    with Upstream(counting(4)) as up, served(up, prefetch_percent=90) as w:
        Name(w).hit()
        w.wait(lambda: len(up.asked) == 2, "the question")
        assert up.asked[1].at - up.asked[0].at < 2.1


def test_a_failure_changes_nothing() -> None:
    def play(asked: Asked) -> Reply:
        if len(up.asked) == 1:
            return reply(asked, records(NAME, 1, "A", "192.0.2.1"))
        return reply(asked, rcode=dns.rcode.SERVFAIL)

    with Upstream(play) as up, served(up) as w:
        name = Name(w)
        before = name.stored
        name.hit()
        w.wait(lambda: len(up.asked) == 2, "the question")
        w.wait(lambda: w.post.inflight == 0, "its end")
        assert name.stored == before
        name.hit()
        expires(w, up, 0.4, asked=2)


def test_silence_is_not_remembered() -> None:
    def play(asked: Asked) -> Reply:
        return reply(asked, records(NAME, 1, "A", "192.0.2.1")) if len(up.asked) == 1 else None

    with Upstream(play) as up, world(up, question_deadline_ms=900) as w:
        name = Name(w)
        name.hit(PREFETCH_HITS)
        w.wait(lambda: len(up.asked) > 1, "the question")
        w.wait(lambda: w.post.inflight == 0, "its end")
        assert w.count("failures") == 0
        assert name.cache.lookup(name.entry, _segments.now_ms())[0] == "stale", "no SERVFAIL in its place"


def test_a_failure_that_comes_after_the_end_is_not_remembered() -> None:
    def play(asked: Asked) -> Reply:
        if len(up.asked) == 2:
            time.sleep(0.6)
            return reply(asked, rcode=dns.rcode.SERVFAIL)
        return reply(asked, records(NAME, 1, "A", "192.0.2.1"))

    with Upstream(play) as up, world(up, retry_floor_ms=2000, stale_s=0, failure_s=5) as w:
        Name(w).hit(PREFETCH_HITS)
        w.wait(lambda: len(up.asked) == 2, "the question")
        w.wait(lambda: w.post.inflight == 0, "its end")
        assert w.ask(NAME).rcode == dns.rcode.NOERROR


def test_rests_of_a_forwarders_ttl_are_not_chased() -> None:
    with Upstream(counting(2, 1)) as up, served(up, prefetch_percent=60) as w:
        name = Name(w)
        name.hit()
        w.wait(lambda: len(up.asked) == 2, "the question")
        time.sleep(0.1)
        name.hit()
        expires(w, up, 1.2, asked=3)  # 1 s is half of 2 s: that is a life


def test_what_comes_back_with_less_than_half_is_left_alone() -> None:
    with Upstream(counting(4, 1)) as up, served(up, prefetch_percent=80) as w:
        name = Name(w)
        name.hit()
        w.wait(lambda: len(up.asked) == 2, "the question")
        time.sleep(0.1)
        name.hit()
        expires(w, up, 1.2, asked=2)


@pytest.mark.parametrize("stale_wait_ms", [200, 4000])
def test_a_client_joins_what_is_asked_ahead(stale_wait_ms: int) -> None:
    def play(asked: Asked) -> Reply:
        if len(up.asked) > 1:
            time.sleep(0.6)
        return reply(asked, records(NAME, 1, "A", f"192.0.2.{len(up.asked)}"))

    with Upstream(play) as up, world(up, retry_floor_ms=2000, stale_wait_ms=stale_wait_ms) as w:
        name = Name(w)
        name.hit(PREFETCH_HITS)
        w.wait(lambda: len(up.asked) == 2, "the question")
        time.sleep(0.4)
        assert w.ask(NAME).message().answer[0][0].address == "192.0.2.2"
        assert len(up.asked) == 2


def test_a_client_that_joins_has_its_own_time() -> None:
    there = [True]

    def play(asked: Asked) -> Reply:
        return reply(asked, records(NAME, 1, "A", "192.0.2.1")) if there[0] else None

    with Upstream(play) as up, world(up, question_deadline_ms=900, stale_s=0) as w:
        Name(w).hit(PREFETCH_HITS)
        there[0] = False
        w.wait(lambda: len(up.asked) == 2, "the question")
        time.sleep(0.7)
        w.put(NAME)
        w.wait(lambda: w.count("joined") == 1, "the client")
        there[0] = True
        assert w.take().kind == ANSWER


def test_tables_and_failures_are_not_asked_again() -> None:
    hosts = HostsStep({"a.example.": HostRecord(inet4=(bytes(4),))}, ("example.",), (".",), 1)
    steps = (hosts, Forward((0,)))
    fails = Upstream(lambda asked: reply(asked, rcode=dns.rcode.SERVFAIL))
    with fails as up, running({"example.": block(*steps, failure_s=1)}, up) as w:
        Name(w, "a.example.").hit()
        Name(w, "b.example.").hit()
        expires(w, up, 1.2, asked=1)


def silent_to_the_second(count: int, seen: set[str]) -> Callable[[Asked], Reply]:
    """Answers `count` questions; whoever asks for these names again is only noted."""
    known: set[str] = set()

    def play(asked: Asked) -> Reply:
        if asked.qname not in known and asked.qname != ".":
            known.add(asked.qname)
            return reply(asked, records(asked.qname, 10, "A", "192.0.2.1"))
        if asked.qname in known and len(known) >= count:
            seen.add(asked.qname)
        return None

    return play


def test_few_are_under_way_at_once_and_all_get_their_turn() -> None:
    """Nobody waits for them, so each is given up after a second."""
    seen: set[str] = set()
    under_way: list[int] = []

    def all_seen() -> bool:
        under_way.append(w.post.inflight)
        return len(seen) == 200

    with Upstream(silent_to_the_second(200, seen)) as up, served(up, prefetch_percent=90) as w:
        for i in range(200):
            Name(w, f"n{i}.example.").hit()
        w.wait(all_seen, "all names", 8.0)
        assert max(under_way) == 64


def test_half_of_max_concurrent_is_left_for_clients() -> None:
    seen: set[str] = set()
    zone = block(Forward((0,), max_concurrent=4), prefetch_hits=1, prefetch_percent=90)
    with Upstream(silent_to_the_second(8, seen)) as up, running({"example.": zone}, up) as w:
        for i in range(8):
            Name(w, f"n{i}.example.").hit()
        w.wait(lambda: len(seen) == 2, "questions")
        time.sleep(0.2)
        assert len(seen) == 2
        assert w.ask("other.example.").message().answer
        assert w.count("concurrent_full") == 0


def test_the_end_does_not_wait_for_names_in_use() -> None:
    seen: set[str] = set()
    with Upstream(silent_to_the_second(200, seen)) as up, served(up, prefetch_percent=90) as w:
        for i in range(200):
            Name(w, f"n{i}.example.").hit()
        w.wait(lambda: len(seen) >= 64, "questions")
        w.stop(timeout=2.0)


def test_in_a_large_cache_names_in_use_never_expire_either() -> None:
    with Upstream(counting(2)) as up, world(up, cache_size=LARGE, prefetch_hits=1) as w:
        name = Name(w)
        before = name.stored
        name.hit()
        w.wait(lambda: name.stored != before, "the next life")
        assert len(up.asked) == 2
