# SPDX-License-Identifier: Apache-2.0
"""Free space of a shard against a plain list of units."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastdns._testing.cache import Space
from tests.counts import count

RUN_MAX = 4868  # units of the largest entry


class SpaceMachine(RuleBasedStateMachine):
    """The model: one flag a unit; first fit means the lowest run that is long enough."""

    taken: dict[int, int]

    @initialize(first=st.integers(1, 200), units=st.integers(1, 6000))
    def open(self, first: int, units: int) -> None:
        self.first, self.units = first, first + units
        self.space = Space(first, self.units)
        self.used = [True] * first + [False] * units
        self.taken = {}

    def runs(self) -> list[tuple[int, int]]:
        """All free runs: (first unit, units)."""
        found = []
        start = None
        for unit, used in enumerate([*self.used, True]):
            if not used and start is None:
                start = unit
            elif used and start is not None:
                found.append((start, unit - start))
                start = None
        return found

    def mark(self, off: int, count: int, used: bool) -> None:
        assert self.used[off : off + count] == [not used] * count
        self.used[off : off + count] = [used] * count

    @rule(count=st.one_of(st.integers(1, 40), st.integers(1, RUN_MAX)))
    def take(self, count: int) -> None:
        fits = [start for start, length in self.runs() if length >= count]
        off = self.space.take(count)
        assert off == (fits[0] if fits else 0)
        if off:
            self.mark(off, count, True)
            self.taken[off] = count

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        off = data.draw(st.sampled_from(sorted(self.taken)))
        count = self.taken.pop(off)
        self.mark(off, count, False)
        start = self.space.give(off, count)
        assert start in [start for start, length in self.runs() if start <= off < start + length]

    @precondition(lambda self: self.runs())
    @rule(data=st.data())
    def take_at(self, data: st.DataObject) -> None:
        start, length = data.draw(st.sampled_from(self.runs()))
        off = data.draw(st.integers(start, start + length - 1))
        count = data.draw(st.integers(1, start + length - off))
        self.space.take_at(off, count)
        self.mark(off, count, True)
        self.taken[off] = count

    @rule(off=st.integers(0, 7000), count=st.integers(0, 300))
    def claim(self, off: int, count: int) -> None:
        """What attach does: only what lies inside and is free can be claimed."""
        free = count > 0 and off + count <= self.units and not any(self.used[off : off + count])
        assert self.space.claim(off, count) == free
        if free:
            self.mark(off, count, True)
            self.taken[off] = count
            self.space.index()

    @invariant()
    def agrees(self) -> None:
        runs = self.runs()
        assert self.space.free == sum(length for _, length in runs)
        assert self.space.bound >= min(max((length for _, length in runs), default=0), RUN_MAX)
        longest = [0] * len(self.space.longest())
        for start, length in runs:
            assert self.space.run(start, self.units) == length
            longest[start // 64] = max(longest[start // 64], min(length, RUN_MAX))
        assert self.space.longest() == longest


SpaceMachine.TestCase.settings = settings(max_examples=count("hypothesis_runs"))
TestSpace = SpaceMachine.TestCase
