# SPDX-License-Identifier: Apache-2.0
"""docs/metrics.md from the tables in fastdns/control/observe/metrics.py; `--check` only compares."""

import sys
from collections.abc import Iterator
from pathlib import Path

from fastdns.control.observe.metrics import COREDNS, COUNTERS, OWN, Metric

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

Made by `tools/gen_metrics.py` from the tables in `fastdns/control/observe/metrics.py`; don't edit.

All of them are shown alike on each address that a block's `prometheus` names and on node-cache's own,
0.0.0.0:9353 (`-metrics-listen-address`): scrape one of them. The totals stand in shared memory that outlives
every process but the keeper, so they go on over deaths and reloads. What has labels is there from its first
use on, what has none from the start.

Absent, since there is no Go: `go_*`, and native histograms. `process_*` speaks of all processes together.
docs/differences.md has what else is not as in node-cache.
"""


def table(metrics: tuple[Metric, ...]) -> Iterator[str]:
    """Lines of a table, one row a metric."""
    yield "| metric | kind | labels | |"
    yield "| --- | --- | --- | --- |"
    for one in metrics:
        labels = ", ".join(one.labels)
        yield f"| `{one.name}` | {one.kind} | {labels} | {one.help} |"


def bounds(metrics: tuple[Metric, ...]) -> Iterator[str]:
    """Lines that list the buckets of each histogram."""
    yield "| histogram | buckets |"
    yield "| --- | --- |"
    for one in metrics:
        if one.bounds:
            yield f"| `{one.name}` | {', '.join(one.bounds)} |"


def document() -> str:
    """The whole text."""
    parts = [
        _HEAD,
        "## CoreDNS's and node-cache's\n",
        *table(COREDNS),
        "\n## fastdns's own\n",
        *table(OWN),
        "\n## Counters of the data and upstream planes\n",
        "Sums over all processes; `fastdns stats --json` has them by worker.\n",
        *table(COUNTERS),
        "\n## Buckets\n\nUpper bounds, in seconds or octets; +Inf is the last.\n",
        *bounds(COREDNS + OWN),
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write it, or with --check say whether it is up to date."""
    if sys.argv[1:] == ["--check"]:
        return 0 if DOCUMENT.read_text(encoding="utf-8") == document() else 1
    DOCUMENT.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
