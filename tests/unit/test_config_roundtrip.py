# SPDX-License-Identifier: Apache-2.0
"""Directives made from the declarations of their options: read, written again, read again; hostile ones."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns.control.addresses import Endpoint
from fastdns.control.config import kinds as k
from fastdns.control.config import model
from fastdns.control.config.declare import Arg, Kind, Option, Rest, Several, declarations, show
from fastdns.control.config.load import parse_corefile
from fastdns.control.config.numbers import QTYPES, RCODES
from fastdns.control.config.registry import PLUGINS
from fastdns.errors import CorefileError
from tests.counts import count

NAMES = st.sampled_from(["a.b.", ".", "xn--a.", "_tcp.x.", "1.0.10.in-addr.arpa."])

#: Values that a kind's words stand for; ``show`` makes words of them.
VALUES: dict[type[Any], st.SearchStrategy[Any]] = {
    k.Fraction: st.sampled_from([0.0, 0.25, 1.0]),
    k.Bool: st.booleans(),
    k.Text: st.sampled_from(["x", "a-b", "z%", "/"]),
    k.Name: NAMES,
    k.Zones: NAMES,
    k.Size: st.integers(8, 4096).map(lambda n: n * 2**20),
    k.QType: st.sampled_from(sorted(set(QTYPES.values()))),
    k.QClass: st.sampled_from([1, 2, 3, 4, 254, 255]),
    k.Network: st.sampled_from(["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"]),
    k.Prefix64: st.sampled_from(["64:ff9b::/96", "2001:db8::/32"]),
    k.Address: st.sampled_from(["10.0.0.1", "2001:db8::1"]),
    k.HttpAddress: st.sampled_from([("", 1), ("127.0.0.1", 65535), ("::1", 80), ("localhost", 8080)]),
    k.File: st.sampled_from([Path("/a"), Path("b/c")]),
    k.EndpointKind: st.sampled_from([Endpoint("10.0.0.1", 53), Endpoint("::1", 54)]),
    k.Regex: st.sampled_from(["^a.b$", "(x|y)*", "[^.]+"]),
    k.Template: st.sampled_from(["{{.Name}}", "x"]),
}


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """What a word of a kind may stand for."""
    if isinstance(kind, k.Int):
        return st.integers(max(kind.low, 1), kind.high)
    if isinstance(kind, k.Choice):
        return st.sampled_from(kind.words)
    if isinstance(kind, k.Percent):
        return st.integers(kind.low, kind.high)
    if isinstance(kind, k.Rcode):
        return st.sampled_from([code for code in sorted(set(RCODES.values())) if code not in kind.but])
    if isinstance(kind, k.Duration):
        low, high = kind.low, kind.high
        return st.sampled_from([s for s in (1.0, 30.0, 90.0, 61.0, 300.0, 5400.0) if low <= s <= high])
    return VALUES[type(kind)]


@st.composite
def words_of(draw: st.DrawFn, cls: type[Any]) -> str:
    """The arguments of a plugin or an option: the first so many of them."""
    words: list[str] = []
    for row in declarations(cls):
        if isinstance(row.how, Option) or row.field == "words":
            break
        if not row.required and draw(st.booleans()):
            break
        if isinstance(row.how, Arg):
            words.append(row.how.kind.show(draw(values(row.how.kind))))
        else:
            count = max(row.how.least, 1)
            many = draw(st.lists(values(row.how.kind), min_size=count, max_size=2))
            words += [row.how.kind.show(one) for one in many]
    return " ".join(words)


@st.composite
def line_of(draw: st.DrawFn, option: Option) -> str:
    """An option's line."""
    kind = option.kind
    if kind is None:
        return option.name
    if isinstance(kind, type):
        return f"{option.name} {draw(words_of(kind))}"
    if isinstance(kind, Several):
        many = draw(st.lists(values(kind.kind), min_size=kind.least, max_size=3))
        return f"{option.name} {show(kind, tuple(many))}"
    return f"{option.name} {kind.show(draw(values(kind)))}"


@st.composite
def directives(draw: st.DrawFn, name: str) -> str:
    """A directive of a plugin, with some of its options."""
    cls = PLUGINS[name].cls
    options = [row.how for row in declarations(cls) if isinstance(row.how, Option)]
    chosen = draw(st.lists(st.sampled_from(options), max_size=5, unique=True)) if options else []
    lines = [draw(line_of(option)) for option in chosen]
    head = f"{name} {draw(words_of(cls))}"
    return head + (" {\n" + "\n".join(lines) + "\n}" if lines else "")


def written(plugin: Any, name: str) -> str:
    """A plugin as a directive again: every word and option that isn't the default."""
    head, body = [name], []
    for row in declarations(type(plugin)):
        value, how = getattr(plugin, row.field), row.how
        if value is None or (not row.required and value == row.default):
            continue
        if isinstance(how, Option):
            body += [f"{how.name} {text}" for text in option_texts(how, value)]
        else:
            head.append(show(Several(how.kind) if isinstance(how, Rest) else how.kind, value))
    return " ".join(head) + (" {\n" + "\n".join(body) + "\n}" if body else "")


def option_texts(option: Option, value: Any) -> Iterator[str]:
    if option.repeated and not isinstance(option.kind, Several):
        for one in value:
            yield show(option.kind, one)
    else:
        yield show(option.kind, value)


def read(directive: str, name: str) -> Any:
    found = getattr(parse_corefile(f". {{\n{directive}\n}}\n", "f", {}).blocks[0], name)
    plugin = found[0] if isinstance(found, tuple) else found
    return replace(plugin, where=model.Position("f", 2))


#: Their words can't be told from a declaration, or the plugin refuses some of them together.
OTHERS = {"bind", "forward", "rewrite", "timeouts", "loadbalance", "log", "trace", "pprof", "reload"}


@pytest.mark.parametrize("name", sorted(PLUGINS.keys() - OTHERS))
@settings(max_examples=count("hypothesis_runs"))
@given(data=st.data())
def test_written_and_read_again(name: str, data: st.DataObject) -> None:
    plugin = read(data.draw(directives(name)), name)
    assert read(written(plugin, name), name) == plugin


@given(data=st.data())
def test_forward_written_and_read_again(data: st.DataObject) -> None:
    options = [row.how for row in declarations(model.Forward) if isinstance(row.how, Option)]
    plain = [one for one in options if one.name not in ("health_check", "tls")]
    chosen = data.draw(st.lists(st.sampled_from(plain), max_size=6, unique=True))
    body = "\n".join(data.draw(line_of(option)) for option in chosen)
    plugin = read(f"forward {data.draw(NAMES)} 10.0.0.1 tls://9.9.9.9 {{\n{body}\n}}", "forward")
    assert read(written(plugin, "forward"), "forward") == plugin


_WORDS = st.sampled_from(
    [*PLUGINS, "{", "}", "\n", "\n", "\n", "30", "5s", "0", "-1", "a.b", "10.0.0.0/8", "10.0.0.1", "success",
     "denial", "class", "name", "regex", "answer", "(", "{1}", "{{", "0x1", "%", "tls://1%", "https", "set",
     "local", "prefetch", "policy", "ttl", "1-", "fallthrough", "IN", "ANY", "match", '""', "\\", "\u00e9",
     "\x00", "weighted", "a" * 300, "9" * 40, "fastdns", "workers", "health_check", "domain", "import", "(s)"]
)  # fmt: skip


@given(st.lists(_WORDS, max_size=40).map(" ".join))
def test_any_words_are_read_or_refused(text: str) -> None:
    """Whatever stands in a block: a Corefile, or complaints with a place each."""
    places = []
    try:
        parse_corefile(f". {{\n{text}\n}}\n", "f", {})
    except CorefileError as error:
        places = [problem.split(": ")[0] for problem in error.problems]
    assert all(place.startswith("f:") and place[2:].isdigit() for place in places)
