# SPDX-License-Identifier: Apache-2.0
"""control/apart, control/offload: a function in a process of its own; control/wirename: names on the wire."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import dns.name
import pytest
from hypothesis import given

from fastdns._process import become_subreaper
from fastdns.control.apart import Apart, ApartError, run_apart
from fastdns.control.offload import offload
from fastdns.control.wirename import wire_labels, wire_name
from fastdns.errors import CorefileError
from tests.wiretools import wire_names


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> str:
    return Path("/proc/thread-self/children").read_text(encoding="ascii")


def test_a_result_comes_back_and_nothing_is_left() -> None:
    before = descriptors(), children()
    assert run_apart(lambda number: [number] * 100_000, 7) == [7] * 100_000
    assert run_apart(os.getpid) != os.getpid()
    assert (descriptors(), children()) == before


def test_what_is_wrong_with_a_file_is_raised_here() -> None:
    def fail() -> None:
        raise CorefileError("Corefile:3: found x, expected y")

    with pytest.raises(CorefileError, match="Corefile:3: found x, expected y") as caught:
        run_apart(fail)
    assert caught.value.exit_code == 2


def test_a_process_that_dies_hangs_or_meets_a_bug_is_an_error_in_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ApartError, match="its process died"):
        run_apart(os._exit, 3)
    with pytest.raises(ApartError, match=r"no end after 0 s"):
        run_apart(time.sleep, 60, timeout_s=0.2)
    with pytest.raises(ApartError, match="ZeroDivisionError"):
        run_apart(bug)
    assert "ZeroDivisionError" in capfd.readouterr().err


# A program that does something after a while, also when whoever started it is gone.
LATER = "sleep 0.3; echo done >> {file}"


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "script",
    [
        "echo begun >> {file}; " + LATER,
        "echo begun >> {file}; (" + LATER + ") & (" + LATER + ") & wait",
        "(echo begun >> {file}; " + LATER + ") & exit 0",
    ],
)
def test_what_it_has_started_ends_with_it(tmp_path: Path, script: str) -> None:
    file = tmp_path / "file"

    def work() -> None:
        subprocess.run(["sh", "-c", script.format(file=file)], check=True)
        time.sleep(60)

    def begin_and_end() -> str:
        become_subreaper()  # as control is
        one = Apart(work, ())
        wait_for(file.exists)
        one.end()
        return children()

    assert run_apart(begin_and_end) == "", "all of it is gone, and reaped"
    time.sleep(0.5)
    assert file.read_text(encoding="ascii") == "begun\n"


class Finished:
    """An Apart whose outcome can be read at once."""

    name = "it"

    def __init__(self, *_: object) -> None:
        self.descriptor, far = os.pipe()
        os.close(far)

    def read(self) -> bool:
        return True

    def outcome(self) -> int:
        return 1

    def end(self) -> None:
        os.close(self.descriptor)


def test_a_cancellation_is_not_lost_where_the_result_comes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever turn of the loop: a task that was cancelled before its end goes no further."""
    monkeypatch.setattr("fastdns.control.offload.Apart", Finished)

    async def cancel_after(turns: int) -> bool:
        task = asyncio.create_task(offload(os.getpid))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            return False
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled(), turns
        return True

    turns = 0
    while asyncio.run(cancel_after(turns)):
        turns += 1
    assert turns > 2


@given(wire_names)
def test_names_are_those_of_dnspython(wire: bytes) -> None:
    name, _ = dns.name.from_wire(wire, 0)
    text = name.to_text()
    assert wire_name(text) == name.canonicalize().to_wire()
    assert len(wire_labels(text)) == len(name.labels) - 1


@pytest.mark.parametrize("text", ["a..b.", ".a.", "a\\", "\\256.", "x" * 64 + ".", ("x" * 63 + ".") * 4, ""])
def test_what_is_no_name_is_refused(text: str) -> None:
    if not text:
        assert wire_name(text) == b"\0"
        return
    with pytest.raises(ValueError, match=r".+"):
        wire_name(text)
