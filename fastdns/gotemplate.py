# SPDX-License-Identifier: Apache-2.0
"""Go's text templates, as far as Corefiles use them: text, fields, calls, pipelines, if/else.

    {{ .Name }}  {{ .Group.host }}  {{ index .Match 1 }}  {{ parseInt .Group.n 16 64 }}
    {{ if eq .Type "A" }}...{{ else }}...{{ end }}  {{ .Name | printf "%s!" }}  {{- trimmed -}}

Other constructs (range, with, variables, definitions, methods) are errors of the parser, so that
`fastdns check` finds them. A value is a str, an int, a float, a bool, None, a list or a dict.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fastdns.errors import FastDNSError

DEPTH_MAX: Final = 32  #: of parentheses, and of `if` in `if`
OUTPUT_MAX: Final = 65535  #: characters of one result


class TemplateError(FastDNSError):
    """A template that can't be parsed, or that fails on a value."""


@dataclass(frozen=True, slots=True)
class _Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class _Field:
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Call:
    function: str
    arguments: "tuple[_Expression, ...]"


_Expression = _Literal | _Field | _Call


@dataclass(frozen=True, slots=True)
class _If:
    condition: _Expression
    then: "tuple[_Node, ...]"
    other: "tuple[_Node, ...]"


_Node = str | _Expression | _If


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. ``fields`` are the paths that it reads."""

    text: str
    nodes: tuple[_Node, ...]
    fields: frozenset[tuple[str, ...]] = field(default=frozenset(), compare=False)

    def render(self, data: Mapping[str, Any]) -> str:
        """The text for these values. Raises TemplateError."""
        parts: list[str] = []
        _render(self.nodes, data, parts)
        text = "".join(parts)
        if len(text) > OUTPUT_MAX:
            raise TemplateError(f"the result has {len(text)} characters: expected {OUTPUT_MAX} at most")
        return text

    def reads(self, name: str) -> bool:
        """Whether the result depends on a field of the data."""
        return any(not path or path[0] == name for path in self.fields)


# ------------------------------------------------------------------------------ parsing ----

_ACTION = re.compile(r"\{\{(- (?=\s*\S)|-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?))(?![\w.])
      | (?P<field>(?:\.[A-Za-z0-9_]+)+|\.)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<mark>[()|])
    )""",
    re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_CONSTANTS: Final = {"true": True, "false": False, "nil": None}
_REFUSED: Final = (
    "range", "with", "define", "template", "block", "break", "continue", "html", "js", "urlquery", "call",
)  # fmt: skip


def parse_template(text: str) -> Template:
    """Raises TemplateError with what was found and expected."""
    parser = _Parser(text)
    nodes, end = parser.nodes_until(0)
    if end:
        raise TemplateError(f"{{{{ {end} }}}} without an {{{{ if }}}}")
    return Template(text, nodes, frozenset(parser.fields))


class _Parser:
    def __init__(self, text: str) -> None:
        self.fields: set[tuple[str, ...]] = set()
        self._parts = _split(text)
        self._at = 0

    def nodes_until(self, depth: int) -> tuple[tuple[_Node, ...], str]:
        """Nodes up to the end of the text, or to ``else``, ``else if ...`` or ``end``, which is returned."""
        if depth > DEPTH_MAX:
            raise TemplateError(f"more than {DEPTH_MAX} {{{{ if }}}} in one another")
        nodes: list[_Node] = []
        while self._at < len(self._parts):
            kind, content = self._parts[self._at]
            self._at += 1
            if kind == "text":
                nodes.append(content)
                continue
            word = content.split(None, 1)[0] if content.strip() else ""
            if word in ("end", "else"):
                return tuple(nodes), content.strip()
            if word == "if":
                nodes.append(self._if(content.split(None, 1)[1:], depth))
            else:
                nodes.append(self._expression(content))
        return tuple(nodes), ""

    def _if(self, condition: list[str], depth: int) -> _If:
        if not condition:
            raise TemplateError("{{ if }} without a condition")
        test = self._expression(condition[0])
        then, end = self.nodes_until(depth + 1)
        other: tuple[_Node, ...] = ()
        if end.startswith("else"):
            rest = end[len("else") :].split(None, 1)
            if rest:
                if rest[0] != "if":
                    raise TemplateError(f"{{{{ {end} }}}}: expected else, or else if")
                return _If(test, then, (self._if(rest[1:], depth + 1),))
            other, end = self.nodes_until(depth + 1)
        if end != "end":
            raise TemplateError("{{ if }} without its {{ end }}")
        return _If(test, then, other)

    def _expression(self, text: str) -> _Expression:
        tokens = _tokens(text)
        expression, rest = self._pipeline(tokens, text, 0)
        if rest:
            raise TemplateError(f"{{{{ {text.strip()} }}}}: {rest[0][1]!r} is not expected there")
        return expression

    def _pipeline(
        self, tokens: list[tuple[str, str]], text: str, depth: int
    ) -> tuple[_Expression, list[Any]]:
        expression, tokens = self._command(tokens, text, depth, None)
        while tokens and tokens[0] == ("mark", "|"):
            expression, tokens = self._command(tokens[1:], text, depth, expression)
        return expression, tokens

    def _command(
        self, tokens: list[tuple[str, str]], text: str, depth: int, piped: _Expression | None
    ) -> tuple[_Expression, list[tuple[str, str]]]:
        if not tokens or tokens[0][1] in (")", "|"):
            raise TemplateError(f"{{{{ {text.strip()} }}}}: expected a value")
        kind, word = tokens[0]
        if kind == "word" and word not in _CONSTANTS:
            if word not in _FUNCTIONS:
                raise TemplateError(
                    f"{{{{ {text.strip()} }}}}: {word} is not supported; expected a field, if, else, end or"
                    f" one of {', '.join(_FUNCTIONS)}"
                )
            arguments, rest = self._operands(tokens[1:], text, depth)
            if piped is not None:
                arguments.append(piped)
            return _Call(word, tuple(arguments)), rest
        operands, rest = self._operands(tokens, text, depth)
        if len(operands) != 1 or piped is not None:
            raise TemplateError(f"{{{{ {text.strip()} }}}}: {word!r} is no function")
        return operands[0], rest

    def _operands(
        self, tokens: list[tuple[str, str]], text: str, depth: int
    ) -> tuple[list[_Expression], list[tuple[str, str]]]:
        if depth > DEPTH_MAX:
            raise TemplateError(f"more than {DEPTH_MAX} parentheses in one another")
        operands: list[_Expression] = []
        while tokens and tokens[0][1] not in (")", "|"):
            kind, word = tokens[0]
            if (kind, word) == ("mark", "("):
                inner, tokens = self._pipeline(tokens[1:], text, depth + 1)
                if not tokens or tokens[0] != ("mark", ")"):
                    raise TemplateError(f"{{{{ {text.strip()} }}}}: a parenthesis is not closed")
                operands.append(inner)
            elif kind == "field":
                path = tuple(part for part in word.split(".") if part)
                self.fields.add(path)
                operands.append(_Field(path))
            else:
                operands.append(_Literal(_constant(kind, word, text)))
            tokens = tokens[1:]
        return operands, tokens


def _split(text: str) -> list[tuple[str, str]]:
    """Text and actions in order; white space beside ``{{-`` and ``-}}`` is gone."""
    parts: list[tuple[str, str]] = []
    at = 0
    trim = False
    for action in _ACTION.finditer(text):
        before = text[at : action.start()]
        before = before.lstrip() if trim else before
        parts.append(("text", before.rstrip() if action[1] else before))
        content = action[2].strip()
        if not (content.startswith("/*") and content.endswith("*/")):
            if not content:
                raise TemplateError("{{ }}: expected a value")
            parts.append(("action", content))
        trim = bool(action[3])
        at = action.end()
    rest = text[at:].lstrip() if trim else text[at:]
    if "{{" in rest:
        raise TemplateError(f"{rest[rest.index('{{') :][:20]!r}: the action is not closed by }}}}")
    parts.append(("text", rest))
    return [part for part in parts if part != ("text", "")]


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match or match.end() == at:
            raise TemplateError(f"{{{{ {text.strip()} }}}}: {text[at:].strip()[:20]!r} is not supported")
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind]))
        at = match.end()
    return tokens


def _constant(kind: str, word: str, text: str) -> Any:
    if kind == "string":
        if word.startswith("`"):
            return word[1:-1]
        return re.sub(r"\\(.)", lambda found: _escape(found[1], text), word[1:-1])
    if kind == "number":
        return float(word) if "." in word else int(word, 0 if "x" in word.lower() else 10)
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    raise TemplateError(f"{{{{ {text.strip()} }}}}: {word!r} is not expected there")


def _escape(character: str, text: str) -> str:
    if character not in _ESCAPES:
        raise TemplateError(f"{{{{ {text.strip()} }}}}: unknown escape \\{character}")
    return _ESCAPES[character]


# --------------------------------------------------------------------------- rendering ----


def _render(nodes: tuple[_Node, ...], data: Mapping[str, Any], parts: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, _If):
            _render(node.then if _value(node.condition, data) else node.other, data, parts)
        else:
            parts.append(_text(_value(node, data)))


def _value(expression: _Expression, data: Mapping[str, Any]) -> Any:
    if isinstance(expression, _Literal):
        return expression.value
    if isinstance(expression, _Call):
        arguments = [_value(one, data) for one in expression.arguments]
        try:
            return _FUNCTIONS[expression.function](*arguments)
        except TemplateError:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise TemplateError(f"{expression.function}: {error}") from None
    value: Any = data
    for number, name in enumerate(expression.path):
        if not isinstance(value, Mapping):
            raise TemplateError(f".{'.'.join(expression.path[:number])} has no field {name}")
        # A map shows what it has not as "<no value>"; a structure knows its fields.
        if name not in value and number == 0:
            raise TemplateError(f".{name} is not known; there are {', '.join('.' + one for one in data)}")
        value = value.get(name)
    return value


def _text(value: Any) -> str:
    """As Go's print shows it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(_text, value)) + "]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(str(key), "")
        elif isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < len(value):
            raise TemplateError(f"index: {key!r} of {len(value)}")
        else:
            value = value[key]
    return value


def _parse_int(text: str, base: int, bits: int) -> int:
    """strconv.ParseInt: base 0 goes by the prefix, bits 0 means 64."""
    if not isinstance(text, str) or not re.fullmatch(r"[-+]?[0-9A-Za-z]+", text):
        raise TemplateError(f"parseInt: {text!r} is no number")
    number = int(text, base)
    bound = 1 << ((bits or 64) - 1)
    if not -bound <= number < bound:
        raise TemplateError(f"parseInt: {text} does not fit {bits} bits")
    return number


_VERB = re.compile(r"%(?:%|[-+ 0#]*\d{0,3}(?:\.\d{1,3})?[vsdxXoqbct])")


def _printf(pattern: str, *values: Any) -> str:
    if len(re.sub(_VERB, "", pattern).replace("%%", "")) and "%" in re.sub(_VERB, "", pattern):
        raise TemplateError(f"printf: {pattern!r} has a verb that is not supported")
    left = list(values)

    def one(found: re.Match[str]) -> str:
        verb = found[0]
        if verb == "%%":
            return "%"
        if not left:
            raise TemplateError(f"printf: {pattern!r} wants more values")
        value = left.pop(0)
        flags, kind = verb[1:-1], verb[-1]
        if kind in "vst":
            return f"%{flags}s" % _text(value)
        if kind == "q":
            return '"' + _text(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
        if kind in "xX" and isinstance(value, str):
            return value.encode().hex() if kind == "x" else value.encode().hex().upper()
        if isinstance(value, bool) or not isinstance(value, int):
            raise TemplateError(f"printf: {verb} of {value!r}")
        if kind == "b":
            return f"{value:b}"
        if kind == "c":
            return chr(value)
        return f"%{flags}{kind}" % value

    text = _VERB.sub(one, pattern)
    if left:
        raise TemplateError(f"printf: {pattern!r} leaves {len(left)} values over")
    return text


def _same_kind(first: Any, second: Any) -> None:
    if type(first) is not type(second):
        raise TemplateError(f"{first!r} and {second!r} can't be compared")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("eq: expected two values or more")
    for other in others:
        _same_kind(first, other)
    return first in others


def _order(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def function(first: Any, second: Any) -> bool:
        _same_kind(first, second)
        return compare(first, second)

    return function


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "index": _index,
    "parseInt": _parse_int,
    "printf": _printf,
    "print": lambda *values: "".join(map(_text, values)),
    "println": lambda *values: " ".join(map(_text, values)) + "\n",
    "len": len,
    "eq": _eq,
    "ne": lambda first, second: not _eq(first, second),
    "lt": _order(lambda first, second: bool(first < second)),
    "le": _order(lambda first, second: bool(first <= second)),
    "gt": _order(lambda first, second: bool(first > second)),
    "ge": _order(lambda first, second: bool(first >= second)),
    "and": _and,
    "or": _or,
    "not": lambda value: not value,
}
