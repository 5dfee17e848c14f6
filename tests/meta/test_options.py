# SPDX-License-Identifier: Apache-2.0
"""What `fastdns check` says of an option is true: one that isn't marked as later is read by somebody."""

import re
from typing import Any, Final

import pytest

from fastdns.control.config import model
from fastdns.control.config.declare import Option, declarations
from fastdns.control.config.registry import PLUGINS
from tests.meta.sources import PACKAGE, ROOT

#: Where options are declared, read from the file and explained; being named there is not being acted on.
_TALK: Final = {
    "addressing", "cache", "declare", "explain", "forward", "kinds", "load", "model", "plugins", "reader",
    "registry", "rules", "sentences", "special", "upstreams",
}  # fmt: skip

#: Options without effect, for good.
_WITHOUT_EFFECT: Final = {
    "dns64.argument": "it becomes `prefix`",
    "dns64.option_prefix": "it becomes `prefix`",
    "errors.stacktrace": "there is no stack to show",
    "errors.output": "there is only stdout",
    "forward.prefer_udp": "UDP is asked first, unless force_tcp is said",
    "prometheus.runtime_metrics": "there is no Go runtime",
    "template.upstream": "as in node-cache",
    "timeouts.write_s": "as in node-cache, where it is for HTTP",
    "debug": "there are no lines that it would add",
}


def acting_text() -> str:
    """The sources that do something with a Corefile."""
    config = PACKAGE / "control" / "config"
    paths = [path for suffix in ("*.py", "*.pyx") for path in PACKAGE.rglob(suffix)]
    return "".join(
        path.read_text(encoding="utf-8")
        for path in paths
        if not (path.parent == config and path.stem in _TALK) and path != PACKAGE / "commands" / "check.py"
    )


def options() -> list[str]:
    """``plugin.field`` of everything that is said to be acted on."""
    classes: list[tuple[str, type[Any]]] = [
        (name, spec.cls) for name, spec in PLUGINS.items() if not spec.ignored
    ]
    return [
        f"{name}.{row.field}"
        for name, cls in [*classes, ("fastdns", model.Settings)]
        for row in declarations(cls)
        if not (isinstance(row.how, Option) and row.how.later) and not row.field.endswith("words")
    ]


TEXT: Final = acting_text()


def is_read(field: str) -> bool:
    return re.search(rf"[.\"]{field}\b", TEXT) is not None


@pytest.mark.parametrize("option", options())
def test_an_option_is_acted_on(option: str) -> None:
    name, field = option.split(".")
    assert is_read(field) or option in _WITHOUT_EFFECT
    assert name == "fastdns" or is_read(name) or name in _WITHOUT_EFFECT


def test_those_without_effect_exist() -> None:
    known = {*options(), *PLUGINS}
    assert set(_WITHOUT_EFFECT) <= known


def test_differences_say_so() -> None:
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert "*later*" in text
