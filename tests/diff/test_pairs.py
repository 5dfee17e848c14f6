# SPDX-License-Identifier: Apache-2.0
"""node-cache and fastdns, side by side: the same Corefile, the same upstream, the same queries."""

import pytest
from _pytest.mark import ParameterSet

from tests.diff.cases import CASES
from tests.diff.conftest import Results
from tests.diff.expect import unmet
from tests.diff.pairs import Ask, Case
from tests.diff.run import NODE_CACHE

MIN_PAIRS = 300


def _pairs(for_fastdns: bool) -> list[ParameterSet]:
    """Every pair as a parameter; a case that isn't in the default suite has the marker diff."""
    found = []
    for case in CASES:
        for number, ask in enumerate(case.asks):
            marks = [] if case.default else [pytest.mark.diff]
            if for_fastdns and ask.upstream_issue:
                marks += [
                    pytest.mark.xfail(reason=f"needs the upstream engine: {ask.upstream_issue}", strict=False)
                ]
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
