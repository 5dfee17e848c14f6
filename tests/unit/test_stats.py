# SPDX-License-Identifier: Apache-2.0
"""Reading the segments, sums over them, and what `fastdns stats` prints."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdns import _segments, _stats, cli, snapshot
from fastdns.commands import stats
from fastdns.errors import NoServerError, SegmentError


@pytest.fixture
def region() -> Iterator[int]:
    descriptor = _segments.create_region(1, pending=64, clients=128, slots=10, tcp=4096)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def post() -> Iterator[int]:
    descriptor = _segments.create_post()
    yield descriptor
    os.close(descriptor)


def test_names_and_helps_come_from_the_one_list() -> None:
    header = (Path(__file__).parents[2] / "fastdns" / "_counters.h").read_text()
    rows = [line.split("X(")[1].split(",")[0] for line in header.splitlines() if line.startswith("    X(")]
    assert list(_stats.COUNTERS) == rows
    assert list(_stats.COUNTER_HELP) == rows
    assert all(_stats.COUNTER_HELP.values())


def test_a_new_region_is_empty(region: int) -> None:
    facts = _stats.read_region(region)
    assert (facts["index"], facts["pending_max"], facts["clients_max"]) == (1, 64, 128)
    assert set(facts["counters"]) == set(_stats.COUNTERS)
    assert not any(facts["counters"].values())


@pytest.mark.parametrize("read", [_stats.read_board, _stats.read_post, _stats.read_cache, _stats.read_config])
def test_a_segment_of_another_kind_is_refused(read: Any, region: int) -> None:
    with pytest.raises(SegmentError):
        read(region)


@pytest.mark.parametrize(
    "read",
    [_stats.read_board, _stats.read_post, _stats.read_cache, _stats.read_config, _stats.read_region],
)
def test_what_is_no_segment_is_refused(read: Any, tmp_path: Path) -> None:
    for content in (b"", b"x", bytes(4096), b"\xff" * 8192):
        file = tmp_path / "segment"
        file.write_bytes(content)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            with pytest.raises(SegmentError) as refusal:
                read(descriptor)
            assert "errno" not in str(refusal.value), "an empty file is no error of the kernel's"
            assert content or str(refusal.value).endswith("can't be mapped, or is empty")
        finally:
            os.close(descriptor)


def with_counters(facts: Any, **counters: int) -> Any:
    return {**facts, "counters": {**facts["counters"], **counters}}


def test_totals(region: int, post: int) -> None:
    empty = _stats.read_region(region)
    workers = [
        with_counters(empty, udp_queries=60, tcp_queries=0, hits=45, misses=15, replies_udp=60),
        with_counters(
            empty, udp_queries=30, tcp_queries=10, hits=30, misses=10, replies_udp=30, replies_tcp=9
        ),
    ]
    workers[1]["pending"], workers[1]["clients"], workers[1]["tcp_connections"] = 1, 3, 4
    totals = snapshot.totals(workers, with_counters(_stats.read_post(post), questions=20, stores=18))
    assert totals["queries"] == 100
    assert totals["replies"] == 99
    assert totals["hit_percent"] == 75.0
    assert totals["busiest_worker_percent"] == 60.0
    assert (totals["pending"], totals["clients"], totals["tcp_connections"]) == (1, 3, 4)
    assert totals["counters"]["hits"] == 75
    assert totals["counters"]["stores"] == 18


def test_totals_before_the_first_query(region: int, post: int) -> None:
    totals = snapshot.totals([_stats.read_region(region)], _stats.read_post(post))
    assert totals["hit_percent"] is None
    assert totals["busiest_worker_percent"] is None


def test_no_server_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(snapshot, "find_keepers", list)
    assert cli.main(["stats"]) == 1
    assert capsys.readouterr().err == (
        "fastdns stats: no running server found: no process has the title 'fastdns: keeper'\n"
    )


def test_one_of_several_servers_has_to_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "find_keepers", lambda: [7, 9])
    with pytest.raises(NoServerError, match="choose one with --pid: 7, 9"):
        snapshot.choose_keeper()
    assert snapshot.choose_keeper(9) == 9
    with pytest.raises(NoServerError, match="process 8 is no fastdns keeper"):
        snapshot.choose_keeper(8)


def test_keepers_are_found_by_their_title(tmp_path: Path) -> None:
    for name, comm in (
        ("3", "fastdns: keeper"),
        ("12", "fastdns: keeper"),
        ("4", "fastdns: worker"),
        ("5", ""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "comm").write_text(comm + "\n")
    (tmp_path / "6").mkdir()  # it has gone meanwhile
    (tmp_path / "meminfo").write_text("")
    assert snapshot.find_keepers(tmp_path) == [3, 12]


def test_a_process_that_is_no_keeper_has_no_segments() -> None:
    with pytest.raises(NoServerError, match="no segment"):
        snapshot.take(os.getpid())


FIGURES: dict[str, Any] = {
    "keeper": {"pid": 7, "uptime_s": 12.5, "ticks": 125, "late_ticks": 0},
    "config": {"number": 1, "listen": ["127.0.0.1:53"], "upstream": ["tcp://10.43.0.10:53"]},
    "children": [
        {
            "role": "worker", "index": 0, "pid": 9, "state": "running", "restarts": 2, "stuck": 1,
            "uptime_s": 3.5, "last_death": "SIGKILL",
        },
        {
            "role": "control", "index": 0, "pid": 0, "state": "waiting", "restarts": 0, "stuck": 0,
            "uptime_s": None, "last_death": None,
        },
    ],
    "workers": [{"index": 0, "counters": dict.fromkeys(_stats.COUNTERS, 0) | {"hits": 41}}],
    "coordinator": {"counters": dict.fromkeys(_stats.COUNTERS, 0) | {"stores": 5}},
    "totals": {
        "queries": 42, "hit_percent": 97.6, "busiest_worker_percent": None, "pending": 0, "clients": 0,
        "tcp_connections": 0,
    },
    "cache": {"entries": 5, "entry_octets": 900, "size": 8 << 20},
}  # fmt: skip


def test_the_plain_text_shows_what_moved() -> None:
    text = stats.plain(stats.tables(FIGURES))
    lines = text.splitlines()
    assert "  worker 0  9    running  3.5    2         1      SIGKILL" in lines
    assert "  control   -    waiting  -      0         0      -" in lines
    assert "  upstream         tcp://10.43.0.10:53" in lines
    assert any(line.split()[:3] == ["hits", "41", "0"] for line in lines)
    assert any(line.split()[:3] == ["stores", "0", "5"] for line in lines)
    assert "misses" not in text
    assert not any(line != line.rstrip() for line in lines)


def test_json_has_every_counter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(snapshot, "choose_keeper", lambda pid: 7)
    monkeypatch.setattr(snapshot, "take", lambda pid: FIGURES)
    assert cli.main(["stats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == FIGURES


@pytest.mark.parametrize(
    ("status", "text"), [(9, "SIGKILL"), (11 | 0x80, "SIGSEGV"), (3 << 8, "exit code 3"), (64, "SIGRTMAX")]
)
def test_deaths_by_their_names(status: int, text: str) -> None:
    assert snapshot._death(status) == text
