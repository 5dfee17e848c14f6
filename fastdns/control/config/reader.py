# SPDX-License-Identifier: Apache-2.0
"""From words to the fields of a dataclass, by what the fields declare.

Nothing is raised: what is wrong is noted, and reading goes on, so that one look shows all of a file's errors.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastdns.control.config.declare import Arg, Declaration, Kind, Option, Rest, Several, declarations
from fastdns.control.config.lexer import Token
from fastdns.control.config.messages import nearest, position_of, shown
from fastdns.control.config.parser import Directive

_WRONG: Final = object()

#: Takes a line of the block that no option claims; True if it did.
OtherLine = Callable[[Sequence[Token], dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Given:
    """What a plugin's own code looks at: the values so far, and the words that they are from."""

    values: dict[str, Any]
    directive: Directive
    reader: "Reader"

    def option_words(self, option: str) -> list[Token]:
        """The words after an option, of all its lines."""
        return [word for line in self.directive.body if line[0].text == option for word in line[1:]]


class Reader:
    """Reads the directives of a file."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.label = ""

    def problem(self, at: Token, text: str) -> None:
        """Note that something is wrong."""
        self.problems.append(f"{position_of(at)}: {self.label}{text}")

    def warning(self, at: Token, text: str) -> None:
        """Note what is odd, and served all the same."""
        self.warnings.append(f"{position_of(at)}: {self.label}{text}")

    def values(
        self, cls: type[Any], directive: Directive, other_line: OtherLine | None = None
    ) -> dict[str, Any] | None:
        """The values of the fields that the directive says; None where one of them is wrong."""
        before = len(self.problems)
        found = self._words(cls, directive.words, directive.name, of="")
        options = {row.how.name: row for row in declarations(cls) if isinstance(row.how, Option)}
        if directive.braces and not options:
            self.problem(directive.braces[0], "found '{', expected the end of the line")
            return None
        for line in directive.body:
            if line[0].text in options:
                self._option(options[line[0].text], line, found)
            elif other_line is None or not other_line(line, found):
                self.unknown_option(line[0], options)
        return found if len(self.problems) == before else None

    def unknown_option(self, word: Token, options: Iterable[str]) -> None:
        """Note an option that the plugin hasn't got."""
        names = list(options)
        expected = f"one of {', '.join(names)}" if names else "no options"
        self.problem(word, f"found option {shown(word.text)}, expected {expected}{nearest(word.text, names)}")

    def _option(self, row: Declaration, line: Sequence[Token], found: dict[str, Any]) -> None:
        option = row.how
        assert isinstance(option, Option)
        value = self._option_value(option, line)
        if value is _WRONG:
            return
        if not option.repeated:
            found[row.field] = value
        elif isinstance(option.kind, Several):
            found[row.field] = (*found.get(row.field, ()), *value)
        else:
            found[row.field] = (*found.get(row.field, ()), value)

    def _option_value(self, option: Option, line: Sequence[Token]) -> Any:
        name, words = line[0], line[1:]
        kind = option.kind
        if isinstance(kind, type):
            before = len(self.problems)
            values = self._words(kind, words, name, of=f" of {name.text!r}")
            return kind(**values) if len(self.problems) == before else _WRONG
        if kind is None:
            self.end_of_line(words)
            return True
        if isinstance(kind, Several):
            return self.several(kind.kind, kind.least, words, name, f" of {name.text!r}")
        if not words:
            self.missing(name, kind, "")
            return _WRONG
        self.end_of_line(words[1:])
        return self.value(kind, words[0], f" of {name.text!r}")

    def _words(self, cls: type[Any], words: Sequence[Token], at: Token, of: str) -> dict[str, Any]:
        """What the arguments that ``cls`` declares are, from the words after ``at``."""
        found: dict[str, Any] = {}
        left = list(words)
        for row in declarations(cls):
            how = row.how
            if isinstance(how, Arg):
                if left and re.fullmatch(how.when or r"[\s\S]*", left[0].text):
                    found[row.field] = self.value(how.kind, left.pop(0), f" as {how.word}{of}")
                elif not left and row.required:
                    self.missing(at, how.kind, f"{how.word}, ")
            elif isinstance(how, Rest):
                if left or how.least:
                    found[row.field] = self.several(how.kind, how.least, left, at, f" as {how.word}{of}")
                left = []
        self.end_of_line(left)
        return found

    def value(self, kind: Kind, word: Token, what: str) -> Any:
        """One word's value, or _WRONG after a problem was noted."""
        try:
            return kind.parse(word.text)
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            hint = reason or nearest(word.text, kind.known)
            self.problem(word, f"found {shown(word.text)}{what}, expected {kind.expected}{hint}")
            return _WRONG

    def several(self, kind: Kind, least: int, words: Sequence[Token], at: Token, what: str) -> Any:
        """The values of all words; what one of them stands for may be several."""
        if len(words) < least:
            self.missing(at, kind, "")
            return _WRONG
        found: list[Any] = []
        for word in words:
            value = self.value(kind, word, what)
            found += value if isinstance(value, tuple) else [value]
        return tuple(found)

    def missing(self, after: Token, kind: Kind, name: str) -> None:
        """Note that a word is missing."""
        self.problem(after, f"found nothing after {shown(after.text)}, expected {name}{kind.expected}")

    def end_of_line(self, left: Sequence[Token]) -> None:
        """Note words too many."""
        if left:
            self.problem(left[0], f"found {shown(left[0].text)}, expected the end of the line")
