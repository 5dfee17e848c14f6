# SPDX-License-Identifier: Apache-2.0
"""A writer killed at every single instruction of an operation.

The writer is stepped by ptrace. After each instruction that changed the shared memory, a reader must
get right answers only, and a successor that attaches to a copy of it must find its books in order:
that is what a SIGKILL at this instruction would leave.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastdns._segments import create_cache, reopen_read_only
from fastdns._testing import cache as raw
from tests.cachesteps import ALL, FULL, LINE, NOW, PAGE, SCENARIOS
from tests.cachetools import Entry

PTRACE_SINGLESTEP = 9
STEPS_MAX = 2_000_000
SIZE = 324 * 1024

# Every answer that was ever stored under a key.
RIGHT: dict[tuple[object, ...], list[Entry]] = {}
for one in [*ALL, *FULL]:
    RIGHT.setdefault(one.key(), []).append(one)


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_cache(SIZE)
    yield fd
    os.close(fd)


def start(fd: int, scenario: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-m", "tests.cachesteps", str(fd), scenario], pass_fds=[fd])
    _, status = os.waitpid(process.pid, 0)
    if os.WIFEXITED(status) or os.WSTOPSIG(status) != signal.SIGSTOP:
        pytest.skip("needs ptrace")
    return process


def states(process: "subprocess.Popen[bytes]", reader: raw.Cache) -> Iterator[bytes]:
    """The shared memory after each instruction that changed it."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    last = reader.read(0, reader.total)
    for _ in range(STEPS_MAX):
        assert ptrace(PTRACE_SINGLESTEP, process.pid, None, None) == 0, os.strerror(ctypes.get_errno())
        _, status = os.waitpid(process.pid, 0)
        assert os.WIFSTOPPED(status), "the operation failed"
        if os.WSTOPSIG(status) == signal.SIGSTOP:
            return
        if not reader.same(last):
            last = reader.read(0, reader.total)
            yield last
    raise AssertionError("the operation does not end")


def answers(cache: raw.Cache) -> tuple[int, int]:
    """Look every name up: those found, all of them right, and those that could not be read."""
    found = 0
    abandoned = cache.abandoned
    for key, entries in RIGHT.items():
        outcome, _, _, qname, ttl_off, records = cache.lookup(entries[0].pack(), NOW)
        if outcome != "miss":
            found += 1
            assert (qname, records) in [(entry.qname, entry.records) for entry in entries], key
            assert tuple(ttl_off) == (5,)
    return found, cache.abandoned - abandoned


def odd_buckets(state: bytes, buckets: int) -> int:
    return sum(state[PAGE + bucket * LINE] & 1 for bucket in range(buckets))


def succeed(state: bytes, audit: bool) -> raw.Store:
    """What a successor finds in this state of the memory."""
    copy = os.memfd_create("copy")
    os.write(copy, state)
    cache = raw.Cache(copy, writable=True)
    os.close(copy)
    store = raw.Store(cache, 3, NOW)
    if audit:
        store.audit()
    found, abandoned = answers(cache)
    assert abandoned == 0
    assert found == store.entries
    return store


@pytest.mark.fault
@pytest.mark.parametrize(
    "scenario",
    # An attach has some 200,000 instructions.
    [pytest.param(name, marks=[pytest.mark.stress] * (name == "attach")) for name in SCENARIOS],
)
def test_killed_at_every_instruction(fd: int, scenario: str) -> None:
    read_only = reopen_read_only(fd)
    reader = raw.Cache(read_only)
    os.close(read_only)
    process = start(fd, scenario)
    try:
        watch(process, reader, scenario)
    finally:
        process.kill()
        process.wait()


def watch(process: "subprocess.Popen[bytes]", reader: raw.Cache, scenario: str) -> None:
    before, _ = answers(reader)
    changes = 0
    entries_off = PAGE + reader.geometry[2] * LINE
    last_index = b""
    for state in states(process, reader):
        changes += 1
        found, abandoned = answers(reader)
        odd = odd_buckets(state, reader.geometry[2])
        assert odd <= 1 + (scenario == "attach"), "one bucket at a time"
        assert abandoned == 0 or odd
        index = state[:entries_off]
        store = succeed(state, audit=index != last_index)
        last_index = index
        # A bucket in hand is lost, with ten entries at most; nothing else.
        assert store.counters["scan_dropped"] <= 10 * odd + (scenario == "attach") * 11
        assert store.entries >= found
    assert changes >= 3
    after, abandoned = answers(reader)
    assert abandoned == 0
    assert after >= before - 20
