# SPDX-License-Identifier: Apache-2.0
"""How an option is declared: as the annotation of a field of a dataclass in ``model``.

    ttl_s: Annotated[int, Option("ttl", Seconds(1, 65535), "TTL of the answers")] = 3600

The annotation says how the text is read (``kinds``) and explained, the field's default is the option's, and a
field without a default must be given. ``reader`` parses by these, tools/gen_docs.py writes docs/options.md.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class Kind(Protocol):
    """What one word of the file may be."""

    @property
    def expected(self) -> str:
        """What may stand there, as a phrase after "expected"."""

    @property
    def known(self) -> Iterable[str]:
        """Words that it knows by name, to find the nearest of a word that it doesn't."""

    def show(self, value: Any) -> str:
        """A value as the file would have it."""

    def parse(self, text: str) -> Any:
        """The value. Raises ValueError; where it has text, that says what is wrong."""


@dataclass(frozen=True, slots=True)
class Several:
    """One word or more, each of a kind; the value is a tuple."""

    kind: Kind
    least: int = 1


@dataclass(frozen=True, slots=True)
class Arg:
    """A word on the plugin's (or the option's) own line, in the order of the fields."""

    word: str  #: as the synopsis calls it
    kind: Kind
    help: str
    when: str = ""  #: a word that this expression doesn't match whole belongs to the next argument
    later: str = ""  #: accepted, and not yet acted on where it isn't the default: what is done instead


@dataclass(frozen=True, slots=True)
class Rest:
    """All words that are left on the line; the value is a tuple."""

    word: str
    kind: Kind
    help: str
    least: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """A line of the plugin's block: a name, and what follows it on that line."""

    name: str
    kind: Kind | Several | type[Any] | None  #: None: nothing follows; a class: its fields are the words
    help: str
    repeated: bool = False  #: may stand there more than once; the value is a tuple
    later: str = ""  #: accepted, and not yet acted on: what is done instead
    since: str = ""  #: the CoreDNS that has it, where node-cache 1.26 hasn't


Declared = Arg | Rest | Option


@dataclass(frozen=True, slots=True)
class Declaration:
    """A field of a dataclass with what it declares."""

    field: str
    how: Declared
    default: Any  #: dataclasses.MISSING where it must be given

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING


def show(kind: Kind | Several | type[Any] | None, value: Any) -> str:
    """The words after an option for a value; nothing for an option without words."""
    if kind is None:
        return ""
    if isinstance(kind, Several):
        return " ".join(kind.kind.show(one) for one in value)
    if not isinstance(kind, type):
        return kind.show(value)
    parts = []
    for row in declarations(kind):
        one = getattr(value, row.field)
        if one is not None and not isinstance(row.how, Option):
            parts.append(show(Several(row.how.kind) if isinstance(row.how, Rest) else row.how.kind, one))
    return " ".join(part for part in parts if part)


_known: dict[Any, tuple[Declaration, ...]] = {}


def declarations(cls: Any) -> tuple[Declaration, ...]:
    """What the fields of a dataclass declare, in their order."""
    if cls not in _known:
        _known[cls] = tuple(_declarations(cls))
    return _known[cls]


def _declarations(cls: type[Any]) -> Iterator[Declaration]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        marks = hint.__metadata__ if get_origin(hint) is Annotated else ()
        for mark in marks:
            if isinstance(mark, Arg | Rest | Option):
                default = field.default
                if field.default_factory is not dataclasses.MISSING:
                    default = field.default_factory()
                yield Declaration(field.name, mark, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """What all plugins have. A plugin's docstring is its paragraph in docs/options.md."""

    where: Position
