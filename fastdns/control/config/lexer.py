# SPDX-License-Identifier: Apache-2.0
"""A Corefile's tokens, each with its place: words, quoted words, braces. All of it is linear in the text.

Any text has tokens; what is wrong with them is the parser's to say.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

# Go's unicode.IsSpace; Python's \s has four control characters more.
_SPACE: Final = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

# A quote counts only at a word's start and has no end where the file has none. Only \" is an escape in it.
# A # ends a word wherever it stands; \r is dropped outside quotes.
_NEXT: Final = re.compile(
    rf'[{_SPACE}]*+(?:#[^\n]*+|"(?P<quoted>(?:[^"\\]|\\[\s\S])*+\\?+)"?|(?P<word>(?:[^{_SPACE}#]|\r)++)|\Z)'
)

_BYTE_ORDER_MARK: Final = "\ufeff"


class Token(NamedTuple):
    """A word of the file."""

    text: str
    path: str
    line: int  #: of its first character
    first: bool  #: on its line
    quoted: bool = False

    @property
    def opens(self) -> bool:
        """True for ``{``; quotes don't make it another (as in node-cache)."""
        return self.text == "{"

    @property
    def closes(self) -> bool:
        """True for ``}``."""
        return self.text == "}"


def tokens(text: str, path: str) -> Iterator[Token]:
    """The tokens of a file, environment not replaced."""
    position = 1 if text.startswith(_BYTE_ORDER_MARK) else 0
    line, line_of_last = 1, 0
    while position < len(text):
        match = _NEXT.match(text, position)
        assert match is not None  # every text has a next token, a comment or an end
        start = match.start(match.lastgroup) if match.lastgroup else match.end()
        line += text.count("\n", position, start)
        if match.lastgroup == "word":
            word = match["word"].replace("\r", "")
            # A lone \r before a space is no word.
            if word:
                yield Token(word, path, line, line != line_of_last)
                line_of_last = line
        elif match.lastgroup == "quoted":
            word = match["quoted"]
            if word or match.end() > match.end("quoted"):  # "" is a word, a lone " at the end is not
                yield Token(_unescape(word), path, line, line != line_of_last, quoted=True)
            line += word.count("\n")
            line_of_last = line
        position = match.end()


def _unescape(quoted: str) -> str:
    # A backslash that the file ends with escapes nothing, and is no character.
    return re.sub(
        r"\\([\s\S]?)", lambda found: found[0] if found[1] != '"' and found[1] else found[1], quoted
    )


def replace_environment(text: str, environ: Mapping[str, str]) -> str:
    """``text`` with ``{%NAME%}`` and ``{$NAME}`` replaced; a variable that isn't set is empty.

    What comes from a variable is not looked at again. An empty name ends the replacing of its form.
    """
    for start, end in (("{%", "%}"), ("{$", "}")):
        text = _replace(text, start, end, environ)
    return text


def _replace(text: str, start: str, end: str, environ: Mapping[str, str]) -> str:
    done, position = [], 0
    while (found := text.find(start, position)) >= 0:
        stop = text.find(end, found + len(start))
        if stop <= found + len(start):  # no end, or no name
            break
        done += [text[position:found], environ.get(text[found + len(start) : stop], "")]
        position = stop + len(end)
    return "".join([*done, text[position:]])
