# SPDX-License-Identifier: Apache-2.0
"""docs/metrics.md is what its generator makes of the tables."""

from tools import gen_metrics


def test_the_page_is_up_to_date() -> None:
    assert gen_metrics.DOCUMENT.read_text(encoding="utf-8") == gen_metrics.document(), (
        "run: python -m tools.gen_metrics"
    )


def test_every_metric_is_on_it() -> None:
    rows = [line for line in gen_metrics.document().splitlines() if line.startswith("| `")]
    assert len(rows) > 120
