# SPDX-License-Identifier: Apache-2.0
"""The coordinator's beginning and end: restarts, what was in hand, quarantine, the stop word."""

import os
import time

import pytest

from fastdns import _segments
from fastdns.coordinator.process import main, readable
from tests.coordtools import (
    ANSWER,
    EDE_OTHER,
    FAILURE,
    Asked,
    Reply,
    Upstream,
    World,
    address,
    silence,
    wire,
    world,
)


def test_generations_grow() -> None:
    with Upstream() as up, world(up) as w:
        first = w.post.generation
        assert w.side[0].coordinator_generation == w.side[1].coordinator_generation == first
        w.kill()
        w.post.starts = 0  # a keeper that lost its count
        w.start()
        assert w.post.generation > first
        assert w.side[0].coordinator_generation == w.post.generation
        assert w.post.serving == 1


def test_every_worker_is_rung_once_at_the_start() -> None:
    with Upstream() as up, world(up) as w:
        w.wait(lambda: rung(w.wakes[0]), "a ring")
        w.wait(lambda: rung(w.wakes[1]), "a ring")


def rung(wake: int) -> bool:
    try:
        return os.eventfd_read(wake) == 1
    except BlockingIOError:
        return False


def test_a_question_outlives_a_coordinator() -> None:
    with Upstream() as up, world(up) as w:
        w.kill()
        ticket = w.put("www.example.")
        w.start()
        assert w.take().ticket == ticket


def test_entries_outlive_a_coordinator() -> None:
    with Upstream() as up, world(up) as w:
        for i in range(50):
            w.ask(f"www{i}.example.")
        w.kill()
        w.start()
        assert w.count("scan_kept") == 50
        assert w.count("scan_dropped") == 0


def test_round_trip_times_outlive_a_coordinator() -> None:
    def play(asked: Asked) -> Reply:
        return None if asked.qname.startswith("lossy") and len(up.asked) < 60 else address(asked)

    with Upstream(play) as up, world(up) as w:
        for i in range(50):
            w.ask(f"www{i}.example.")
        time.sleep(0.25)  # they are noted ten times a second
        w.kill()
        up.asked.clear()
        w.start()
        w.put("lossy.example.")
        w.wait(lambda: len(up.asked) >= 2, "a repetition")
        first, second = up.asked[:2]
        assert second.at - first.at < 0.15  # it would be 0.2 s without them


def test_nothing_is_in_hand_when_nothing_happens() -> None:
    with Upstream() as up, world(up) as w:
        w.ask("www.example.")
        w.wait(lambda: w.post.in_hand == 0, "empty hands")
        w.kill()
        w.start()
        assert w.post.suspects(1) == w.post.suspects(2) == {}


def die_with(w: World, name: str, thread: bool = False) -> int:
    """What stands in the post after a death with this question in the loop's or the thread's hand."""
    if w.pid:
        w.kill()
    key_hash = w.side[1].put(0, wire(name), 1)
    w.post.note(key_hash, wire(name), thread)
    return key_hash


def test_one_death_costs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Upstream() as up, world(up) as w:
        key_hash = die_with(w, "poison.example.")
        w.start()
        assert w.take(1).kind == ANSWER
        w.wait(lambda: w.post.suspects() == {}, "the suspect's acquittal")
        assert key_hash not in w.post.suspects(2)
    assert "706f69736f6e" in capfd.readouterr().err  # its bytes


def test_two_deaths_put_a_key_into_quarantine(capfd: pytest.CaptureFixture[str]) -> None:
    with Upstream(silence) as up, world(up) as w:
        key_hash = die_with(w, "poison.example.")
        w.start()
        assert list(w.post.suspects()) == [key_hash]
        assert die_with(w, "poison.example.") == key_hash
        w.start()
        record = w.take(1)
        assert (record.kind, record.ede) == (FAILURE, EDE_OTHER)
        until = w.post.suspects(2)[key_hash]
        assert 55_000 < until - _segments.now_ms() <= 60_000
        assert w.count("quarantined") >= 1
        assert w.count("poisoned") == 1
        assert w.post.suspects() == {}
        up.play = address
        w.ask("other.example.")
        assert w.ask_failing("poison.example.") == EDE_OTHER
        # It outlives the next coordinator too.
        w.kill()
        w.start()
        assert w.ask_failing("poison.example.") == EDE_OTHER
    assert "refused for 60 s" in capfd.readouterr().err


def test_two_poisons_in_turn() -> None:
    """They don't make each other forgotten: each costs two coordinators."""
    with Upstream(silence) as up, world(up) as w:
        deaths = []
        for name in ("one.example.", "two.example.", "one.example.", "two.example."):
            key_hash = die_with(w, name)
            w.start()
            deaths.append((len(w.post.suspects()), len(w.post.suspects(2))))
            assert key_hash in w.post.suspects() | w.post.suspects(2)
        assert deaths == [(1, 0), (2, 0), (1, 1), (0, 2)]
        while w.side[1].next() is not None:
            pass
        assert w.ask_failing("one.example.") == w.ask_failing("two.example.") == EDE_OTHER
        up.play = address
        w.ask("three.example.")


def test_the_python_threads_question_counts_as_the_loops() -> None:
    with Upstream(silence) as up, world(up) as w:
        key_hash = die_with(w, "poison.example.", thread=True)
        w.start()
        assert list(w.post.suspects()) == [key_hash]
        assert w.post.thread_in_hand == 0
        die_with(w, "poison.example.", thread=True)
        w.start()
        assert list(w.post.suspects(2)) == [key_hash]


def test_who_dies_beside_a_known_suspect_is_none() -> None:
    """Both threads had something in hand: both are suspects, but where one is known already."""

    def play(asked: Asked) -> Reply:
        return None if asked.qname.startswith("poison") else address(asked)

    with Upstream(play) as up, world(up) as w:
        first = die_with(w, "poison.example.", thread=True)
        second = die_with(w, "chance.example.")
        w.start()
        w.wait(lambda: list(w.post.suspects()) == [first], "the other one's acquittal")
        assert second != first
        die_with(w, "poison.example.", thread=True)
        die_with(w, "another.example.")
        w.start()
        assert w.post.suspects() == {}
        assert list(w.post.suspects(2)) == [first]


def test_more_poison_than_places() -> None:
    with Upstream(silence) as up, world(up) as w:
        for i in range(18):
            die_with(w, f"poison{i}.example.")
            w.start()
            last = die_with(w, f"poison{i}.example.")
            w.start()
        assert len(w.post.suspects(2)) == 16
        assert last in w.post.suspects(2)


def test_killed_at_any_instruction_every_question_is_answered() -> None:
    with Upstream() as up, world(up, region={"answers": 1 << 20}) as w:
        for life in range(15):
            tickets = {w.put(f"l{life}-{i}.example."): f"l{life}-{i}.example." for i in range(60)}
            time.sleep(0.0005 * life)
            w.kill()
            found: set[int] = set()
            while (record := w.side[0].next()) is not None:
                found.add(record.ticket)
            w.start()
            # What the dead one had taken and not answered a worker puts again when it sees the generation.
            for ticket, name in tickets.items():
                if ticket not in found:
                    assert w.side[0].put(ticket, wire(name), 1)
            while found != set(tickets):
                record = w.take()
                assert record.kind == ANSWER
                assert record.ticket in tickets
                found.add(record.ticket)
            while w.side[0].next() is not None:
                pass
            w.wait(lambda: w.post.inflight == 0 and not w.side[0].questions_waiting, "an idle coordinator")
            while w.side[0].next() is not None:
                pass


# ---------------------------------------------------------------------------------- stop ----


def test_stops_at_once_whatever_is_in_flight() -> None:
    with Upstream(silence) as up, world(up, question_deadline_ms=60_000) as w:
        w.put("www.example.")
        w.wait(lambda: w.post.inflight == 1, "a question in flight")
        w.stop(timeout=2.0)
        assert w.post.serving == 0


# ---------------------------------------------------------------------------- bad starts ----


@pytest.mark.parametrize("part", ["config", "cache", "post_fd", "regions"])
def test_a_damaged_segment_is_refused(part: str) -> None:
    with World([(53, 0)]) as w:
        w.kill()
        if part == "config":  # a sealed one can't be damaged
            content = os.pread(w.config, 1 << 20, 0)
            os.close(w.config)
            w.config = os.memfd_create("config")
            os.write(w.config, content)
        fd = w.regions[1] if part == "regions" else getattr(w, part)
        os.pwrite(fd, b"X", 0)
        w.post.starts += 1
        w.pid = os.fork()
        if w.pid == 0:
            os.close(2)
            main(w.handles())
        assert os.waitstatus_to_exitcode(w.reap()) == 1


def test_names_in_log_lines() -> None:
    assert readable(wire("www.example.")) == "www.example."
    assert readable(b"\0") == "."
    assert readable(b"") == "."
    assert "\n" not in readable(b"\x03a\nb\0")
    assert "\x1b" not in readable(b"\x03\x1b[m\0")
    assert readable(b"\x3fshort") == "."


@pytest.mark.parametrize("name", ["crash.fastdns.", "deep.hang.fastdns."])
def test_a_release_has_no_question_that_kills(name: str) -> None:
    with Upstream() as up, world(up) as w:
        w.ask("x." + name)
        assert w.alive()
