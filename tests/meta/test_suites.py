# SPDX-License-Identifier: Apache-2.0
"""No test is left out: what `make test` passes over has a target of its own, and CI runs it."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
    "ini_options"
]
PASSED_OVER = re.findall(r"not (\w+)", " ".join(OPTIONS["addopts"]))


def test_markers_are_passed_over() -> None:
    assert {"stress", "slow", "diff"} <= set(PASSED_OVER) <= {one.split(":")[0] for one in OPTIONS["markers"]}


@pytest.mark.parametrize("marker", PASSED_OVER)
def test_a_step_of_ci_runs_it(marker: str) -> None:
    targets = re.findall(
        rf'^([a-z-]+):.*\n(?:\t.*\n)*\t\$\(PYTEST\) -m "?{marker}\b',
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    steps = re.findall(
        r"^step .* make --no-print-directory ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE
    )
    assert set(targets) & set(steps), (targets, steps)
