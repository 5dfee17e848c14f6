# SPDX-License-Identifier: Apache-2.0
"""What a Corefile will do, in plain words, and what of it will not be done."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from fastdns.control.config import model, sentences
from fastdns.control.config.declare import Option, Rest, Several, declarations, show
from fastdns.control.config.model import Corefile, Position, ServerBlock
from fastdns.control.config.registry import PLUGINS
from fastdns.control.config.steps import is_refused

#: Plugins that can have the last word on a question.
_ANSWERING: Final = ("template", "hosts", "forward", "whoami")


class Row(NamedTuple):
    """A line about a block: the plugin, and what it does."""

    plugin: str
    text: str


class Note(NamedTuple):
    """Something that is accepted and not done."""

    where: Position
    text: str


def block_rows(block: ServerBlock) -> list[Row]:
    """What a block will do, in the order in which a query meets it."""
    rows = [Row("listens", _listens(block))]
    present = [name for name in PLUGINS if plugins_of(block, name)]
    for name in present:
        describe: Callable[[Any, ServerBlock], Iterable[str]] = getattr(sentences, name)
        rows += [Row(name, text) for plugin in plugins_of(block, name) for text in describe(plugin, block)]
    if is_refused(block):
        rows.append(Row("", "answers REFUSED to every question: nothing in the block answers"))
    elif not set(present) & set(_ANSWERING):
        rows.append(Row("", "answers SERVFAIL to every question: nothing in the block answers"))
    return rows


def settings_rows(settings: model.Settings) -> list[Row]:
    """What the `fastdns` block says, where it says something."""
    rows = []
    for row in declarations(model.Settings):
        value = getattr(settings, row.field)
        if value != row.default:
            assert isinstance(row.how, Option)
            rows.append(Row(row.how.name, option_text(row.how, value)))
    return rows


def not_acted_on(corefile: Corefile) -> list[Note]:
    """Options that are accepted and not yet acted on."""
    notes: list[Note] = []
    for block in corefile.blocks:
        for name in PLUGINS:
            for plugin in plugins_of(block, name):
                notes += [Note(plugin.where, f"plugin {name}: {text}") for text in _later(plugin)]
    return list(dict.fromkeys(notes))  # a line may stand for several plugins


def left_out(corefile: Corefile) -> list[Note]:
    """Plugins that are accepted and for which nothing is done."""
    return [
        Note(plugin.where, f"plugin {name}: {spec.ignored}")
        for block in corefile.blocks
        for name, spec in PLUGINS.items()
        if spec.ignored
        for plugin in plugins_of(block, name)
    ]


def plugins_of(block: ServerBlock, name: str) -> tuple[Any, ...]:
    """The plugins of a name in a block, none or one or more."""
    found = getattr(block, name)
    if found is None:
        return ()
    return found if isinstance(found, tuple) else (found,)


def _later(plugin: Any) -> Iterator[str]:
    for row in declarations(type(plugin)):
        value = getattr(plugin, row.field)
        if value == row.default or isinstance(row.how, Rest) or not row.how.later:
            continue
        if isinstance(row.how, Option):
            yield f"{row.how.name} {option_text(row.how, value)}".strip() + f": {row.how.later}"
        else:
            yield f"{row.how.kind.show(value)}: {row.how.later}"
    if isinstance(plugin, model.Forward):
        for to in plugin.to:
            if to.scheme == "https":
                yield f"upstream {to.text}: not asked"


def option_text(option: Option, value: Any) -> str:
    """The words after an option for a value."""
    if option.repeated and not isinstance(option.kind, Several):
        return ", ".join(show(option.kind, one) for one in value)
    return show(option.kind, value)


def _listens(block: ServerBlock) -> str:
    ports = sorted({key.port for key in block.keys})
    if block.bind is None:
        return f"UDP and TCP, port {', '.join(map(str, ports))} of all addresses"
    endpoints = dict.fromkeys(str(endpoint) for key in block.keys for endpoint in block.endpoints(key))
    return f"UDP and TCP, {', '.join(endpoints)}"
