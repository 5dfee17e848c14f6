# SPDX-License-Identifier: Apache-2.0
"""Readers of the cache: opening, looking up, viewing."""

import os

import pytest

from fastdns._segments import create_cache, reopen_read_only
from fastdns._testing import cache as raw
from tests.cachetools import Entry

NOW = 1_000_000


@pytest.fixture
def fd():
    fd = create_cache(1 << 20)
    yield fd
    os.close(fd)


def test_put_and_look_up(fd):
    store = raw.Store(raw.Cache(fd, writable=True), 1, NOW)
    readers = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    reader = raw.Cache(readers)
    os.close(readers)
    entry = Entry(stored_ms=NOW)
    assert reader.lookup(entry.pack(), NOW)[0] == "miss"
    assert store.put(entry.pack(), NOW) == "ok"
    outcome, slot, header, qname, ttl_off, records = reader.lookup(entry.pack(), NOW)
    assert outcome == "hit"
    assert header == entry.but(slot_ref=slot).header()
    assert (qname, tuple(ttl_off), records) == (entry.qname, entry.ttl_off, entry.records)
    store.audit()
