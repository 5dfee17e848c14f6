# SPDX-License-Identifier: Apache-2.0
"""Which Corefiles are accepted: node-cache is started with each, fastdns reads it as it does at its start."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastdns.control.config.load import parse_corefile
from fastdns.errors import CorefileError
from tests.diff.cases.accepted import COREFILES, Corefile
from tests.diff.run import LISTEN, does_start

AT_ONCE = 4
ENVIRONMENT = {"LISTEN": LISTEN}

pytestmark = pytest.mark.diff


@pytest.fixture(scope="module")
def started() -> dict[str, bool]:
    """Whether node-cache serves with it, by what is looked at."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda corefile: does_start(corefile.whole), COREFILES)
    return {corefile.look: starts for corefile, starts in zip(COREFILES, found, strict=True)}


def by_look() -> Callable[[Corefile], str]:
    return lambda corefile: corefile.look


def test_each_looks_at_something_else() -> None:
    assert len({corefile.look for corefile in COREFILES}) == len(COREFILES)


@pytest.mark.parametrize("corefile", COREFILES, ids=by_look())
def test_node_cache(corefile: Corefile, started: dict[str, bool]) -> None:
    assert started[corefile.look] is corefile.starts


@pytest.mark.parametrize("corefile", COREFILES, ids=by_look())
def test_fastdns(corefile: Corefile) -> None:
    """As node-cache, or as docs/differences.md says; what is refused is told with its line, at once."""
    expected = corefile.starts is not bool(corefile.differs)
    began = time.monotonic()
    refusal = _refusal(corefile.whole)
    assert time.monotonic() - began < 1.0
    assert (refusal is None) is expected, refusal
    assert refusal is None or "Corefile:" in refusal


def _refusal(text: str) -> str | None:
    """What fastdns says of it; None: nothing is wrong."""
    try:
        parse_corefile(text, "Corefile", ENVIRONMENT)
    except CorefileError as error:
        return str(error)
    return None
