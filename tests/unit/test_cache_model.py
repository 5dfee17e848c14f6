# SPDX-License-Identifier: Apache-2.0
"""Random operations on the cache against a plain dict: never a wrong answer, nothing lost but by eviction."""

import os
from typing import ClassVar

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastdns._segments import create_cache, reopen_read_only
from fastdns._testing import cache as raw
from tests.cachetools import FAILURE, NODATA, NXDOMAIN, POSITIVE, Entry, hash_of, with_records
from tests.counts import count
from tests.wiretools import labels

START = 1_000_000

# Few names, most in one bucket with one tag, some with the very same hash.
KEYS = [
    Entry(qname=labels(b"n%d" % n), key_hash=hash_of(bucket=n % 2, tag=1 + n % 2, rest=n % 4), qtype=qtype)
    for n in range(16)
    for qtype in (1, 28)
]
keys = st.sampled_from(KEYS)
sizes = st.one_of(st.just(0), st.integers(11, 200), st.integers(3_900, 4_100), st.integers(20_000, 65_535))


class CacheMachine(RuleBasedStateMachine):
    """`model` holds what the writer said it stored; `sure` those keys that nothing can have evicted since."""

    kinds: ClassVar = st.sampled_from([POSITIVE, NODATA, NXDOMAIN, FAILURE])

    @initialize()
    def open(self) -> None:
        fd = create_cache(400 * 1024)
        read_only = reopen_read_only(fd)
        self.cache, self.reader = raw.Cache(fd, writable=True), raw.Cache(read_only)
        os.close(fd)
        os.close(read_only)
        self.now, self.generation, self.epoch = START, 1, 0
        self.store = raw.Store(self.cache, 1, START)
        self.model: dict[tuple[object, ...], Entry] = {}
        self.sure: set[tuple[object, ...]] = set()
        self.evicted = 0

    def notice_evictions(self) -> None:
        counters = self.store.counters
        evicted = counters["evicted_bytes"] + counters["evicted_bucket"]
        if evicted != self.evicted:
            self.evicted = evicted
            self.sure.clear()

    def over(self, entry: Entry) -> bool:
        return self.now >= entry.stored_ms + (entry.ttl_s + entry.stale_s) * 1000

    @rule(
        key=keys,
        octets=sizes,
        fill=st.integers(0, 255),
        ttl=st.integers(0, 60),
        stale=st.integers(0, 60),
        kind=kinds,
    )
    def put(self, key: Entry, octets: int, fill: int, ttl: int, stale: int, kind: int) -> None:
        entry = with_records(key, octets, fill).but(stored_ms=self.now, ttl_s=ttl, stale_s=stale, kind=kind)
        before = self.store.find(key.pack())
        outcome = self.store.put(entry.pack(), self.now)
        old = self.model.get(key.key())
        if outcome == "kept_better":
            assert before is not None
            assert old is not None
            assert (kind, old.kind == FAILURE, self.over(old)) == (FAILURE, False, False)
            assert self.store.find(key.pack()) == before
        elif outcome == "too_large":
            assert entry.size() > 4096
        else:
            assert outcome == "ok"
            assert not (before and old and kind == FAILURE and old.kind != FAILURE and not self.over(old))
            self.model[key.key()] = entry
        self.notice_evictions()
        if outcome == "ok":
            self.sure.add(key.key())
            found = self.store.find(key.pack())
            assert found is not None
            assert found[80:] == entry.pack()[80:]

    @rule(key=keys, want=st.integers(0, 70_000))
    def look_up(self, key: Entry, want: int) -> None:
        outcome, slot, header, qname, _, records = self.reader.lookup(key.pack(), self.now, want)
        entry = self.model.get(key.key())
        if outcome == "miss":
            assert entry is None or key.key() not in self.sure or self.over(entry)
            return
        assert entry is not None
        assert slot is not None
        age_ms = self.now - entry.stored_ms
        fresh = age_ms < entry.ttl_s * 1000
        assert not self.over(entry)
        held = entry.stale_mark >> 48 == self.epoch and self.now < entry.stale_mark & (1 << 48) - 1
        assert outcome == ("hit" if fresh else "stale now" if held else "stale")
        assert header == entry.but(slot_ref=slot % (self.reader.slots // self.reader.geometry[0])).header()
        assert (qname, records) == (entry.qname, entry.records[:want])
        self.store.hit(slot, worker=slot % 2)

    @rule(ms=st.integers(0, 20_000))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule(key=keys, ms=st.integers(0, 60_000))
    def mark_stale(self, key: Entry, ms: int) -> None:
        if self.store.hold(key.pack(), self.now + ms):
            entry = self.model[key.key()]
            self.model[key.key()] = entry.but(stale_mark=self.epoch << 48 | self.now + ms)

    @rule()
    def upstream_is_back(self) -> None:
        self.store.void_holds()
        self.epoch += 1

    @rule()
    def sweep(self) -> None:
        self.store.sweep_all(self.now)
        for key in KEYS:
            entry = self.model.get(key.key())
            if entry is not None and self.over(entry):
                assert self.store.find(key.pack()) is None

    @rule()
    def attach_again(self) -> None:
        """Another writer takes over: the old one stores nothing more, nothing that lives is lost."""
        old, octets, entries = self.store, self.store.octets, self.store.entries
        self.generation += 1
        self.store = raw.Store(self.cache, self.generation, self.now)
        assert self.store.counters["scan_dropped"] == 0
        assert self.store.entries + self.store.counters["expired"] == entries
        assert self.store.octets <= octets
        assert old.put(KEYS[0].but(stored_ms=self.now).pack(), self.now) == "not_writer"
        assert old.sweep(self.now) == 0
        assert not old.hold(KEYS[0].pack(), self.now)
        self.evicted = 0

    @invariant()
    def sound(self) -> None:
        self.store.audit()


CacheMachine.TestCase.settings = hypothesis.settings(
    max_examples=count("hypothesis_runs"), stateful_step_count=60
)
TestCache = CacheMachine.TestCase
