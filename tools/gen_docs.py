# SPDX-License-Identifier: Apache-2.0
"""Write docs/options.md from the declarations of the options; with ``--check`` only compare it."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastdns.control.config import model
from fastdns.control.config.declare import (
    Arg,
    Declaration,
    Kind,
    Option,
    Rest,
    Several,
    declarations,
    show,
)
from fastdns.control.config.kinds import Int, Size
from fastdns.control.config.registry import PLUGINS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "options.md"

_HEAD = """\
<!-- Written by tools/gen_docs.py from fastdns/control/config/; change it there. -->
# Options of the Corefile

Everything that a Corefile may say, with its defaults. Grammar and meaning are those of CoreDNS in node-cache;
[differences.md](differences.md) has the exceptions. `fastdns check FILE` says what a file will do.

Words in capitals stand for values, `[...]` may be left out, `...` may be repeated. A duration is Go's: `30s`,
`500ms`, `1h30m`. A network where a domain name may stand means its reverse zones. A plugin may stand once in
a block where nothing else is said. *Later*: accepted, and not yet acted on. A version is the first CoreDNS
that has the option, where node-cache 1.26's hasn't.
"""

_REWRITE = """\
`rewrite [continue|stop] FIELD ...`, on one line or in a block. `stop`, the default, ends the rules at the
first one that fits; with `continue` those below it are tried too. MATCH is `exact` (the default), `prefix`,
`suffix`, `substring` or `regex`; ACTION is `set`, `append`, `replace` or `unset`.

| field | words | meaning |
| --- | --- | --- |
"""


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    text = page()
    if arguments == ["--check"]:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


def page() -> str:
    """The whole page."""
    parts = [_HEAD, *(section(name) for name in sorted(PLUGINS))]
    parts.append(f"## The `fastdns` block\n\n{paragraph(model.Settings)}\n\n{table(model.Settings)}")
    return "\n".join(parts)


def section(name: str) -> str:
    """A plugin's part."""
    spec = PLUGINS[name]
    said = paragraph(spec.cls)
    if spec.repeated and name not in ("rewrite", "forward"):
        said += " May stand more than once in a block."
    if spec.ignored:
        said += f" Accepted, and left out: {spec.ignored}."
    if name == "rewrite":
        return f"## rewrite\n\n{said}\n\n{_REWRITE}{''.join(rewrite_rows())}"
    rows = table(spec.cls)
    return f"## {name}\n\n    {synopsis(name, spec.cls)}\n\n{said}\n" + (f"\n{rows}" if rows else "")


def synopsis(name: str, cls: type[Any]) -> str:
    """The plugin's own line."""
    words = [name, *(word_of(row) for row in declarations(cls) if not isinstance(row.how, Option))]
    return " ".join(words) + (
        " { ... }" if any(isinstance(row.how, Option) for row in declarations(cls)) else ""
    )


def word_of(row: Declaration) -> str:
    """An argument as a synopsis has it."""
    how = row.how
    assert isinstance(how, Arg | Rest)
    if how.word.startswith("["):
        return how.word
    if isinstance(how, Rest):
        return f"{how.word}..." if how.least else f"[{how.word}...]"
    return how.word if row.required else f"[{how.word}]"


def table(cls: type[Any]) -> str:
    """The rows of a plugin's words and options; nothing where it has none."""
    rows = "".join(table_rows(cls))
    return f"| | values | default | meaning |\n| --- | --- | --- | --- |\n{rows}" if rows else ""


def table_rows(cls: type[Any]) -> Iterator[str]:
    """A row for each word and option, and for the words after an option."""
    for row in declarations(cls):
        how = row.how
        if not isinstance(how, Option):
            yield argument(row)
            continue
        marks = [mark for mark in (how.since, f"*later*: {how.later}" if how.later else "") if mark]
        said = how.help + (f" ({', '.join(marks)})" if marks else "")
        if isinstance(how.kind, type):
            words = " ".join(word_of(inner) for inner in declarations(how.kind))
            yield line(f"`{how.name} {words}`", "", default(row), said)
            for inner in declarations(how.kind):
                assert isinstance(inner.how, Arg | Rest)
                yield line(
                    f"&nbsp; {inner.how.word}", inner.how.kind.expected, default(inner), inner.how.help
                )
        else:
            yield line(f"`{how.name}`", values(how.kind), default(row), said)


def argument(row: Declaration, indent: str = "") -> str:
    """The row of a word."""
    how = row.how
    assert isinstance(how, Arg | Rest)
    later = f" (*later*: another than the default; {how.later})" if isinstance(how, Arg) and how.later else ""
    return line(f"{indent}{how.word}", values(how.kind), default(row), how.help + later)


def values(kind: Kind | Several | None) -> str:
    """What follows an option."""
    if kind is None:
        return ""
    if isinstance(kind, Several):
        return f"{values(kind.kind)}; {'one or more' if kind.least else 'any number'}"
    return kind.expected.removesuffix(" such as 30s, 500ms or 1h30m")


def default(row: Declaration) -> str:
    """A default as the file would have it."""
    kind = row.how.kind
    if isinstance(row.how, Rest):
        kind = Several(row.how.kind)
    value = row.default
    if value is dataclasses.MISSING or value is None or value is False or value in ((), ""):
        return ""
    if isinstance(kind, Int | Size) and value < kind.low:  # stands for "not said"
        return ""
    shown = show(kind, value)
    return f"`{shown}`" if shown else ""


def line(*cells: str) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def paragraph(cls: type[Any]) -> str:
    """A class's docstring as one line."""
    return re.sub(r"\s+", " ", inspect.getdoc(cls) or "").strip()


def rewrite_rows() -> Iterator[str]:
    """The forms of `rewrite`, from their classes' docstrings: ``field words``: meaning."""
    for cls in model.Rule.__args__:
        words, _, meaning = paragraph(cls).removeprefix("``").partition("``")
        field, _, rest = words.partition(" ")
        yield line(f"`{field}`", f"`{rest}`", meaning.removeprefix(": ").removeprefix("."))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
