# SPDX-License-Identifier: Apache-2.0
"""Lines of `log` and `errors` from the log rings (corefile.md 2.3)."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fastdns import _stats
from fastdns._testing.observe import Log as Ring
from fastdns.control.config.model import Consolidate, Corefile, Errors, Log
from fastdns.control.observe.log import LogPump, Writer, compile_format, go_duration
from fastdns.control.observe.names import name_all
from fastdns.control.segments import Segments
from tests.observetools import WHERE, make_segments, rke2, rke2_config

BIG = b"\x03Big\x07example\x00"
CLUSTER = b"\x03svc\x07cluster\x05local\x00"
CORP, ROOT = 1, 2  # numbers of zones in rke2_config


@pytest.fixture
def segments() -> Iterator[Segments]:
    with make_segments() as made:
        yield made


class Lines:
    """A pump that writes to a pipe, and what came out of it."""

    def __init__(self, segments: Segments, corefile: Corefile) -> None:
        self.output, self._input = os.pipe2(os.O_NONBLOCK)
        self.ledger = _stats.Ledger(segments.ledger)
        self.logs = [Ring(one) for one in segments.logs]
        self.corefile = corefile
        self.pump = LogPump(
            segments.logs,
            Writer(self.ledger, self._input),
            lambda: sum(_stats.read_log(one)["dropped"] for one in segments.logs),
        )
        self.pump.apply(rke2_config(), corefile, name_all(rke2_config(), corefile))

    def read(self, now_s: float = 1000.0) -> list[str]:
        """What the records that are there make."""
        self.pump.pump(now_s)
        return self.waiting()

    def waiting(self) -> list[str]:
        try:
            return os.read(self.output, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.output)
        os.close(self._input)


@pytest.fixture
def opened() -> Iterator[list[Lines]]:
    made: list[Lines] = []
    yield made
    for one in made:
        one.close()


def with_log(*logs: Log) -> Corefile:
    return rke2(log=logs)


def log(form: str = "", zones: tuple[str, ...] = (), classes: tuple[str, ...] = ("all",)) -> Log:
    return Log(where=WHERE, format=form, zones=zones, classes=classes)


def test_the_default_line_to_the_octet(segments: Segments, opened: list[Lines]) -> None:
    """corefile.md 2.3, as observed."""
    lines = Lines(segments, with_log(log()))
    opened.append(lines)
    lines.logs[1].query(BIG, tcp=False, reply_flags=0x8580, duration_us=2534)
    expected = (
        '[INFO] 10.42.0.5:39335 - 65392 "A IN big.example. udp 29 false 512" NOERROR qr,aa,rd,ra 1649'
        " 0.002534s"
    )
    assert lines.read() == [expected]


def test_nothing_was_written(segments: Segments, opened: list[Lines]) -> None:
    lines = Lines(segments, with_log(log()))
    opened.append(lines)
    lines.logs[0].query(BIG, reply_flags=0, rcode=2, entry_kind=0, duration_us=6_001_965)
    assert [line.rpartition('"')[2] for line in lines.read()] == [" - - 0 6.001965s"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("{common}", '[fd00::7]:53 - 7 "AAAA CH . tcp 40 true 65535" REFUSED qr,tc,rd,z,ad,cd 99 1s'),
        ("{combined}", '[fd00::7]:53 - 7 "AAAA CH . tcp 40 true 65535" REFUSED qr,tc,rd,z,ad,cd 99 1s "4"'),
        ("{remote}|{local}|{port}", "[fd00::7]|169.254.20.10|53"),
        ("{type} {class} {name} {proto} {size} {rsize}", "AAAA CH . tcp 40 99"),
        ("{>id} {>opcode} {>do} {>bufsize} {>rflags} {rcode}", "7 4 true 65535 qr,tc,rd,z,ad,cd REFUSED"),
        ("{duration}", "1s"),
        ("{/forward/upstream} {nothing} {} {", "- {nothing} {} {"),
        ("{/log/class} {/log/type}", "error OTHERERROR"),
        ("%d %s {type", "%d %s {type"),
    ],
)
def test_placeholders(form: str, expected: str, segments: Segments, opened: list[Lines]) -> None:
    lines = Lines(segments, with_log(log(form)))
    opened.append(lines)
    lines.logs[2].query(
        b"\0", peer="fd00::7", port=53, id=7, query_flags=0x2100, reply_flags=0x8370, rcode=5, qtype=28,
        qclass=3, request_size=40, reply_size=99, udp_size=65535, tcp=True, edns=3, entry_kind=0,
        duration_us=1_000_000,
    )  # fmt: skip
    assert lines.read() == [f"[INFO] {expected}"]


@pytest.mark.parametrize(
    ("us", "expected"), [(0, "0s"), (1, "0.000001s"), (500_000, "0.5s"), (12_000_100, "12.0001s")]
)
def test_durations(us: int, expected: str, segments: Segments, opened: list[Lines]) -> None:
    lines = Lines(segments, with_log(log("{duration}")))
    opened.append(lines)
    lines.logs[0].query(BIG, duration_us=us)
    assert lines.read() == [f"[INFO] {expected}"]


def test_the_address_asked_on_a_wildcard(segments: Segments, opened: list[Lines]) -> None:
    lines = Lines(segments, with_log(log("{local}")))
    opened.append(lines)
    lines.logs[1].query(BIG, zone=ROOT, listener=2, local="10.1.2.3")
    lines.logs[1].query(BIG, zone=ROOT, listener=3, peer="fd00::1", local="fd00::2")
    assert lines.read() == ["[INFO] 10.1.2.3", "[INFO] [fd00::2]"]


def test_unknown_numbers(segments: Segments, opened: list[Lines]) -> None:
    lines = Lines(segments, with_log(log("{type} {class} {rcode}")))
    opened.append(lines)
    lines.logs[0].query(BIG, qtype=65399, qclass=77, rcode=23)
    assert lines.read() == ["[INFO] TYPE65399 CLASS77 RCODE23"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"\x01X\x00", "x."),
        (b"\x03a.b\x00", r"a\.b."),
        (b"\x04\n\x00\xff \x00", r"\010\000\255\ ."),
        (b"\x08\"'();@\\~\x00", r"\"\'\(\)\;\@\\~."),
        (b"\x3f" + b"\x01" * 63 + b"\x00", r"\001" * 63 + "."),
    ],
)
def test_names_make_no_lines_of_their_own(
    name: bytes, expected: str, segments: Segments, opened: list[Lines]
) -> None:
    lines = Lines(segments, with_log(log("{name}")))
    opened.append(lines)
    lines.logs[0].query(name)
    assert lines.read() == [f"[INFO] {expected}"]


def test_the_first_rule_that_covers_the_name_counts(segments: Segments, opened: list[Lines]) -> None:
    rules = (
        log("denied {name}", ("svc.cluster.local.",), ("denial",)),
        log("cluster {name}", ("cluster.local.",)),
        log("other {name}"),
    )
    lines = Lines(segments, with_log(*rules))
    opened.append(lines)
    one, other = lines.logs[1], lines.logs[2]
    one.query(b"\x01a" + CLUSTER, entry_kind=1)  # covered by the first, which wants denials only
    one.query(b"\x01B" + CLUSTER, entry_kind=3, rcode=3)
    one.query(b"\x04xsvc\x07cluster\x05local\x00")  # a label's end is no name's end
    other.query(BIG, zone=ROOT)
    other.query(BIG, zone=0xFFFF)  # no zone took it: no block, no line
    other.query(BIG, zone=700)
    assert lines.read() == [
        "[INFO] denied b.svc.cluster.local.",
        "[INFO] cluster xsvc.cluster.local.",
        "[INFO] other big.example.",
    ]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("all",), "sdnfer"),
        (("success",), "sr"),
        (("denial",), "dn"),
        (("error",), "fe"),
        (("denial", "error"), "dnfe"),
    ],
)
def test_classes(classes: tuple[str, ...], expected: str, segments: Segments, opened: list[Lines]) -> None:
    lines = Lines(segments, with_log(log("{name}", classes=classes)))
    opened.append(lines)
    ring = lines.logs[0]
    ring.query(b"\x01s\0", entry_kind=1)
    ring.query(b"\x01d\0", entry_kind=2)
    ring.query(b"\x01n\0", entry_kind=3, rcode=3)
    ring.query(b"\x01f\0", entry_kind=4, rcode=2)
    ring.query(b"\x01e\0", entry_kind=0, reply_flags=0, rcode=2)
    ring.query(b"\x01r\0", entry_kind=0, rcode=0)  # not from an entry: whoami
    assert [line[7] for line in lines.read()] == list(expected)


def test_lines_come_in_the_order_of_their_times(segments: Segments, opened: list[Lines]) -> None:
    """Each worker has a ring of its own; errors come after the lines of their batch."""
    lines = Lines(segments, with_log(log("{name}")))
    opened.append(lines)
    for ring, times in enumerate(((3, 5, 9), (1, 5, 5, 20), (2, 4, 10))):
        for time_ms in times:
            lines.logs[ring].query(b"\x02%02d\x01%d\0" % (time_ms, ring), time_ms=time_ms)
    found = lines.read()
    assert [int(line[7:9]) for line in found] == [1, 2, 3, 4, 5, 5, 5, 9, 10, 20]
    lines.logs[1].query(b"\x02ff\0", time_ms=(1 << 64) - 1)
    assert lines.read() == ["[INFO] ff."]


def test_records_that_make_no_sense(segments: Segments, opened: list[Lines]) -> None:
    """A worker gone wild: nothing is written, nothing breaks, it is counted."""
    lines = Lines(segments, with_log(log("{name}")))
    opened.append(lines)
    ring = lines.logs[0]
    for kind in (0, 2, 16, 17, 255):
        ring.raw(b"\xff" * 16, kind)
        ring.raw(b"\xff" * 200, kind)
        ring.raw(b"\xff" * 5000, kind)
    ring.query(b"\x05ab")  # ends inside a label
    ring.query(BIG)
    assert lines.read() == ["[INFO] big.example."]
    ring.raw(b"\xff" * 16, 1)  # a skip that skips to nowhere: the ring is emptied
    ring.query(BIG)
    lines.read()
    ring.query(BIG)
    assert lines.read() == ["[INFO] big.example."]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (1, {"upstream": 0, "tcp": True}, "read tcp ->10.43.0.10:53: i/o timeout"),
        (1, {"upstream": 1}, "read udp ->10.0.0.2:53: i/o timeout"),
        (2, {"upstream": 0, "tcp": True, "error": errno.ECONNREFUSED},
         "dial tcp 10.43.0.10:53: connect: connection refused"),
        (2, {"upstream": 1, "error": errno.EHOSTUNREACH}, "read udp ->10.0.0.2:53: read: no route to host"),
        (2, {"upstream": 0, "tcp": True, "error": errno.EKEYREJECTED}, "tls: failed to verify certificate"),
        (2, {"upstream": 0, "tcp": True, "error": errno.EPROTO}, "tls: handshake failure"),
        (3, {}, "no healthy proxies"),
        (4, {}, "plugin/forward: no next plugin found"),
        (5, {}, "too many questions are under way"),
        (8, {"text": b"1000"}, "concurrent queries exceeded maximum 1000"),
        (6, {"text": b"bad\ntemplate \xff"}, "bad?template \N{REPLACEMENT CHARACTER}"),
        (99, {}, "failed"),
    ],
)  # fmt: skip
def test_errors(
    kind: int, options: dict[str, Any], expected: str, segments: Segments, opened: list[Lines]
) -> None:
    lines = Lines(segments, rke2())
    opened.append(lines)
    lines.logs[0].error(CLUSTER, kind, **options)
    lines.logs[0].error(CLUSTER, kind, zone=ROOT, **options)  # that block has no `errors`
    assert lines.read() == [f"[ERROR] plugin/errors: 2 svc.cluster.local. A: {expected}"]


def test_a_loop_is_told(segments: Segments, opened: list[Lines]) -> None:
    """Also where a block has no `errors`: the upstream is named (issue 3, "Loop detection")."""
    lines = Lines(segments, rke2())
    opened.append(lines)
    lines.logs[0].error(b"\x02ab\x02cd\0", 7, zone=ROOT, qtype=13, upstream=1)
    (line,) = lines.read()
    assert line.startswith(
        '[ERROR] plugin/loop: Loop (10.0.0.2:53 -> us) detected for zone ".": 10.0.0.2:53 is not'
    )
    assert line.endswith('Query: "HINFO ab.cd."')


def test_what_came_before_the_first_configuration(segments: Segments, opened: list[Lines]) -> None:
    Ring(segments.logs[0]).error(b"\x02ab\x02cd\0", 7, zone=ROOT, qtype=13, upstream=1)
    lines = Lines(segments, rke2())
    opened.append(lines)
    (line,) = lines.read()
    assert line.startswith('[ERROR] plugin/loop: Loop (10.0.0.2:53 -> us) detected for zone "."')


def consolidating(*options: Consolidate) -> Corefile:
    corefile = rke2()
    first, second = corefile.blocks
    return replace(corefile, blocks=(replace(first, errors=Errors(where=WHERE, consolidate=options)), second))


def test_consolidated_errors(segments: Segments, opened: list[Lines]) -> None:
    """The first pattern that matches counts; the line comes at the end of its window."""
    lines = Lines(
        segments,
        consolidating(
            Consolidate(duration_s=300.0, regex=r"^2 .* i/o timeout$", level="warning"),
            Consolidate(duration_s=30.0, regex=r"timeout|proxies"),
        ),
    )
    opened.append(lines)
    for _ in range(7):
        lines.logs[0].error(CLUSTER, 1, upstream=0)
    lines.logs[0].error(CLUSTER, 3)
    lines.logs[0].error(CLUSTER, 4)
    assert lines.read(1000.0) == [
        "[ERROR] plugin/errors: 2 svc.cluster.local. A: plugin/forward: no next plugin found"
    ]
    assert lines.read(1029.9) == []
    assert lines.read(1030.0) == [
        "[ERROR] plugin/errors: 1 errors like 'timeout|proxies' occurred in last 30s"
    ]
    assert lines.read(1300.0) == [
        "[WARNING] plugin/errors: 7 errors like '^2 .* i/o timeout$' occurred in last 5m0s"
    ]
    assert lines.read(9999.0) == []


def test_what_is_held_back_is_not_lost(segments: Segments, opened: list[Lines]) -> None:
    """A reload, and the end, write the count so far."""
    lines = Lines(segments, consolidating(Consolidate(duration_s=300.0, regex="timeout")))
    opened.append(lines)
    lines.logs[0].error(CLUSTER, 1, upstream=0)
    assert lines.read() == []
    lines.pump.apply(rke2_config(), rke2(), name_all(rke2_config(), rke2()))
    assert lines.waiting() == ["[ERROR] plugin/errors: 1 errors like 'timeout' occurred in last 5m0s"]


def test_the_first_is_shown(segments: Segments, opened: list[Lines]) -> None:
    lines = Lines(
        segments, consolidating(Consolidate(duration_s=10.0, regex="proxies", show_first="show_first"))
    )
    opened.append(lines)
    lines.logs[0].error(CLUSTER, 3)
    assert lines.read(0.0) == ["[ERROR] plugin/errors: 2 svc.cluster.local. A: no healthy proxies"]
    assert lines.read(11.0) == []  # it was the only one
    for _ in range(3):
        lines.logs[0].error(CLUSTER, 3)
    assert len(lines.read(20.0)) == 1
    assert lines.read(31.0) == ["[ERROR] plugin/errors: 3 errors like 'proxies' occurred in last 10s"]


def test_nobody_reads(segments: Segments, opened: list[Lines], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits; what is lost is counted and said, once a minute at most."""
    said: list[str] = []
    monkeypatch.setattr("fastdns.log.warning", said.append)
    lines = Lines(segments, with_log(log("{name}")))
    opened.append(lines)
    written = 0
    for round_ in range(30):
        while lines.logs[0].query(BIG):
            written += 1
        lines.pump.pump(1000.0 + round_)
    got = len(lines.waiting())
    dropped = lines.ledger.read()["lines_dropped"]
    assert got > 100
    assert dropped > 100
    lines.pump.flush(1050.0)
    assert len(said) == 1
    assert "lines dropped" in said[0]
    lines.logs[0].query(BIG)
    assert lines.read(1051.0)[-1:] == ["[INFO] big.example."]
    total = got + lines.ledger.read()["lines_dropped"] + 1
    assert total >= written  # every line was either written or counted


def test_lines_are_written_whole(
    segments: Segments, opened: list[Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes write to the same pipe: no piece ends inside a line."""
    lines = Lines(segments, with_log(log("{name}")))
    opened.append(lines)
    pieces: list[bytes] = []

    def write(_: int, data: bytes) -> int:
        pieces.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    for _ in range(1000):
        lines.logs[0].query(b"\x3f" + b"a" * 63 + b"\0")
        lines.logs[1].query(BIG)
        lines.pump.pump(1.0)
    for _ in range(200):
        lines.logs[0].query(BIG)
    lines.pump.pump(1.0)
    monkeypatch.undo()
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in pieces)
    assert b"".join(pieces).count(b"\n") == 2200


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (30, "30s"), (300, "5m0s"), (3600, "1h0m0s"), (1.5, "1.5s"), (0.5, "500ms"), (90.25, "1m30.25s"),
        (0, "0s"), (0.000001, "1µs"),
    ],
)  # fmt: skip
def test_durations_as_go_has_them(seconds: float, expected: str) -> None:
    assert go_duration(seconds) == expected


def test_formats() -> None:
    assert compile_format("a {x} b") == ("a ", "{x}", " b")
    assert compile_format("") == compile_format("{common}")
