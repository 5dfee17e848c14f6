# SPDX-License-Identifier: Apache-2.0
"""All cases whose pairs were chosen run once, at the first test that looks at one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.diff.cases import CASES
from tests.diff.pairs import Case
from tests.diff.run import FASTDNS, NODE_CACHE, Outcome, Program, run_cases

HERE = Path(__file__).parent
AT_ONCE = 4  # cases; most of their time is waiting
TIMEOUT_S = 300  # the first test of a server waits for all cases

Results = Callable[[Case, Program], Outcome]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("system")
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Results:
    """What a case saw on a server; an exception where the server could not be had."""
    wanted = set()
    for item in request.session.items:
        case = (
            item.callspec.params.get("case")
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else None
        )
        if isinstance(case, Case):
            wanted |= {(case.name, NODE_CACHE.name)}
            wanted |= {(case.name, FASTDNS.name)} if "fastdns" in item.name else set()
    found: dict[tuple[str, str], Outcome | Exception] = {}
    for program in (NODE_CACHE, FASTDNS):
        cases = [case for case in CASES if (case.name, program.name) in wanted]
        found |= run_cases(cases, [program], AT_ONCE)

    def of(case: Case, program: Program) -> Outcome:
        outcome = found[case.name, program.name]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return of
