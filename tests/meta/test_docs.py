# SPDX-License-Identifier: Apache-2.0
"""The documents tell the truth: links, commands, make targets, counters, sizes and limits."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fastdns import _segments
from fastdns.cli import COMMANDS, main
from fastdns.control import budget
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Block, Limits, Listener
from tests.meta.sources import PACKAGE, ROOT

LISTENER = Listener(Endpoint("127.0.0.1", 53))

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def commands() -> list[tuple[str, str]]:
    """(document, command line) of each indented or quoted `fastdns COMMAND ...` with something after it."""
    found = []
    for path in DOCUMENTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            match = re.match(r" {4}(?:\.venv/bin/)?(fastdns \w+.*?)(?: {2,}.*)?$", line)
            found += [(path.name, match[1])] if match else []
    return found


def test_commands_are_found() -> None:
    assert len(commands()) >= 8
    assert {shlex.split(line)[1] for _, line in commands()} <= COMMANDS.keys()


@pytest.mark.parametrize(("document", "line"), commands())
def test_commands_are_understood(
    document: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's own parser takes the line: it gets as far as doing something, and is stopped there."""
    import argparse

    class Parsed(Exception):
        pass

    parse = argparse.ArgumentParser.parse_known_args

    def stop(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> object:
        found = parse(parser, *args, **kwargs)
        if parser.prog.startswith("fastdns ") and not found[1]:
            raise Parsed
        return found

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
    with pytest.raises(Parsed):
        main(shlex.split(line)[1:])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    broken = [
        target for target in re.findall(r"\]\(([^)#]+)", text) if not (path.parent / target.strip()).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_exist(path: Path) -> None:
    def exists(name: str) -> bool:
        return (ROOT / name).exists() or bool(list(ROOT.glob(f"{name}.p*")))  # a module without its suffix

    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`((?:fastdns|tests|bench|tools|docs)/[\w./-]+)`", text)
    assert [name for name in named if "NAME" not in name and not exists(name)] == []


def test_make_targets_exist() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    targets = set(re.findall(r"`make ([a-z][a-z-]*)", text)) | set(
        re.findall(r"^ {4}make (\w+)$", text, re.MULTILINE)
    )
    assert {"run", "test", "bench"} <= targets
    done = subprocess.run(["make", "-npq"], cwd=ROOT, capture_output=True, text=True, check=False)
    known = set(re.findall(r"^([a-z][a-z-]*):", done.stdout, re.MULTILINE))
    assert targets - known == set()


def test_counters_named_exist() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("| counter |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table)) - {"fastdns"}
    known = set(re.findall(r"X\((\w+),", (PACKAGE / "_counters.h").read_text(encoding="utf-8")))
    assert len(named) > 10
    assert named - known == set()


def test_every_command_is_there() -> None:
    for name in COMMANDS:
        assert callable(importlib.import_module(f"fastdns.commands.{name}").main)


def test_the_budget_is_the_table() -> None:
    text = (ROOT / "docs" / "shm-layout.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w ]+?)(?:, each worker)? \| [^|]* \| (\d+) \|$", text, re.MULTILINE)
    geometry = budget.split(budget.MEMORY_DEFAULT, 2)
    slots = _segments.cache_slots(geometry.cache)
    sizes = {name.strip(): int(octets) for name, octets in rows}
    batch = re.search(r"### fd_batch_t, (\d+)", text)
    assert batch
    assert sizes == {
        "cache segment": geometry.cache,
        "question ring": geometry.questions,
        "answer ring": geometry.answers,
        "pending questions": geometry.pending * 296,
        "clients": geometry.clients * 120,
        "batch": int(batch[1]),
        "hit figures": slots * 2,
        "TCP buffers": geometry.tcp,
    }
    assert f"{slots:,} slots" in text


@pytest.mark.parametrize(
    "words",
    [
        f"{Limits().edns_max:,} octets",
        f"{Limits().tcp_connections:,} a worker",
        f"first octets within {LISTENER.tcp_first_ms // 1000} s",
        f"{LISTENER.tcp_idle_ms // 1000} s between queries",
        f"{Limits().tcp_slow_ms // 1000} s to finish a query or to read more of a reply",
        f"SERVFAIL after {Limits().client_deadline_ms / 1000:g} s",
        f"{Limits().question_deadline_ms // 1000} s for all attempts",
        f"negative answers {Block().negative_max_s // 60} minutes, failures {Block().failure_s} s",
        f"{budget.WORKERS_MAX}; two by default",
    ],
)
def test_limits_are_the_codes(words: str) -> None:
    assert words in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
