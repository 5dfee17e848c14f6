# SPDX-License-Identifier: Apache-2.0
"""The queries of tests/data/dashboards.txt, taken apart: which series each of them needs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data" / "dashboards.txt"

_TARGET: Final = {"job", "instance", "namespace", "pod", "cluster"}  # labels that the scraper adds
_METRIC = re.compile(r"\b((?:coredns|process|promhttp)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!=|=)\s*"([^"]*)"')
_BY = re.compile(r"\bby \(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Needs:
    """One metric in one query."""

    query: str
    metric: str  #: the series' name, with _bucket, _sum or _count
    labels: frozenset[str]  #: that its series must have
    values: frozenset[tuple[str, str]]  #: those among them of which the query wants one value


def queries() -> list[str]:
    """All of them."""
    lines = DATA.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def needs(query: str) -> Iterator[Needs]:
    """What a query needs, metric by metric."""
    grouped = {label.strip() for group in _BY.findall(query) for label in group.split(",")}
    for metric, selector in _METRIC.findall(query):
        matchers = _MATCHER.findall(selector)
        labels = (grouped | {label for label, _, _ in matchers}) - _TARGET
        values = {(label, value) for label, kind, value in matchers if kind == "=" and label not in _TARGET}
        yield Needs(query, metric, frozenset(labels), frozenset(values))
