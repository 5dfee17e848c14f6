# SPDX-License-Identifier: Apache-2.0
"""Writer's operations that a test interrupts at every instruction: python -m tests.cachesteps FD SCENARIO

The process prepares the cache, stops, does one operation, stops again. Its parent traces it.
"""

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable

from fastdns._testing import cache as raw
from tests.cachetools import Entry, hash_of, with_records
from tests.wiretools import labels

NOW = 1_000_000
PAGE, LINE = 4096, 64
PTRACE_TRACEME = 0

Operation = Callable[[raw.Store], object]

SMALL = [
    with_records(
        Entry(qname=labels(b"n%d" % n), key_hash=hash_of(bucket=n % 5, tag=1 + n % 2, rest=n), stored_ms=NOW),
        20 + n % 7,
    )
    for n in range(40)
]
FILLING = [
    with_records(
        Entry(qname=labels(b"f%d" % n), key_hash=hash_of(bucket=n % 200, tag=5), stored_ms=NOW),
        1500 + n * 37 % 2400,
    )
    for n in range(120)
]
NEW = with_records(
    Entry(qname=labels(b"new"), key_hash=hash_of(bucket=2, tag=9), stored_ms=NOW), 1_000, fill=9
)
LARGE = with_records(NEW, 7_000)
OTHER = with_records(SMALL[7], 90, fill=7)
ALL = [*SMALL, *FILLING, NEW, LARGE, OTHER]


def put(store: raw.Store, *entries: Entry) -> None:
    for entry in entries:
        assert store.put(entry.pack(), NOW) == "ok"


def damaged(store: raw.Store) -> None:
    """Leave a bucket odd and an entry written over."""
    put(store, *SMALL[:12])
    store.cache.write(PAGE + 3 * LINE, struct.pack("<I", 0x1001))
    store.cache.write(store.place(SMALL[5].pack()) + 64, b"\xff\xff")


def putting(entry: Entry) -> Operation:
    """The operation of storing `entry`; packed beforehand, so that few of its steps are the interpreter's."""
    buffer = raw.Buffer(entry.pack())
    return lambda store: store.put(buffer, NOW)


STALE = raw.Buffer(SMALL[3].pack())
FULL = [SMALL[2].but(qname=labels(b"x%d" % n), key_hash=hash_of(bucket=2, tag=1, rest=n)) for n in range(10)]

# Name: what is there before, what is done.
SCENARIOS: dict[str, tuple[Operation, Operation]] = {
    "store": (lambda store: put(store, *SMALL[:20]), putting(NEW)),
    "replace": (lambda store: put(store, *SMALL[:20]), putting(OTHER)),
    "full bucket": (lambda store: put(store, *FULL), putting(NEW)),
    "evict": (lambda store: put(store, *FILLING), putting(NEW)),
    "evict for a large one": (lambda store: put(store, *FILLING), putting(LARGE)),
    "sweep": (
        lambda store: put(store, *[entry.but(ttl_s=1 + n % 2) for n, entry in enumerate(SMALL)]),
        lambda store: store.sweep(NOW + 1000),
    ),
    "stale until": (lambda store: put(store, *SMALL), lambda store: store.hold(STALE, NOW + 5)),
    "attach": (damaged, lambda store: raw.Store(store.cache, 2, NOW)),
}


def main(fd: int, scenario: str) -> None:
    before, operation = SCENARIOS[scenario]
    store = raw.Store(raw.Cache(fd, writable=True), 1, NOW)
    before(store)
    if ctypes.CDLL(None).ptrace(PTRACE_TRACEME, 0, None, None) != 0:
        sys.exit("ptrace is refused")
    os.kill(os.getpid(), signal.SIGSTOP)
    operation(store)
    os.kill(os.getpid(), signal.SIGSTOP)
    store.audit()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
