# SPDX-License-Identifier: Apache-2.0
"""A Corefile's grammar: server blocks with their keys and directives, snippets, imports, the environment.

What a directive's words mean is not looked at here.
"""

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, NoReturn

from fastdns.control.config.declare import Position
from fastdns.control.config.lexer import Token, replace_environment, tokens
from fastdns.control.config.messages import fail, nearest, position_of, shown
from fastdns.errors import CorefileError, UsageError

SNIPPETS_MAX: Final = 10_000  #: expansions, as node-cache
FILES_MAX: Final = 100_000  #: files imported, as node-cache
TOKENS_MAX: Final = 1_000_000  #: snippets of snippets must not fill the memory
FILE_MAX: Final = 16 * 2**20  #: octets of a file; a ConfigMap has 1 MiB at most


@dataclass(frozen=True, slots=True)
class Directive:
    """A directive: its name, what follows on its line, and the lines of its block."""

    name: Token
    words: tuple[Token, ...]
    body: tuple[tuple[Token, ...], ...] = ()  #: no line is empty
    braces: tuple[Token, ...] = ()  #: of the block, where there is one
    written: str = ""  #: the name as it stands in the file, environment not replaced

    def all_tokens(self) -> Iterator[Token]:
        """Everything from the name, as it is written, to the closing brace."""
        yield from (self.name._replace(text=self.written), *self.words, *self.braces[:1])
        for line in self.body:
            yield from line
        yield from self.braces[1:]

    @property
    def where(self) -> Position:
        return position_of(self.name)


@dataclass(frozen=True, slots=True)
class Block:
    """A server block; commas are gone from its keys."""

    keys: tuple[Token, ...]
    directives: tuple[Directive, ...]

    @property
    def where(self) -> Position:
        return position_of(self.keys[0])


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole file."""

    blocks: tuple[Block, ...]
    files: tuple[Path, ...]  #: imported, each once
    digest: str
    warnings: tuple[str, ...]


def read_text(path: Path) -> str:
    """A file's text. Raises UsageError; octets that aren't UTF-8 are replaced, as in Go."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > FILE_MAX:
        raise UsageError(f"{path}: more than {FILE_MAX // 2**20} MiB, expected a Corefile")
    return data.decode(errors="replace")


def parse(text: str, path: str, environ: Mapping[str, str]) -> Parsed:
    """The blocks of a file and of what it imports. Raises CorefileError."""
    parser = _Parser(path, environ)
    parser.stream.put(tokens(text, path), ())
    blocks = tuple(parser.blocks())
    return Parsed(blocks, tuple(parser.files), parser.digest.hexdigest(), tuple(parser.warnings))


Chain = tuple[str, ...]  #: what is being imported, outermost first


class _Stream:
    """Tokens still to come; what is imported is put in front."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Token, Chain]] = deque()
        self._count = 0
        self.last: Token | None = None

    def put(self, new: Iterable[Token], chain: Chain, at: Token | None = None) -> None:
        """Take ``new`` in front; ``at`` is where it is imported."""
        added = [(token, chain) for token in islice(new, TOKENS_MAX + 1 - self._count)]
        self._count += len(added)
        if self._count > TOKENS_MAX:
            fail(at or added[-1][0], f"more than {TOKENS_MAX} words with all imports")
        if added and at is not None:
            added[0] = (added[0][0]._replace(first=True), chain)
        self._queue.extendleft(reversed(added))

    def peek(self) -> Token | None:
        return self._queue[0][0] if self._queue else None

    @property
    def chain(self) -> Chain:
        return self._queue[0][1]

    def take(self) -> Token:
        self.last, _ = self._queue.popleft()
        return self.last


@dataclass
class _Parser:
    path: str
    environ: Mapping[str, str]
    stream: _Stream = field(default_factory=_Stream)
    snippets: dict[str, list[Token]] = field(default_factory=dict)
    files: dict[Path, None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    snippet_count: int = 0
    file_count: int = 0

    def __post_init__(self) -> None:
        self.digest = Digest(self.path)

    # ---- blocks ----

    def blocks(self) -> Iterable[Block]:
        while (token := self.stream.peek()) is not None:
            if token.first and token.text == "import":
                self._import()
                continue
            if token.closes:
                fail(token, "found '}' that closes nothing, expected a server block")
            keys = self._keys()
            if len(keys) == 1 and keys[0].text.startswith("(") and keys[0].text.endswith(")"):
                self._snippet(keys[0])
            else:
                block = Block(tuple(keys), tuple(self._directives(keys)))
                self.digest.add(block)
                yield block

    def _keys(self) -> list[Token]:
        """The keys of a block, up to its brace or the end of their line."""
        keys: list[Token] = []
        start, comma, taken = self.stream.peek(), False, False
        while (token := self.stream.peek()) is not None:
            if token.first and token.text == "import" and (not taken or comma):
                self._import()
                continue
            if token.opens:
                if comma:
                    fail(token, "found '{' after a comma, expected another key")
                break
            if token.first and taken and not comma:
                break
            taken = True
            if token.text.endswith("{") and not token.quoted:
                fail(token, f"found {shown(token.text)}, expected a blank before '{{'")
            word = self._replaced(self.stream.take())
            if word.text == ",":
                fail(token, "found ',', expected it at the end of a key")
            if word.text:
                comma = word.text.endswith(",")
                keys.append(word._replace(text=word.text.removesuffix(",")))
        if comma and self.stream.peek() is None:
            self._fail_at_end("another key after the comma")
        if not keys:
            assert start is not None  # it was looked at by the caller
            fail(start, f"found {shown(start.text)}, expected a zone before the block")
        return keys

    def _directives(self, keys: list[Token]) -> Iterable[Directive]:
        opening = self.stream.peek()
        braces = opening is not None and opening.opens
        if braces:
            self.stream.take()
        while (token := self.stream.peek()) is not None:
            if token.closes:
                if not braces:
                    fail(token, "found '}' that closes nothing, expected a directive")
                self.stream.take()
                return
            if token.opens:
                fail(token, "found '{', expected a directive")
            if token.text == "import":
                self._import()
                continue
            yield self._directive()
        if braces:
            self._fail_at_end(f"'}}' to close the block of {shown(keys[0].text)} (line {keys[0].line})")

    def _directive(self) -> Directive:
        written = self.stream.take()
        name = self._replaced(written)
        words: list[Token] = []
        while (token := self.stream.peek()) is not None and not token.opens:
            if token.first:
                break
            if token.closes:
                fail(token, f"found '}}' on the line of {shown(name.text)}, expected it on a line of its own")
            words.append(self._replaced(self.stream.take()))
        if token is None or not token.opens:
            return Directive(name, tuple(words), written=written.text)
        opening = self.stream.take()
        body, closing = self._body(name, opening)
        return Directive(name, tuple(words), body, (opening, closing), written.text)

    def _body(self, name: Token, opening: Token) -> tuple[tuple[tuple[Token, ...], ...], Token]:
        lines: list[list[Token]] = []
        last = opening
        while (token := self.stream.peek()) is not None:
            starts = token.first or last is opening
            if token.first and token.text == "import":
                self._import()
                continue
            if token.opens:
                fail(token, f"found '{{' in the block of {shown(name.text)}, expected an option")
            if token.closes:
                if not starts:
                    fail(token, f"found '}}' after {shown(last.text)}, expected it on a line of its own")
                self.stream.take()
                self._end_of_line(after=token)
                return tuple(tuple(line) for line in lines), token
            last = self._replaced(self.stream.take())
            if starts:
                lines.append([last])
            else:
                lines[-1].append(last)
        return self._fail_at_end(f"'}}' to close the block of {shown(name.text)} (line {name.line})")

    def _end_of_line(self, after: Token) -> None:
        token = self.stream.peek()
        if token is not None and not token.first:
            fail(token, f"found {shown(token.text)} after {shown(after.text)}, expected the end of the line")

    def _replaced(self, token: Token) -> Token:
        if "{" not in token.text:
            return token
        return token._replace(text=replace_environment(token.text, self.environ))

    def _fail_at_end(self, expected: str) -> NoReturn:
        last = self.stream.last
        where = position_of(last) if last is not None else Position(self.path, 1)
        raise CorefileError(f"{where}: found the end of the file, expected {expected}")

    # ---- snippets and imports ----

    def _snippet(self, name: Token) -> None:
        if name.text[1:-1] in self.snippets:
            fail(name, f"found a second snippet {shown(name.text)}, expected another name")
        opening = self.stream.peek()
        if opening is None or not opening.opens:
            fail(name, f"found no '{{' after {shown(name.text)}, expected the snippet in braces")
        self.stream.take()
        inside: list[Token] = []
        depth = 1
        while (token := self.stream.peek()) is not None:
            depth += token.opens - token.closes
            self.stream.take()
            if depth == 0:
                self.snippets[name.text[1:-1]] = inside
                return
            before = inside[-1] if inside else None
            if (
                before is not None
                and before.first
                and before.text == "import"
                and token.text == name.text[1:-1]
            ):
                fail(token, f"the snippet {shown(name.text)} imports itself")
            inside.append(token)
        self._fail_at_end(f"'}}' to close the snippet {shown(name.text)} (line {name.line})")

    def _import(self) -> None:
        """Replace ``import X`` by the tokens it stands for."""
        chain = self.stream.chain
        self.stream.take()
        word = self.stream.peek()
        if word is None or word.first or word.opens or word.closes:
            last = self.stream.last
            assert last is not None  # the word `import`
            fail(last, "found 'import' alone, expected a snippet's name or a file after it")
        what = self._replaced(self.stream.take())
        after = self.stream.peek()
        if after is not None and not after.first:
            fail(after, f"found {shown(after.text)}, expected one snippet or file on the line of 'import'")
        if not what.text:
            fail(what, "found '', expected a snippet's name or a file")
        if what.text in self.snippets:
            self._import_snippet(what, chain)
        else:
            self._import_files(what, chain)

    def _import_snippet(self, name: Token, chain: Chain) -> None:
        self.snippet_count += 1
        link = f"({name.text})"
        if link in chain:
            fail(name, f"the snippet {shown(link)} imports itself")
        if self.snippet_count > SNIPPETS_MAX:
            fail(name, f"more than {SNIPPETS_MAX} imports of snippets")
        self.stream.put(self.snippets[name.text], (*chain, link), at=name)

    def _import_files(self, pattern: Token, chain: Chain) -> None:
        import glob

        if "\0" in pattern.text:
            fail(pattern, f"found {shown(pattern.text)}, expected a file's name")
        if pattern.text.count("*") > 1 or pattern.text.count("?") > 1 or "[" in pattern.text:
            fail(pattern, f"found {shown(pattern.text)}, expected at most one * and one ? in a pattern")
        folder = glob.escape(os.path.dirname(os.path.abspath(pattern.path)))  # noqa: PTH100, PTH120
        full = os.path.normpath(os.path.join(folder, pattern.text))  # noqa: PTH118  # a pattern, not a path
        found = [Path(name) for name in sorted(glob.glob(full, include_hidden=True))]  # noqa: PTH207
        if not found and "*" not in pattern.text and "?" not in pattern.text:
            what = f"found no file and no snippet {shown(pattern.text)}, expected one to import"
            fail(pattern, f"{what}{nearest(pattern.text, self.snippets)}")
        if not found:
            self.warnings.append(f"{position_of(pattern)}: no file matches {shown(pattern.text)}")
        imported: list[Token] = []
        for path in found:
            imported += self._file(pattern, path, chain)
        # One chain for all of them: what they import may be none of them.
        self.stream.put(imported, (*chain, *(os.path.realpath(path) for path in found)), at=pattern)

    def _file(self, at: Token, path: Path, chain: Chain) -> list[Token]:
        self.file_count += 1
        if self.file_count > FILES_MAX:
            fail(at, f"more than {FILES_MAX} imports of files")
        if os.path.realpath(path) in (*chain, os.path.realpath(self.path)):
            fail(at, f"the file {path} imports itself")
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                fail(at, f"found {path}, which is no regular file, expected a Corefile")
            text = read_text(path)
        except OSError as error:
            fail(at, f"{path}: {error.strerror}")
        except CorefileError:
            raise
        except UsageError as error:
            fail(at, str(error))
        self.files[path] = None
        inside = list(islice(tokens(text, str(path)), TOKENS_MAX + 1))
        return [inside[0]._replace(first=True), *inside[1:]] if inside else []


class Digest:
    """SHA-512 over the parsed file, the same as node-cache's `reload` logs and exports.

    It is of Go's JSON of the blocks: their keys, and the tokens of each directive with file and line.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._blocks: list[dict[str, object]] = []

    def add(self, block: Block) -> None:
        """Take a block into it."""
        found: dict[str, list[dict[str, object]]] = {}
        for directive in block.directives:
            row = found.setdefault(directive.name.text, [])
            row += [self._json(token) for token in directive.all_tokens()]
        self._blocks.append({"Keys": [key.text for key in block.keys], "Tokens": dict(sorted(found.items()))})

    def _json(self, token: Token) -> dict[str, object]:
        # Go's tokens carry a file only where they were imported.
        return {
            "File": "" if token.path == self._path else token.path,
            "Line": token.line,
            "Text": token.text,
        }

    def hexdigest(self) -> str:
        """The digest of all blocks so far."""
        import hashlib  # brings OpenSSL along; not every reader of a Corefile asks for the digest
        import json

        text = json.dumps(self._blocks or None, ensure_ascii=False, separators=(",", ":"))
        for character in "<>&\u2028\u2029":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return hashlib.sha512(text.encode(errors="replace")).hexdigest()
