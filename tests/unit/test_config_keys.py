# SPDX-License-Identifier: Apache-2.0
"""Keys of server blocks, names, and what a word may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.control.config import kinds, names
from fastdns.control.config.declare import Kind, Several, declarations
from fastdns.control.config.load import parse_corefile
from fastdns.control.config.model import Corefile
from fastdns.control.config.registry import PLUGINS
from fastdns.errors import CorefileError


def corefile(text: str) -> Corefile:
    return parse_corefile(text, "f", {})


def problems(text: str) -> list[str]:
    with pytest.raises(CorefileError) as caught:
        corefile(text)
    return list(caught.value.problems)


# ---- keys ----


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (".", ["dns://.:53"]),
        ("Example.ORG", ["dns://example.org.:53"]),
        ("dns://a:54", ["dns://a.:54"]),
        ("example.org:dns", ["dns://example.org:dns.:53"]),
        ("1.2.3.4", ["dns://1.2.3.4.:53"]),
        ("10.0.0.0/8:54", ["dns://10.in-addr.arpa.:54"]),
        ("10.0.4.0/22", [f"dns://{n}.0.10.in-addr.arpa.:53" for n in range(4, 8)]),
        ("10.1.2.3/24", ["dns://2.1.10.in-addr.arpa.:53"]),
        ("0.0.0.0/0", ["dns://in-addr.arpa.:53"]),
        ("10.0.0.1/32", ["dns://1.0.0.10.in-addr.arpa.:53"]),
        ("2001:DB8::/32", ["dns://8.b.d.0.1.0.0.2.ip6.arpa.:53"]),
        ("2001:db8::/31:54", ["dns://8.b.d.0.1.0.0.2.ip6.arpa.:54", "dns://9.b.d.0.1.0.0.2.ip6.arpa.:54"]),
        ("::/0", ["dns://ip6.arpa.:53"]),
        ("a.b/24", ["dns://a.b/24.:53"]),
    ],
)
def test_keys(key: str, expected: list[str]) -> None:
    assert [str(found) for found in corefile(f"{key} {{\n}}").blocks[0].keys] == expected


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (":54", "found ':54', expected a zone, as in .:53"),
        ("{$UNSET}:54", "found ':54', expected a zone, as in .:53"),
        ("dns://", "found 'dns://', expected a zone, as in .:53"),
        ("a:", "found 'a:', expected a port after the last colon"),
        ("a:0", "found port '0', expected one from 1 to 65535"),
        ("a:70000", "found port '70000', expected one from 1 to 65535"),
        ("a:999999999999", "found port '999999999999', expected one from 1 to 65535"),
        ("a..b", "found 'a..b', expected a domain name or a network, and a port or none (an empty label)"),
        ("foo://a", "found scheme 'foo', expected dns or none"),
        ("a , b", "found ',', expected it at the end of a key"),
        (
            "10.0.0.0/33",
            (
                "found '10.0.0.0/33', expected a domain name or a network, and a port or none"
                " (a network that is none)"
            ),
        ),
    ],
)
def test_keys_that_are_none(key: str, problem: str) -> None:
    assert problems(f"{key} {{\n}}") == [f"f:1: {problem}"]


@pytest.mark.parametrize("scheme", ["tls", "https", "grpc", "quic", "https3", "unix"])
def test_schemes_that_would_not_be_encrypted(scheme: str) -> None:
    assert problems(f"{scheme}://. {{\n}}") == [
        (
            f"f:1: found '{scheme}://.', expected dns or no scheme: {scheme} is not served,"
            " and node-cache would serve it without encryption"
        )
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a a {\n}", ["f:1: cannot serve dns://a.:53: it is already defined (f:1)"]),
        ("a {\n}\nA {\n}", ["f:3: cannot serve dns://a.:53: it is already defined (f:1)"]),
        (
            "a {\nbind ::1\n}\na {\nbind ::1\n}",
            ["f:4: cannot serve dns://a.:53 on ::1: it is already defined (f:1)"],
        ),
        (
            "a {\n}\na {\nbind ::1\n}",
            [
                (
                    "f:3: cannot serve dns://a.:53 on ::1: zone overlap with f:1;"
                    " a key is bound to addresses in all blocks, or in none"
                )
            ],
        ),
        ("a {\nbind ::1\n}\na {\nbind 127.0.0.1\n}", []),
        ("a {\n}\na:54 {\n}\nb {\n}", []),
        (
            "10.0.0.0/23 {\n}\n10.0.1.0/24 {\n}",
            ["f:3: cannot serve dns://1.0.10.in-addr.arpa.:53: it is already defined (f:1)"],
        ),
    ],
)
def test_collisions(text: str, expected: list[str]) -> None:
    if expected:
        assert problems(text) == expected
    else:
        corefile(text)


def test_default_port() -> None:
    found = parse_corefile("a b:54 {\n}", "f", {}, default_port=1053).blocks[0].keys
    assert [key.port for key in found] == [1053, 54]


def test_a_file_with_nothing_in_it() -> None:
    for text in ("", "# nothing", "fastdns {\n}"):
        blocks = corefile(text).blocks
        assert [str(key) for key in blocks[0].keys] == ["dns://.:53"]
        assert blocks[0].whoami is not None
        assert blocks[0].log


# ---- kinds ----


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30s", 30),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1m1s1ms", 61.001),
        ("5µs", 5e-6),
        ("+1s", 1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert kinds.Duration().parse(text) == pytest.approx(seconds)


@given(st.integers(0, 10**7))
def test_durations_read_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000 if milliseconds < 1000 else milliseconds // 1000
    assert kinds.Duration().parse(kinds.duration_text(seconds)) == pytest.approx(seconds)


def all_kinds() -> list[Kind]:
    found: list[Kind] = []
    for spec in PLUGINS.values():
        for row in declarations(spec.cls):
            kind = row.how.kind.kind if isinstance(row.how.kind, Several) else row.how.kind
            if kind is not None and not isinstance(kind, type):
                found.append(kind)
    return found


@given(st.text(max_size=40))
def test_a_kind_reads_a_word_or_refuses_it(text: str) -> None:
    for kind in all_kinds():
        try:
            kind.parse(text)
        except ValueError:
            assert kind.expected


@given(st.text(max_size=300))
def test_names_are_within_the_protocols_bounds(text: str) -> None:
    try:
        name = names.absolute(text)
    except ValueError:
        return
    assert name.endswith(".")
    assert names.absolute(name) == name


@pytest.mark.parametrize("text", ["a" * 64, "a..b", ".a", "", "a\\", "a\\999", ".".join(["a" * 63] * 4)])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        names.absolute(text)


_LABELS = st.text(alphabet="aB0-_*", min_size=1, max_size=70)


@given(st.lists(_LABELS, min_size=1, max_size=6).map(".".join))
def test_plain_names_are_judged_as_all_others(text: str) -> None:
    """The short way through ``absolute`` says what the long one would: an escape makes it take that."""

    def judged(name: str) -> str | None:
        try:
            return names.absolute(name)
        except ValueError:
            return None

    escaped = "\\" + text if text[0] not in "0123456789" else f"\\04{ord(text[0]) - 40}" + text[1:]
    plain, other = judged(text), judged(escaped)
    assert (plain is None) == (other is None)
    assert plain is None or (plain == f"{text.lower()}.")
