# SPDX-License-Identifier: Apache-2.0
"""Files that are written by a program are what it would write now."""

import runpy
from typing import Any

from fastdns.control.config.registry import PLUGINS
from tests.meta.sources import ROOT


def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "gen_docs.py"))


def test_the_page_of_options_is_up_to_date() -> None:
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == generator()["page"](), "run tools/gen_docs.py"


def test_the_page_has_every_plugin() -> None:
    page = generator()["page"]()
    assert all(f"\n## {name}\n" in page for name in PLUGINS)
    assert "| `fallback_linger` | a duration from 0s to 24h | `10m` |" in page
