# SPDX-License-Identifier: Apache-2.0
"""Processes around one cache, for the stress tests: python -m tests.cacheroles ROLE FD NUMBERS SEED ...

    write FD NUMBERS SEED                  stores until standard input ends
    kill FD NUMBERS SEED KILLS             forks writers one after another, kills each at some instant
    read FD NUMBERS SEED                   looks up and verifies until standard input ends
    mutant FD NUMBERS SEED                 the same without the reader's last check

Each prints what it counted as one line of JSON.
"""

import json
import os
import random
import select
import signal
import struct
import sys
import time
from collections import Counter

from fastdns._testing import cache as raw
from fastdns._testing import cache_load

NOW = 1_000_000
PAGE, LINE = 4096, 64


def told_to_stop() -> bool:
    return bool(select.select([0], [], [], 0)[0])


def write(fd: int, numbers: int, seed: int) -> dict[str, int]:
    store = raw.Store(raw.Cache(fd, writable=True), 1, NOW)
    while not told_to_stop():
        seed += 1
        cache_load.write_load(store, numbers, seed, 2_000, NOW)
    store.audit()
    return store.counters


def read(fd: int, numbers: int, seed: int, check: bool) -> dict[str, int]:
    cache = raw.Cache(fd)
    total: Counter[str] = Counter()
    while not told_to_stop():
        seed += 1
        total.update(cache_load.read_load(cache, numbers, seed, 0.05, NOW, check))
    return dict(total)


def write_until_killed(fd: int, numbers: int, seed: int, generation: int) -> None:
    """Take the cache over, now and then compare the books with what is there, and store without end."""
    store = raw.Store(raw.Cache(fd, writable=True), generation, NOW)
    if generation % 10 == 0:
        store.audit()
    while True:
        seed += 1
        cache_load.write_load(store, numbers, seed, 5_000, NOW)


def odd_buckets(fd: int) -> int:
    """How many buckets a dead writer had in hand."""
    shards, shard_size, buckets = raw.Cache(fd).geometry
    return sum(
        struct.unpack("<I", os.pread(fd, 4, PAGE + shard * shard_size + bucket * LINE))[0] & 1
        for shard in range(shards)
        for bucket in range(buckets)
    )


def kill(fd: int, numbers: int, seed: int, kills: int) -> dict[str, int]:
    """Returns how many were killed, how many of them with a bucket in hand, and what is left at last."""
    chance = random.Random(seed)
    died_writing = 0
    for number in range(kills):
        pid = os.fork()
        if pid == 0:
            try:
                write_until_killed(fd, numbers, chance.getrandbits(32), number + 2)
            finally:
                os._exit(1)  # an exception: the parent sees that it wasn't the kill
        time.sleep(chance.expovariate(200))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), f"writer {number} failed by itself"
        died_writing += odd_buckets(fd) > 0
    last = raw.Store(raw.Cache(fd, writable=True), kills + 2, NOW)
    last.audit()
    return {"kills": kills, "died_writing": died_writing, "entries": last.entries}


def main(arguments: list[str]) -> None:
    role = arguments[0]
    fd, numbers, seed = (int(argument) for argument in arguments[1:4])
    if role == "kill":
        outcome = kill(fd, numbers, seed, int(arguments[4]))
    elif role == "write":
        outcome = write(fd, numbers, seed)
    else:
        outcome = read(fd, numbers, seed, check=role == "read")
    json.dump(outcome, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
