# SPDX-License-Identifier: Apache-2.0
"""Tokens of a Corefile: corefile.md section 1.1, to the letter."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.control.config.lexer import Token, replace_environment, tokens


def words(text: str) -> list[str]:
    return [token.text for token in tokens(text, "f")]


def places(text: str) -> list[tuple[str, int, bool]]:
    return [(token.text, token.line, token.first) for token in tokens(text, "f")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a b\tc\vd\fe\u00a0f\u2003g\u0085h", list("abcdefgh")),
        ("a\x1cb", ["a\x1cb"]),  # white space of Python's, not of Go's
        ("foo#bar baz\nqux", ["foo", "qux"]),
        ("# only a comment", []),
        ('"a b" c', ["a b", "c"]),
        ('"#no comment"', ["#no comment"]),
        ('a"b c"', ['a"b', 'c"']),  # a quote inside a word is an ordinary character
        ('"a"b', ["a", "b"]),
        (r'"a\"b\c\\"', [r'a"b\c\\']),
        (r"a\ b", ["a\\", "b"]),
        ('""', [""]),
        ('"', []),
        ('"open\nto the end', ["open\nto the end"]),
        ('"ends in \\', ["ends in "]),
        ('"a\rb"', ["a\rb"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("fo\ro", ["foo"]),
        ("\r", []),
        ("\ufeffa", ["a"]),
        ("a\ufeff", ["a\ufeff"]),
        (".:53{", [".:53{"]),
        ("{} { }", ["{}", "{", "}"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_lines_and_their_first_words() -> None:
    assert places('a b\n\n# c\nd "e\nf" g\nh') == [
        ("a", 1, True), ("b", 1, False), ("d", 4, True), ("e\nf", 4, False), ("g", 5, False), ("h", 6, True),
    ]  # fmt: skip


def test_quotes_do_not_protect_a_brace() -> None:
    opening, closing = tokens('"{" "}"', "f")
    assert opening.opens
    assert closing.closes
    assert not Token("{}", "f", 1, True).opens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{$A}", "1"),
        ("x{%B%}y{$A}z{$A}", "x2y1z1"),
        ("{$UNSET}", ""),
        ("{$}{$A}", "{$}{$A}"),  # an empty name ends it
        ("{$A", "{$A"),
        ("{A}", "{A}"),
        ("{$SELF}", "{$SELF}"),  # what comes from a variable is not looked at again
        ("{%WIN%}", "1"),  # but the two forms are replaced one after the other
    ],
)
def test_environment(text: str, expected: str) -> None:
    environ = {"A": "1", "B": "2", "SELF": "{$SELF}", "WIN": "{$A}"}
    assert replace_environment(text, environ) == expected


@given(st.text(alphabet=st.sampled_from('ab{}"\\#\n\r \t\ufeff\u2003$%'), max_size=80) | st.text(max_size=80))
def test_any_text_has_tokens(text: str) -> None:
    found = list(tokens(text, "f"))
    assert all(1 <= token.line <= text.count("\n") + 1 for token in found)
    assert [token.line for token in found] == sorted(token.line for token in found)
    assert not found or found[0].first
    for token in found:
        assert token.quoted or (token.text and "#" not in token.text and "\n" not in token.text)


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=4), max_size=5))
def test_round_trip(lines: list[list[str]]) -> None:
    """Quoted words come back as they were, on their lines."""
    quoted = [[f'"{word}"' for word in line] for line in clean(lines)]
    found = list(tokens("\n".join(" ".join(line) for line in quoted), "f"))
    again: list[list[str]] = []
    for token in found:
        if token.first:
            again.append([])
        again[-1].append(token.text)
    assert again == clean(lines)


def clean(lines: list[list[str]]) -> list[list[str]]:
    """Without what quotes can't hold: an end of line, a quote, a backslash before one."""
    table = str.maketrans("", "", '"\\\n\r')
    return [[word.translate(table) for word in line] for line in lines]


@pytest.mark.parametrize("piece", ['"', "\\", '"\\', "{$", "{%", "#", "\r", "{", "a ", '\\"', "{$A}", " \n"])
def test_long_files_take_linear_time(piece: str) -> None:
    start = time.process_time()
    for token in tokens('"a' + piece * (400_000 // len(piece)), "f"):
        replace_environment(token.text, {"A": "b"})
    assert time.process_time() - start < 5
