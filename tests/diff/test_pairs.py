# SPDX-License-Identifier: Apache-2.0
"""node-cache and fastdns, side by side: the same Corefile, the same upstream, the same queries."""

import pytest
from _pytest.mark import ParameterSet

from tests.diff.cases import CASES, small, whole
from tests.diff.conftest import Results
from tests.diff.expect import unmet
from tests.diff.listed import allowed_everywhere
from tests.diff.pairs import Ask, Case
from tests.diff.reply import compare
from tests.diff.run import FASTDNS, NODE_CACHE

MIN_PAIRS = 300
BOTH = (whole.RKE2, small.SIZES)  # of the default suite: started with both


def _pairs(for_fastdns: bool) -> list[ParameterSet]:
    """Every pair as a parameter; a case that isn't in the default suite has the marker diff."""
    found = []
    for case in CASES:
        for number, ask in enumerate(case.asks):
            marks = [] if case.default and (case in BOTH or not for_fastdns) else [pytest.mark.diff]
            look = ask.look.replace("::", "..")
            found.append(pytest.param(case, number, ask, id=f"{case.name}-{number}-{look}", marks=marks))
    return found


def test_enough_pairs() -> None:
    """At least 300, no two of a case looking at the same."""
    assert sum(len(case.asks) for case in CASES) >= MIN_PAIRS
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("case", "number", "ask"), _pairs(for_fastdns=False))
def test_node_cache_says(case: Case, number: int, ask: Ask, results: Results) -> None:
    """What is known of node-cache (its facts, and what docs/differences.md says it does) is what it does."""
    seen = results(case, NODE_CACHE).seen[number]
    assert not unmet(ask.says, seen), (
        f"{ask.look}: {unmet(ask.says, seen)} of {ask.says!r} don't hold:\n{seen}"
    )


@pytest.mark.parametrize(("case", "number", "ask"), _pairs(for_fastdns=True))
def test_fastdns_says_the_same(case: Case, number: int, ask: Ask, results: Results) -> None:
    """Field by field, but for what docs/differences.md lists; and that is there."""
    theirs, ours = results(case, NODE_CACHE).seen[number], results(case, FASTDNS).seen[number]
    differing = compare(theirs, ours, ask.any_order)
    if ask.unsteady:
        chance = ("asked", "answer") if ask.repeat > 1 else ("asked",)
        differing = {name: both for name, both in differing.items() if not name.startswith(chance)}
    left, _ = allowed_everywhere(case, ask, theirs, ours, differing)
    told = f"{ask.look}: {ask.name} {ask.rdtype}\nnode-cache: {theirs}\nfastdns: {ours}\n"
    expected = ask.ours if ask.differs else ask.says
    if not ask.differs:
        assert not left, told + "\n".join(f"{name}: {both[0]} | {both[1]}" for name, both in left.items())
    else:
        assert left or unmet(ask.says, ours), f"no difference, but {ask.differs!r} is named:\n{told}"
    assert not unmet(expected, ours), f"fastdns: {unmet(expected, ours)} of {expected!r} don't hold:\n{told}"
