# SPDX-License-Identifier: Apache-2.0
"""Command lines as Go's package flag reads them: ``-x v``, ``-x=v``, ``--x=v``; a boolean needs the ``=``.

argparse comes close, but takes the word after a boolean for its value (Go's flags end there), ``-p53`` for
``-p 53``, and flags that stand after other words.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastdns.errors import UsageError

_BOOLEANS: Final = ("true", "false")


class FlagError(UsageError):
    """A command line that isn't understood."""


class HelpWanted(Exception):
    """-h, -help: there is no more to be read."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag by its names, the first of which is the key of its value."""

    names: tuple[str, ...]
    value: str  #: what the usage calls it; "" for a boolean
    parse: Callable[[str], Any]  #: raises UsageError
    default: Any
    help: str


def parse_bool(text: str) -> bool:
    """What Go's strconv.ParseBool takes. Raises UsageError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise UsageError(f"{quoted(text)}: expected true or false")


@dataclass(frozen=True, slots=True)
class Given:
    """What a command line says."""

    values: dict[str, Any]  #: of every flag, by its first name
    named: frozenset[str]  #: flags that were there, by their first names

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse_flags(flags: Sequence[Flag], words: Sequence[str]) -> Given:
    """Read a command line that is flags alone; of one that comes again the last counts.

    Raises FlagError, HelpWanted.
    """
    by_name = {name: flag for flag in flags for name in flag.names}
    values = {flag.names[0]: flag.default for flag in flags}
    named = set()
    rest = list(words)
    while rest and (spelled := _next_flag(rest)) is not None:
        name, text = spelled
        flag = by_name.get(name)
        if flag is None:
            if name in ("h", "help"):
                raise HelpWanted
            raise FlagError(f"flag provided but not defined: -{printable(name)}{_nearest(name, by_name)}")
        if text is None:
            if not flag.value:
                text = "true"
            elif rest:
                text = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: -{name}")
        try:
            values[flag.names[0]] = flag.parse(text)
        except UsageError as error:
            raise FlagError(
                f"invalid {'value' if flag.value else 'boolean value'} for -{name}: {error}"
            ) from None
        named.add(flag.names[0])
    if rest:
        hint = "; a boolean flag takes its value after '=', as in -x=false" if rest[0] in _BOOLEANS else ""
        raise FlagError(f"extra command line arguments: {' '.join(map(quoted, rest))}{hint}")
    return Given(values, frozenset(named))


def _next_flag(rest: list[str]) -> tuple[str, str | None] | None:
    """Take the next flag off the words: its name, and what stands after ``=``. None where the flags end."""
    word = rest[0]
    if len(word) < 2 or not word.startswith("-"):
        return None
    del rest[0]
    if word == "--":
        return None
    name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
    if not name or name.startswith("-"):
        raise FlagError(f"bad flag syntax: {printable(word)}")
    return name, text if equals else None


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib  # only for who errs

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean -{near[0]}?" if near else ""


def printable(text: str) -> str:
    """The text on one line, in ASCII."""
    return text.encode("unicode_escape").decode()


def quoted(text: str) -> str:
    """The same in double quotes."""
    return '"' + printable(text).replace('"', '\\"') + '"'


def usage(flags: Sequence[Flag]) -> str:
    """The flags with their meanings, in order of their names."""
    lines = []
    for flag in sorted(flags, key=lambda one: one.names[0]):
        spelled = ", ".join(f"-{name}" for name in flag.names)
        lines.append(f"  {spelled} {flag.value}".rstrip())
        default = f" (default {_shown(flag.default)})" if _shown(flag.default) else ""
        lines.append(f"        {flag.help}{default}")
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "true" if default else ""
    if isinstance(default, tuple):
        return ":".join(map(str, default))
    return f"{default:g}s" if isinstance(default, float) else str(default)
