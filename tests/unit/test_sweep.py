# SPDX-License-Identifier: Apache-2.0
"""The sweep that follows a new configuration: what goes, what stays, and how much of it is done at a time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fastdns import _stats
from fastdns._segments import create_cache
from fastdns._testing import cache as raw
from fastdns._testing.sweep import Sweep
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Block, Config, Upstream, Zone, plain_config
from tests.cachetools import Entry
from tests.storetools import NOW
from tests.wiretools import labels

CHANGED = 1  # FD_ENTRY_CHANGED
DS = 43
STEP_SLOTS = 640
PLAIN = plain_config((Endpoint("127.0.0.1", 53),), (Upstream(Endpoint("127.0.0.1", 9)),), 1)
# Zones 0 and 1 lead to blocks 0 and 1; block 2 is there for zones that come.
CONFIG = replace(
    PLAIN,
    zones=(Zone(".", group=0, block=0), Zone("example.", group=0, block=1)),
    blocks=(*PLAIN.blocks, Block(text="one"), Block(text="two")),
)


@pytest.fixture
def cache() -> Iterator[raw.Cache]:
    fd = create_cache(1 << 20)
    yield raw.Cache(fd, writable=True)
    os.close(fd)


@pytest.fixture
def store(cache: raw.Cache) -> raw.Store:
    return raw.Store(cache, 1, NOW)


@contextmanager
def configured(config: Config) -> Iterator[tuple[int, list[int]]]:
    """The configuration's descriptor, and its blocks' fingerprints."""
    descriptor = create_config(config)
    try:
        yield descriptor, _stats.read_config(descriptor)["fingerprints"]
    finally:
        os.close(descriptor)


def fingerprints(config: Config = CONFIG) -> list[int]:
    with configured(config) as (_, found):
        return found


def sweep(store: raw.Store, config: Config) -> Sweep:
    """All of it."""
    with configured(config) as (descriptor, _):
        one = Sweep(store, descriptor)
        while one.step():
            pass
        return one


def entry(text: str, zone: int, **changes: object) -> Entry:
    """An entry for a name, made by a zone of CONFIG."""
    qname = labels(*(label.encode() for label in text.split(".") if label))
    made = Entry(qname=qname, key_hash=random.Random(text).getrandbits(64), stored_ms=NOW, zone=zone)
    return made.but(**{"fingerprint": fingerprints()[zone], **changes})


def put(store: raw.Store, *entries: Entry) -> None:
    for one in entries:
        assert store.put(one.pack(), NOW) == "ok"


def stays(store: raw.Store, one: Entry) -> bool:
    return store.find(one.pack()) is not None


def test_what_agrees_stays(store: raw.Store) -> None:
    kept = [entry("www.test", 0), entry("www.example", 1), entry("example", 1)]
    put(store, *kept)
    assert sweep(store, CONFIG).swept == CONFIG.number
    assert all(stays(store, one) for one in kept)
    store.audit()


def test_a_block_of_another_text_takes_its_entries_along(store: raw.Store) -> None:
    other, changed = entry("www.test", 0), entry("www.example", 1)
    put(store, other, changed)
    blocks = (CONFIG.blocks[0], Block(text="one, changed"), CONFIG.blocks[2])
    sweep(store, replace(CONFIG, number=2, blocks=blocks))
    assert (stays(store, other), stays(store, changed)) == (True, False)
    assert store.counters["outdated"] == 1
    assert store.entries == 1
    store.audit()


def test_what_a_table_changed_goes_with_any_reload(store: raw.Store) -> None:
    plain, marked = entry("plain.example", 1), entry("marked.example", 1, marks=CHANGED)
    put(store, plain, marked)
    sweep(store, replace(CONFIG, number=2))
    assert (stays(store, plain), stays(store, marked)) == (True, False)


def test_zones_are_chosen_again(store: raw.Store) -> None:
    """A longer zone takes the names below it, whatever its block says; one that is gone gives them back."""
    above, below, beside = entry("example", 1), entry("a.sub.example", 1), entry("www.test", 0)
    signed = entry("sub.example", 1, qtype=DS)  # stays with the parent
    put(store, above, below, beside, signed)
    zones = (*CONFIG.zones, Zone("sub.example.", group=0, block=1))
    sweep(store, replace(CONFIG, number=2, zones=zones))
    assert [stays(store, one) for one in (above, below, beside, signed)] == [True, False, True, True]
    sweep(store_again(store), replace(CONFIG, number=3, zones=(CONFIG.zones[0], None)))
    assert not stays(store, above)


def store_again(store: raw.Store) -> raw.Store:
    """The store of the coordinator that a reload starts: it sweeps from the beginning."""
    return raw.Store(store.cache, 2, NOW)


def test_a_group_that_nobody_serves_any_more(store: raw.Store) -> None:
    lost = entry("www.test", 0, group=5)
    put(store, lost)
    sweep(store, replace(CONFIG, number=2))
    assert not stays(store, lost)


def test_a_step_is_bounded_and_the_number_comes_last(store: raw.Store) -> None:
    """Entries everywhere, all outdated: each step drops those in its 640 slots, and only the last says so."""
    many = [
        Entry(
            qname=labels(b"n%d" % number, b"test"),
            key_hash=number * 0x9E3779B97F4A7C15 & (2**64 - 1),
            stored_ms=NOW,
        )
        for number in range(2_000)
    ]
    put(store, *many)
    with configured(replace(CONFIG, number=2)) as (descriptor, _):
        one = Sweep(store, descriptor)
        assert one.buckets * 10 > 2 * STEP_SLOTS, "one step would be all"
        steps = 0
        while True:
            entries, place = store.entries, one.place
            assert one.swept == 0
            more = one.step()
            steps += 1
            assert entries - store.entries <= STEP_SLOTS
            assert one.place - place <= STEP_SLOTS // 10
            if not more:
                break
        assert steps == -(-one.buckets * 10 // STEP_SLOTS)
        assert (store.entries, one.swept) == (0, 2)
        assert store.counters["outdated"] == len(many)
        assert not one.step(), "once for each configuration"
    store.audit()


def test_who_is_not_the_writer_any_more_sweeps_nothing(store: raw.Store) -> None:
    put(store, entry("www.example", 1, fingerprint=7))
    successor = store_again(store)
    with configured(replace(CONFIG, number=2)) as (descriptor, _):
        one = Sweep(store, descriptor)
        assert not one.step()
        assert one.swept == 0
    assert successor.entries == 1
