# SPDX-License-Identifier: Apache-2.0
"""Readers verify every octet of every hit while entries are evicted and replaced and writers die.

Entries are self-checking (fastdns/_testing/cache_load.pyx); one in four carries whole forged entries
in its records. The numbers are few and the cache is small, so that memory is reused all the time.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from fastdns._segments import create_cache, reopen_read_only
from tests.counts import count

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1800)]

NUMBERS = 2_000  # some 1.2 MB of entries: half of them have no room
SIZE = 700 * 1024


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_cache(SIZE)
    yield fd
    os.close(fd)


class Role:
    """A process of tests.cacheroles. Readers get the cache by a descriptor opened for reading only."""

    def __init__(self, role: str, fd: int, seed: int, *more: int) -> None:
        given = reopen_read_only(fd) if role in ("read", "mutant") else os.dup(fd)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cacheroles", role, *map(str, (given, NUMBERS, seed, *more))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[given],
        )
        os.close(given)

    def result(self, timeout: float = 60) -> dict[str, int]:
        """End it (by the end of its input) and take what it counted."""
        out, _ = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0
        counted: dict[str, int] = json.loads(out)
        return counted


@contextlib.contextmanager
def roles(*started: Role) -> Iterator[None]:
    try:
        yield
    finally:
        for role in started:
            role.process.kill()
            with role.process:  # closes its pipes, and waits
                pass


def verify_all(readers: list[Role]) -> int:
    """Returns how often they met the writer at work."""
    retries = 0
    for reader in readers:
        counted = reader.result()
        assert counted["torn"] == counted["forged"] == 0, counted
        assert counted["hits"] == counted["right"] > 1000, counted
        retries += counted["retries"]
    return retries


def test_readers_beside_an_evicting_writer(fd: int) -> None:
    writer = Role("write", fd, 1)
    readers = [Role("read", fd, seed) for seed in (2, 3)]
    with roles(writer, *readers):
        time.sleep(count("reader_seconds"))
        assert verify_all(readers) > 0, "the writer was never met at work: nothing was tried"
        counted = writer.result()
    assert counted["evicted_bytes"] > counted["stores"] // 10 > 1000, counted


def test_killed_writers(fd: int) -> None:
    """Writers killed at any instant, their successors attach by a scan; no answer is ever torn or forged."""
    kills = count("writer_kills")
    readers = [Role("read", fd, seed) for seed in (2, 3)]
    killer = Role("kill", fd, 4, kills)
    with roles(killer, *readers):
        counted = killer.result(timeout=1500)
        verify_all(readers)
    assert counted["kills"] == kills
    assert counted["entries"] > 0


def test_the_mutant_is_caught(fd: int) -> None:
    """The same readers without their last check: if this finds nothing, the tests above prove nothing."""
    writer = Role("write", fd, 1)
    caught: dict[str, int] = {}
    with roles(writer):
        for seed in range(60):
            mutant = Role("mutant", fd, seed)
            with roles(mutant):
                time.sleep(1)
                caught = mutant.result()
            if caught["torn"] + caught["forged"]:
                break
    assert caught["torn"] + caught["forged"] > 0, caught
