# SPDX-License-Identifier: Apache-2.0
"""Pieces of messages about a file."""

from collections.abc import Iterable
from typing import NoReturn

from fastdns.control.config.declare import Position
from fastdns.control.config.lexer import Token
from fastdns.errors import CorefileError


def position_of(token: Token) -> Position:
    """Where a token stands."""
    return Position(token.path, token.line)


def shown(text: str) -> str:
    """A word for a message: quoted, on one line, of bearable length."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'cache'?)`` or nothing."""
    import difflib  # only a wrong file needs it

    choice = list(known)
    if len(word) > 80 or word in choice:
        return ""
    found = difflib.get_close_matches(word, choice, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def fail(token: Token, text: str) -> NoReturn:
    """Raise CorefileError at a token."""
    raise CorefileError(f"{position_of(token)}: {text}")
