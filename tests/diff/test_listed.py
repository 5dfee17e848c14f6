# SPDX-License-Identifier: Apache-2.0
"""docs/differences.md and the suite name the same differences."""

from tests.diff.cases import CASES
from tests.diff.cases.accepted import COREFILES
from tests.diff.listed import EVERYWHERE, documented
from tests.diff.metrics import OF_METRICS


def used() -> set[str]:
    pairs = {ask.differs for case in CASES for ask in case.asks if ask.differs}
    files = {corefile.differs for corefile in COREFILES if corefile.differs}
    return pairs | files | {rule.identifier for rule in EVERYWHERE} | set(OF_METRICS.values())


def test_each_difference_is_listed() -> None:
    assert not used() - set(documented()), "named by a pair, but not in docs/differences.md"


def test_each_listed_difference_is_looked_at() -> None:
    assert not set(documented()) - used(), "in docs/differences.md, but no pair shows it"


def test_identifiers_are_unique() -> None:
    assert len(documented()) == len(set(documented()))


def test_a_difference_says_what_is_ours() -> None:
    """A pair that names a difference holds fastdns to something."""
    for case in CASES:
        for ask in case.asks:
            assert bool(ask.differs) == bool(ask.ours), f"{case.name}: {ask.look}"
