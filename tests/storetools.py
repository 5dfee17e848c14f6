# SPDX-License-Identifier: Apache-2.0
"""Entries for tests of the cache's writer: numbered, of chosen or random size."""

import random

from tests.cachetools import Entry, with_records
from tests.wiretools import labels

NOW = 1_000_000  # ms


def name(number: int) -> bytes:
    return labels(b"n%d" % number, b"example")


def random_entry(chance: random.Random, number: int, low: int = 11, high: int = 3900) -> Entry:
    entry = Entry(qname=name(number), key_hash=chance.getrandbits(64), stored_ms=NOW)
    return with_records(entry, int(chance.triangular(low, high, low)), fill=number & 0xFF)


def sized(entry: Entry, octets: int) -> Entry:
    """The entry with as many records as make it `octets` long."""
    return with_records(entry, octets - entry.but(records=b"").size())
