# SPDX-License-Identifier: Apache-2.0
"""From a file to the typed Corefile: ``load_corefile`` and ``parse_corefile``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastdns.control.config import keys, parser
from fastdns.control.config.declare import Plugin
from fastdns.control.config.lexer import Token
from fastdns.control.config.messages import nearest, shown
from fastdns.control.config.model import Corefile, Key, ServerBlock, Settings
from fastdns.control.config.parser import Block, Directive
from fastdns.control.config.reader import Given, Reader
from fastdns.control.config.registry import ABSENT, PLUGINS
from fastdns.errors import CorefileError, UsageError

#: The key of the block for what node-cache has no words for. A zone of this name is written `fastdns.`.
SETTINGS: Final = "fastdns"

#: What a file without a block means, as in node-cache.
_DEFAULT: Final = ". {\n    whoami\n    log\n}\n"


def load_corefile(path: str | Path, *, default_port: int = 53) -> Corefile:
    """The Corefile at ``path``, with the environment of this process. Raises CorefileError."""
    try:
        text = parser.read_text(Path(path))
    except UsageError as error:
        raise CorefileError(str(error)) from None
    return parse_corefile(text, str(path), default_port=default_port)


def parse_corefile(
    text: str, path: str, environ: Mapping[str, str] | None = None, *, default_port: int = 53
) -> Corefile:
    """A Corefile's text, typed and checked.

    ``path`` is for messages, and where imports start from; ``default_port`` is of keys that name none. What
    the file names is read: imports, resolv.conf files, addresses of interfaces. Raises CorefileError with all
    problems that were found.
    """
    if "\0" in path:
        raise CorefileError(f"{path!r}: expected a file")
    parsed = parser.parse(text, path, os.environ if environ is None else environ)
    return _Builder(default_port).corefile(path, parsed)


class _Builder:
    """Makes typed blocks, and notes what is wrong."""

    def __init__(self, default_port: int) -> None:
        self.reader = Reader()
        self.default_port = default_port

    def corefile(self, path: str, parsed: parser.Parsed) -> Corefile:
        """The whole file. Raises CorefileError with all that is wrong."""
        settings: Settings | None = None
        found: list[ServerBlock] = []
        for block in parsed.blocks:
            if [key.text for key in block.keys] == [SETTINGS]:
                if settings is not None:
                    self.reader.label = ""
                    self.reader.problem(block.keys[0], f"found a second block {SETTINGS!r}, expected one")
                settings = self.settings(block)
            else:
                found.append(self.block(block))
        if not found:
            found = [self.block(block) for block in parser.parse(_DEFAULT, path, {}).blocks]
        problems = self.reader.problems
        if not problems:
            problems = keys.collisions(found)
        if problems:
            raise CorefileError(*problems)
        return Corefile(
            path=path,
            blocks=tuple(found),
            settings=settings or Settings(),
            files=parsed.files,
            digest=parsed.digest,
            warnings=(*parsed.warnings, *self.reader.warnings),
        )

    def settings(self, block: Block) -> Settings:
        """The ``fastdns`` block: its directives are the options."""
        self.reader.label = f"{SETTINGS}: "
        lines = []
        for directive in block.directives:
            if directive.braces:
                self.reader.problem(directive.braces[0], "found '{', expected the end of the line")
            lines.append((directive.name, *directive.words))
        values = self.reader.values(Settings, Directive(block.keys[0], (), tuple(lines)))
        return Settings(**values) if values is not None else Settings()

    def block(self, block: Block) -> ServerBlock:
        """A server block; where something is wrong, whatever could be made of it."""
        self.reader.label = ""
        read: list[Key] = []
        for token in block.keys:
            read += keys.read(token, self.default_port, self.reader)
        plugins: dict[str, Any] = {}
        for directive in block.directives:
            self.directive(directive, plugins)
        return ServerBlock(keys=tuple(read), where=block.where, **plugins)

    def directive(self, directive: Directive, plugins: dict[str, Any]) -> None:
        """Put a directive's plugin into ``plugins``."""
        name = directive.name
        self.reader.label = ""
        if name.text not in PLUGINS:
            self._unknown(name)
            return
        spec = PLUGINS[name.text]
        self.reader.label = f"plugin {name.text}: "
        plugin = self.plugin(directive)
        if spec.repeated:
            plugins.setdefault(name.text, ())
            if plugin is not None:
                found = (plugin,) if spec.split is None else spec.split(plugin)
                plugins[name.text] = (*plugins[name.text], *found)
        elif name.text not in plugins:
            plugins[name.text] = plugin
        elif name.text == "bind":
            plugins["bind"] = _both_binds(plugins["bind"], plugin)
        else:
            self.reader.problem(name, f"found a second {name.text!r}, expected one in a block")

    def plugin(self, directive: Directive) -> Plugin | None:
        """A directive's plugin; None where something is wrong."""
        spec = PLUGINS[directive.name.text]
        before = len(self.reader.problems)
        values: dict[str, Any] | None = {}
        if not spec.raw:
            other_line = spec.other_line
            values = self.reader.values(
                spec.cls,
                directive,
                None
                if other_line is None
                else lambda line, found: other_line(Given(found, directive, self.reader), line),
            )
        if values is not None and spec.finish is not None:
            spec.finish(Given(values, directive, self.reader))
        if values is None or len(self.reader.problems) > before:
            return None
        return spec.cls(where=directive.where, **values)

    def _unknown(self, name: Token) -> None:
        if name.text in ABSENT:
            what = f"found directive {name.text!r} of CoreDNS, which node-cache is built without"
            self.reader.problem(name, f"{what}, expected one of node-cache's")
            return
        hint = nearest(name.text, PLUGINS) or f": {', '.join(sorted(PLUGINS))}"
        self.reader.problem(name, f"found directive {shown(name.text)}, expected one that is known{hint}")


def _both_binds(first: Any, second: Any) -> Any:
    """Two lines of `bind` add up."""
    import dataclasses

    if first is None or second is None:
        return first or second
    return dataclasses.replace(
        first,
        words=first.words + second.words,
        except_words=first.except_words + second.except_words,
        addresses=first.addresses + second.addresses,
    )
