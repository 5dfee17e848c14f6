# SPDX-License-Identifier: Apache-2.0
"""For all tests: a missing peer is a skip (a failure in CI), hypothesis profiles, the debug build."""

import os
import sys
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from tests.counts import count

ROOT = Path(__file__).parents[1]

_NOT_TO_BE_INSTALLED = ("IPv6", "ptrace", "cgroup", "root", "namespace")

hypothesis.settings.register_profile(
    "fastdns",
    max_examples=count("hypothesis_examples"),
    deadline=None,  # a noisy machine is no failure; pytest-timeout bounds the whole
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("fastdns")


def may_miss() -> bool:
    """Whether a test may be skipped for want of a program (CI sets FASTDNS_REQUIRE_PEERS: there none may)."""
    return not os.environ.get("FASTDNS_REQUIRE_PEERS")


def _names_a_program(reason: str) -> bool:
    """Whether something that can be installed was missing; what a kernel or container lacks can't be."""
    return "needs " in reason and not any(word in reason for word in _NOT_TO_BE_INSTALLED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """PeerMissing skips the test; where nothing may be missing, a skip for want of a program fails."""
    report = yield
    error = call.excinfo
    if error is None:
        return report
    if error.typename == "PeerMissing" and may_miss():
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: needs {error.value}")
    elif report.skipped and _names_a_program(str(error.value)) and not may_miss():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped ({error.value}), and FASTDNS_REQUIRE_PEERS is set"
    return report


@pytest.fixture(scope="session")
def debug_build() -> dict[str, str]:
    """Environment in which `sys.executable -P -m fastdns` is the debug build of `make debug`."""
    lib = ROOT / "build" / "debug" / "lib"
    if not (lib / "fastdns" / "__init__.py").exists():
        pytest.skip(f"needs the debug build: make debug (of {sys.executable})")
    return {**os.environ, "PYTHONPATH": str(lib)}
