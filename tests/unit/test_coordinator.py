# SPDX-License-Identifier: Apache-2.0
"""The whole coordinator in a process of its own, between workers' rings and upstreams over UDP."""

import random
import socket
import struct
import threading
import time

import dns.flags
import dns.rcode
import pytest

from fastdns import _segments
from fastdns._testing.cache import Cache
from tests.coordtools import (
    ANSWER,
    EDE_NETWORK_ERROR,
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_OTHER,
    FAILURE,
    NODATA,
    NXDOMAIN,
    POSITIVE,
    SERVFAIL,
    Asked,
    Reply,
    Upstream,
    World,
    address,
    closed_port,
    records,
    reply,
    silence,
    take_apart,
    wire,
    world,
)

ALONE, RD = 2, 1
DO, CD = 1, 2


def cached(w: World, entry: bytes) -> str:
    """What a worker finds now for the key of this entry."""
    outcome: str = Cache(w.cache).lookup(entry, _segments.now_ms())[0]
    return outcome


# ------------------------------------------------------------------------------ answers ----


def test_an_answer_is_handed_on_and_stored() -> None:
    def play(asked: Asked) -> Reply:
        return reply(
            asked,
            records("www.example.", 300, "A", "192.0.2.1"),
            records("www.example.", 60, "A", "192.0.2.2"),
        )

    with Upstream(play) as up, world(up) as w:
        ticket = w.put("WWW.Example.")
        record = w.take()
        assert (record.kind, record.ticket) == (ANSWER, ticket)
        answer = take_apart(record.entry)
        assert answer.kind == POSITIVE
        assert (answer.qname, answer.qtype, answer.qclass) == (wire("www.example."), 1, 1)
        assert (answer.ttls(), answer.ttl_s) == ([300, 60], 60)
        assert answer.fingerprint != 0
        assert abs(answer.stored_ms - _segments.now_ms()) < 5000
        assert [item.address for item in answer.message().answer[0]] == ["192.0.2.1", "192.0.2.2"]
        assert cached(w, record.entry) == "hit"
        names = ("questions", "upstream_udp", "upstream_answers", "stores")
        assert [w.count(name) for name in names] == [1, 1, 1, 1]
        w.wait(lambda: w.post.inflight == 0, "an empty table")


@pytest.mark.parametrize("key_flags", [0, DO, CD, DO | CD])
def test_the_query_upstream(key_flags: int) -> None:
    with Upstream() as up, world(up) as w:
        w.ask("www.example.", key_flags=key_flags)
        query = up.asked[0].query
        assert query.question[0].to_text() == "www.example. IN A"
        assert (query.edns, query.payload, query.options) == (0, 1232, ())
        assert bool(query.ednsflags & dns.flags.DO) == bool(key_flags & DO)
        assert query.flags & ~dns.flags.CD == dns.flags.RD | dns.flags.AD
        assert bool(query.flags & dns.flags.CD) == bool(key_flags & CD)


def test_types_and_classes_pass_as_they_are() -> None:
    with Upstream(lambda asked: reply(asked, soa=60)) as up, world(up) as w:
        w.ask("www.example.", 65280)
        w.ask("version.bind.", "TXT", qclass=3)
        questions = [asked.query.question[0] for asked in up.asked]
        assert [(int(q.rdtype), int(q.rdclass)) for q in questions] == [(65280, 1), (16, 3)]


@pytest.mark.parametrize("name", [".", "a.", "x" * 63 + ".", ".".join(["y" * 63] * 3) + "." + "z" * 61 + "."])
def test_names_of_all_lengths(name: str) -> None:
    with Upstream() as up, world(up) as w:
        assert w.ask(name).message().answer[0].name.to_text() == name


def test_negative_answers() -> None:
    def play(asked: Asked) -> Reply:
        rcode = dns.rcode.NXDOMAIN if asked.qname.startswith("nx") else dns.rcode.NOERROR
        soa = None if "bare" in asked.qname else 900
        return reply(asked, rcode=rcode, soa=soa, minimum=30)

    with Upstream(play) as up, world(up) as w:
        for name, kind in (("nx.example.", NXDOMAIN), ("nodata.example.", NODATA)):
            answer = w.ask(name)
            assert (answer.kind, answer.ttl_s, answer.ttls()) == (kind, 30, [30])
        assert w.count("stores") == 2
        for name, kind in (("nx.bare.example.", NXDOMAIN), ("bare.example.", POSITIVE)):
            assert w.ask(name).kind == kind
        assert (w.count("stores"), w.count("not_stored")) == (2, 2)


def test_ttl_zero_reaches_its_client_and_nobody_else() -> None:
    def play(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 0, "A", "192.0.2.1"))

    with Upstream(play) as up, world(up) as w:
        ticket = w.put("zero.example.")
        record = w.take()
        assert record.ticket == ticket
        assert take_apart(record.entry).ttls() == [0]
        assert cached(w, record.entry) == "miss"


def test_a_block_without_cache_stores_nothing() -> None:
    with Upstream() as up, world(up, caching=0) as w:
        assert w.ask("www.example.").ttls() == [300]
        assert (w.count("stores"), w.count("not_stored")) == (0, 1)


# ------------------------------------------------------------------------------ joining ----


def held() -> tuple[threading.Event, Upstream]:
    """An upstream that answers when the event is set."""
    gate = threading.Event()

    def play(asked: Asked) -> Reply:
        gate.wait(10)
        return address(asked)

    return gate, Upstream(play)


def test_workers_share_a_question() -> None:
    gate, up = held()
    with up, world(up, retry_floor_ms=5000) as w:
        tickets = [w.put("www.example.", worker=i) for i in (0, 1)]
        w.wait(lambda: w.count("questions") == 2, "both questions")
        gate.set()
        for i in (0, 1):
            record = w.take(i)
            assert (record.kind, record.ticket) == (ANSWER, tickets[i])
            assert take_apart(record.entry).message().answer
        assert len(up.asked) == 1
        assert w.count("joined") == 1


def test_an_answer_stored_since_the_worker_looked_is_found() -> None:
    """The other worker's look-up came before the store, its question after: nobody is asked again."""
    gate, up = held()
    gate.set()
    with up, world(up) as w:
        w.put("www.example.")
        first = w.take()
        ticket = w.put("www.example.", worker=1)
        second = w.take(1)
        assert (second.kind, second.ticket) == (ANSWER, ticket)
        assert take_apart(second.entry).message().answer == take_apart(first.entry).message().answer
        assert len(up.asked) == 1
        assert (w.count("found_stored"), w.count("stores")) == (1, 1)


def test_an_answer_in_its_last_second_is_asked_for_again() -> None:
    """On its way to the client its time would be over, and a worker would write it as a stale one."""

    def play(asked: Asked) -> Reply:
        return reply(asked, records(asked.qname, 1, "A", "192.0.2.1"))

    with Upstream(play) as up, world(up) as w:
        for worker in (0, 1):
            assert w.ask("www.example.", worker=worker).ttls() == [1]
        assert len(up.asked) == 2
        assert w.count("found_stored") == 0


def test_a_newer_ticket_takes_an_older_ones_place() -> None:
    gate, up = held()
    with up, world(up, retry_floor_ms=5000) as w:
        w.put("www.example.")
        newer = w.put("www.example.")
        w.wait(lambda: w.count("questions") == 2, "both questions")
        gate.set()
        assert w.take().ticket == newer
        assert w.side[0].next() is None
        assert (len(up.asked), w.count("joined")) == (1, 0)


OTHER_KEYS = {"qtype": 28, "key_flags": DO, "group": 1, "variant": 4, "qclass": 3}


@pytest.mark.parametrize(("part", "value"), OTHER_KEYS.items())
def test_another_key_is_another_question(part: str, value: int) -> None:
    gate, up = held()
    with up, world(up, retry_floor_ms=5000) as w:
        w.put("www.example.", worker=0)
        w.put("www.example.", worker=1, **{part: value})
        w.wait(lambda: w.count("upstream_udp") == 2, "both questions")
        gate.set()
        assert w.take(0).kind == w.take(1).kind == ANSWER
        assert w.count("joined") == 0


@pytest.mark.parametrize("flags", [ALONE, ALONE | RD])
def test_alone_is_neither_joined_nor_stored(flags: int) -> None:
    gate, up = held()
    with up, world(up, retry_floor_ms=5000) as w:
        w.put("www.example.", worker=0)
        w.put("www.example.", worker=1, flags=flags)
        w.wait(lambda: w.count("upstream_udp") == 2, "both questions")
        gate.set()
        assert w.take(1).kind == w.take(0).kind == ANSWER
        assert bool(up.asked[1].query.flags & dns.flags.RD) == bool(flags & RD)
        assert (w.count("stores"), w.count("not_stored")) == (1, 1)


# ------------------------------------------------------------------ silence and failure ----


def test_a_lost_packet_costs_milliseconds_and_another_port() -> None:
    def play(asked: Asked) -> Reply:
        tries = sum(other.qname == asked.qname for other in up.asked)
        return None if asked.qname.startswith("lossy") and tries == 1 else address(asked)

    with Upstream(play) as up, world(up) as w:
        for i in range(20):
            w.ask(f"warm{i}.example.")  # so that the round-trip time is known
        ports = []
        for i in range(10):
            w.ask(f"lossy{i}.example.")
            first, second = (a for a in up.asked if a.qname == f"lossy{i}.example.")
            assert first.wire[:2] != second.wire[:2]
            assert first.peer[1] != second.peer[1]
            assert second.at - first.at < 0.5
            ports.append(second.at - first.at)
        assert min(ports) < 0.1  # the rest is the machine: round-trip times and their spread count
        assert w.count("upstream_retries") >= 10


def test_a_late_answer_to_the_first_attempt_counts() -> None:
    def play(asked: Asked) -> Reply:
        if len(up.asked) > 1:
            return None
        time.sleep(0.4)  # after the first retry, which is never answered
        return address(asked)

    with Upstream(play) as up, world(up) as w:
        assert w.ask("www.example.").ttls() == [300]
        assert w.count("upstream_retries") >= 1


def test_silence_leads_to_the_next_upstream() -> None:
    with Upstream(silence) as dead, Upstream() as alive, world(dead, alive) as w:
        w.ask("www.example.")
        assert len(dead.asked) == 2  # from two ports
        assert len({asked.peer for asked in dead.asked}) == 2
        assert len(alive.asked) == 1


def test_the_deadline_ends_a_question() -> None:
    with Upstream(silence) as up, world(up, question_deadline_ms=300) as w:
        begin = time.monotonic()
        assert w.ask_failing("www.example.") == EDE_NO_REACHABLE_AUTHORITY
        assert 0.28 < time.monotonic() - begin < 1.0
        w.wait(lambda: w.post.inflight == 0, "an empty table")
        assert w.count("failures") == 1


def test_silence_is_remembered() -> None:
    """RFC 9520 s3.2: who asks within five seconds gets the failure from the cache, and no flight is begun."""
    # recheck_ms: nor is anything asked to see whether the upstream is back.
    with Upstream(silence) as up, world(up, question_deadline_ms=300, recheck_ms=0) as w:
        w.ask_failing("www.example.")
        asked = w.count("upstream_udp")
        answer = w.ask("www.example.", worker=1)
        assert (answer.kind, answer.rcode, answer.ttl_s) == (SERVFAIL, dns.rcode.SERVFAIL, 5)
        assert answer.counts == (0, 0, 0)
        assert w.count("upstream_udp") == asked
        assert (w.count("failures"), w.count("stores"), w.count("found_stored")) == (1, 1, 1)
        w.ask_failing("www.example.", key_flags=CD)  # another key
        w.ask_failing("alone.example.", flags=ALONE)
        w.ask_failing("alone.example.")  # what was asked alone is not kept for others
        assert w.count("stores") == 3


def test_silence_does_not_replace_an_answer() -> None:
    up = Upstream(lambda asked: address(asked) if len(up.asked) == 1 else None)
    with up, world(up, question_deadline_ms=300, stale_s=3600, ttl_max_s=1) as w:
        ticket = w.put("www.example.")
        record = w.take()
        assert (record.kind, record.ticket) == (ANSWER, ticket)
        assert w.ask("www.example.").wire() == take_apart(record.entry).wire()
        assert cached(w, record.entry) in ("hit", "stale", "stale now")


def test_nobody_there_leads_to_the_next_upstream_at_once() -> None:
    with Upstream() as alive, world(closed_port(), alive) as w:
        begin = time.monotonic()
        for i in range(5):
            w.ask(f"www{i}.example.")
        assert time.monotonic() - begin < 0.18  # the first wait for silence alone would be 0.2 s
        assert len(alive.asked) == 5


def test_nobody_anywhere_fails_at_once() -> None:
    with world(closed_port(), closed_port()) as w:
        begin = time.monotonic()
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        assert time.monotonic() - begin < 0.18
        # Each was asked from a second port: behind a service's address another server may answer there.
        assert w.count("upstream_sockets") == 6
        assert 2 <= w.count("upstream_udp") <= 8


def test_a_silent_upstream_is_passed_over_and_probed() -> None:
    with Upstream(silence) as first, Upstream() as second, world(first, second) as w:
        for i in range(8):
            w.ask(f"early{i}.example.")
        spent = []
        for i in range(20):
            begin = time.monotonic()
            w.ask(f"www{i}.example.")
            spent.append(time.monotonic() - begin)
        assert sorted(spent)[10] < 0.05
        assert len(first.asked) < 25
        first.play = address
        w.wait(lambda: probed(w, first), "a probe")
        before = len(second.asked)
        for i in range(5):
            w.ask(f"late{i}.example.")
        assert len(second.asked) == before


def probed(w: World, up: Upstream) -> bool:
    before = len(up.asked)
    w.ask(f"probe{time.monotonic_ns()}.example.")  # one name would be asked once
    return len(up.asked) > before


def test_no_route_fails_at_once() -> None:
    # A link-local address without a scope: connect itself refuses.
    for force_tcp in (0, 1):
        with World([(53, force_tcp)] * 2, address="fe80::1") as w:
            begin = time.monotonic()
            assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
            assert time.monotonic() - begin < 0.18


def test_no_upstream_at_all() -> None:
    with world() as w:
        assert w.ask_failing("www.example.") == EDE_NO_REACHABLE_AUTHORITY


def test_an_upstream_that_comes_back() -> None:
    port = closed_port()
    with world(port) as w:
        assert w.ask_failing("www.example.") == EDE_NETWORK_ERROR
        with Upstream(port=port):
            for i in range(40):
                w.ask(f"www{i}.example.")


@pytest.mark.parametrize(
    "rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR]
)
def test_a_refusing_upstream_leads_to_another(rcode: dns.rcode.Rcode) -> None:
    with Upstream(lambda asked: reply(asked, rcode=rcode)) as bad, Upstream() as good, world(bad, good) as w:
        assert w.ask("www.example.").kind == POSITIVE
        assert (len(bad.asked), len(good.asked)) == (1, 1)


FROM_ALL = {dns.rcode.SERVFAIL: 1, dns.rcode.REFUSED: 0, dns.rcode.YXDOMAIN: 0}


@pytest.mark.parametrize(("rcode", "stored"), FROM_ALL.items())
def test_a_failure_from_everybody_is_handed_on(rcode: dns.rcode.Rcode, stored: int) -> None:
    def play(asked: Asked) -> Reply:
        return reply(asked, rcode=rcode)

    with Upstream(play) as one, Upstream(play) as two, world(one, two) as w:
        answer = w.ask("www.example.")
        assert (answer.kind, answer.rcode) == (SERVFAIL, rcode)
        assert w.count("stores") == stored
        if stored:
            assert answer.ttl_s == 5
        assert len(one.asked) == 1
        assert len(two.asked) == (rcode != dns.rcode.YXDOMAIN)  # that one is about the name


# --------------------------------------------------------------------- what upstreams do ----


def without_question(asked: Asked, rcode: int) -> bytes:
    return asked.wire[:2] + struct.pack("!5H", 0x8080 | rcode, 0, 0, 0, 0)


@pytest.mark.parametrize("form", ["header", "question"])
@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_an_upstream_that_does_not_know_edns(form: str, rcode: dns.rcode.Rcode) -> None:
    def play(asked: Asked) -> Reply:
        if asked.query.edns < 0:
            return address(asked)
        return without_question(asked, rcode) if form == "header" else reply(asked, rcode=rcode, opt=False)

    with Upstream(play) as up, world(up) as w:
        assert w.ask("www.example.").kind == POSITIVE
        assert [asked.query.edns for asked in up.asked] == [0, -1]


def test_answers_to_other_questions_are_ignored_and_counted() -> None:
    def play(asked: Asked) -> Reply:
        good = address(asked)
        other_id = struct.pack("!H", struct.unpack("!H", good[:2])[0] ^ 1) + good[2:]
        other_name = good[:13] + bytes([good[13] ^ 2]) + good[14:]
        other_type = bytearray(good)
        other_type[12 + len(wire(asked.qname)) + 1] = 28
        return [other_id, other_name, bytes(other_type), good]

    with Upstream(play) as up, world(up) as w:
        assert w.ask("www.example.").message().answer
        w.wait(lambda: w.count("upstream_mismatched") == 3, "three mismatches")
        assert len(up.asked) == 1


def test_an_answer_from_elsewhere_never_arrives() -> None:
    def play(asked: Asked) -> Reply:
        other.sendto(reply(asked, records(asked.qname, 300, "A", "203.0.113.66")), asked.peer)
        time.sleep(0.02)
        return address(asked)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, Upstream(play) as up, world(up) as w:
        other.bind(("127.0.0.2", 0))
        assert "192.0.2.1" in w.ask("www.example.").message().to_text()


def test_malformed_answers_are_ignored_and_counted() -> None:
    def play(asked: Asked) -> Reply:
        good = address(asked)
        return [good[:-3], good[:11], b"", b"x", good[:2] + b"\0\0" + good[4:], good]

    with Upstream(play) as up, world(up) as w:
        assert w.ask("www.example.").message().answer
        bad = ("upstream_malformed", "upstream_mismatched")
        w.wait(lambda: sum(map(w.count, bad)) == 5, "five bad answers")
        assert w.count("upstream_malformed") >= 1
        assert len(up.asked) == 1


def test_a_flood_of_noise_on_an_answered_question() -> None:
    rng = random.Random(3)

    def play(asked: Asked) -> Reply:
        noise = [asked.wire[: rng.choice((2, 12, 40))] + rng.randbytes(rng.randrange(1400))] * 150
        return [*noise, address(asked)]

    with Upstream(play) as up, world(up) as w:
        for i in range(20):
            w.ask(f"www{i}.example.")


def test_datagrams_longer_than_asked_for_are_fetched_over_tcp() -> None:
    def play(asked: Asked) -> Reply:
        texts = [f'"{"x" * 200}{i}"' for i in range(20)]
        return reply(asked, records(asked.qname, 60, "TXT", *texts))

    with Upstream(play) as up, world(up) as w:
        answer = w.ask("www.example.", "TXT")
        assert len(answer.message().answer[0]) == 20
        assert [asked.tcp for asked in up.asked] == [False, True]
        assert w.count("upstream_truncated") == 1


# ------------------------------------------------------------------------------- sockets ----


def test_ports_and_ids_are_many() -> None:
    with Upstream() as up, world(up) as w:
        for i in range(300):
            w.ask(f"www{i}.example.")
        assert len({asked.peer[1] for asked in up.asked}) >= 28  # of 32
        ids = [struct.unpack("!H", asked.wire[:2])[0] for asked in up.asked]
        assert len(set(ids)) > 280
        assert {i >> 15 for i in ids} == {0, 1}
        assert w.count("upstream_sockets") <= 32


def test_a_round_goes_out_on_one_socket() -> None:
    with Upstream() as up, world(up) as w:
        w.kill()
        tickets = [w.put(f"www{i}.example.") for i in range(64)]
        w.start()
        assert set(w.take_all(64)) == set(tickets)
        ports = [asked.peer[1] for asked in up.asked]
        assert len(set(ports[:64])) == 1


def test_ipv6_upstream() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            pytest.skip("needs IPv6 on loopback")
        with World([(sock.getsockname()[1], 0)], address="::1") as w:
            w.put("www.example.")
            data, peer = sock.recvfrom(4096)
            sock.sendto(address(Asked(data, peer, False, 0.0)), peer)
            assert w.take().kind == ANSWER


# -------------------------------------------------------------------------------- bounds ----


def test_more_questions_than_places() -> None:
    gate, up = held()
    with up, world(up, workers=1, retry_floor_ms=5000, region={"pending": 64}) as w:
        tickets = [w.put(f"www{i}.example.") for i in range(80)]
        refused = w.take_all(16)
        assert all(record.kind == FAILURE and record.ede == EDE_OTHER for record in refused.values())
        assert w.count("inflight_full") == 16
        gate.set()
        answered = w.take_all(64)
        assert all(record.kind == ANSWER for record in answered.values())
        assert set(answered) | set(refused) == set(tickets)
        w.ask("later.example.")


def test_more_long_names_than_places() -> None:
    gate, up = held()
    with up, world(up, workers=1, retry_floor_ms=5000, region={"pending": 64}) as w:
        long = [w.put(f"{'x' * 60}.n{i}.example.") for i in range(20)]
        refused = w.take_all(4)
        assert w.count("inflight_full") == 4
        short = w.put("short.example.")
        gate.set()
        assert {*w.take_all(17), *refused} == {*long, short}


def test_a_full_answer_ring_drops_marks_and_goes_on() -> None:
    with Upstream() as up, world(up, workers=1, region={"answers": 4096}) as w:
        for i in range(40):
            w.put(f"www{i}.example.")
        w.wait(lambda: w.count("upstream_answers") == 40, "all answers")
        w.wait(lambda: w.count("answer_ring_full") == w.side[0].marked > 0, "the mark")
        taken = 0
        while w.side[0].next() is not None:
            taken += 1
        assert taken == 40 - w.count("answer_ring_full")
        assert w.count("stores") == 40  # dropped for this worker, and yet a hit from now on
        w.ask("later.example.")


def test_records_that_make_no_sense() -> None:
    rng = random.Random(5)
    with Upstream() as up, world(up) as w:
        w.side[0].put_raw(b"")
        w.side[0].put_raw(bytes(32))
        w.side[0].put_raw(bytes(32), kind=9)
        w.side[0].put_raw(bytes(24) + bytes([200, 1]) + bytes(6) + b"\x03abc\0")  # longer than the record
        for _ in range(100):
            w.side[0].put_raw(rng.randbytes(rng.randrange(300)))
            w.side[0].put_raw(bytes(24) + rng.randbytes(rng.randrange(8, 300)))
        w.ask("www.example.")
        assert w.count("questions_invalid") > 100


def test_idle_it_wakes_ten_times_a_second() -> None:
    with Upstream() as up, world(up) as w:
        w.ask("www.example.")
        time.sleep(0.3)
        before, beats = w.count("wakeups"), w.post.heartbeat
        time.sleep(1.0)
        assert 5 <= w.count("wakeups") - before <= 12
        assert w.post.heartbeat - beats >= 5
