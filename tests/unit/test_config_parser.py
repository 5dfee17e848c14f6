# SPDX-License-Identifier: Apache-2.0
"""The grammar: blocks, keys, snippets, imports (corefile.md sections 1.2 to 1.4), and the digest."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.control.config import parser
from fastdns.control.config.parser import Block, Parsed
from fastdns.errors import CorefileError


def parse(text: str, path: str = "Corefile", **environ: str) -> Parsed:
    return parser.parse(text, path, environ)


def error(text: str, path: str = "Corefile") -> str:
    with pytest.raises(CorefileError) as caught:
        parse(text, path)
    return str(caught.value)


def shape(block: Block) -> object:
    """A block as plain lists."""
    return (
        [key.text for key in block.keys],
        [
            ([d.name.text, *(w.text for w in d.words)], [[word.text for word in line] for line in d.body])
            for d in block.directives
        ],
    )


@pytest.mark.parametrize(
    "text",
    [
        "a {\n x 1 2 {\n  y 3\n }\n}",
        "a\n{\n x 1 2\n {\n  y 3\n }\n}",
        "a { x 1 2 { y 3\n }\n }",
        "a\nx 1 2 {\ny 3\n}",
        "\ufeffa {\r\nx 1 2 {\r\n\r\ny 3 # c\r\n}\r\n}",
        "a {\n\n x 1 \t2   {\n  y 3\n }\n\n\n    }\n",
    ],
)
def test_the_same_block(text: str) -> None:
    assert [shape(block) for block in parse(text).blocks] == [(["a"], [(["x", "1", "2"], [["y", "3"]])])]


def test_keys() -> None:
    blocks = parse("a b, c,\nd e {\n}\nf,\n\ng {\n}\nh {\nx\n} i {\n}").blocks
    assert [[key.text for key in block.keys] for block in blocks] == [list("abcde"), list("fg"), ["h"], ["i"]]
    assert [key.text for key in parse("only.a.key").blocks[0].keys] == ["only.a.key"]
    assert parse("# nothing\n").blocks == ()


def test_environment() -> None:
    block = parse("{$Z}:53 {\n {%D%} {$UNSET} a{$Z}b {\n {$O} {$Z}\n}\n}", Z="z", D="d", O="o").blocks[0]
    assert shape(block) == (["z:53"], [(["d", "", "azb"], [["o", "z"]])])


@pytest.mark.parametrize("value", ["}", "{"])
def test_a_brace_from_the_environment_is_a_word(value: str) -> None:
    assert shape(parse("a {\nx {$B}\n}", B=value).blocks[0]) == (["a"], [(["x", value], [])])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("}", "Corefile:1: found '}' that closes nothing, expected a server block"),
        ("a {\n}\n}\n", "Corefile:3: found '}' that closes nothing, expected a server block"),
        ("a\nx\n}\n", "Corefile:3: found '}' that closes nothing, expected a directive"),
        ("{\n}", "Corefile:1: found '{', expected a zone before the block"),
        ('"" {\n}', "Corefile:1: found '', expected a zone before the block"),
        ("a,\n{", "Corefile:2: found '{' after a comma, expected another key"),
        ("a,\n", "Corefile:1: found the end of the file, expected another key after the comma"),
        (".:53{\n}", "Corefile:1: found '.:53{', expected a blank before '{'"),
        (
            "a {\nx\n",
            "Corefile:2: found the end of the file, expected '}' to close the block of 'a' (line 1)",
        ),
        (
            "a {\nx {\ny",
            "Corefile:3: found the end of the file, expected '}' to close the block of 'x' (line 2)",
        ),
        ("a {\n{\n}\n}", "Corefile:2: found '{', expected a directive"),
        ("a { x }", "Corefile:1: found '}' on the line of 'x', expected it on a line of its own"),
        ("a {\nx { y }\n}", "Corefile:2: found '}' after 'y', expected it on a line of its own"),
        ("a {\nx {\ny {\n}\n}\n}", "Corefile:3: found '{' in the block of 'x', expected an option"),
        ("a {\nx {\n} }\n", "Corefile:3: found '}' after '}', expected the end of the line"),
        ("a {\nx {\n} y\n}", "Corefile:3: found 'y' after '}', expected the end of the line"),
        ("(s)\na {\n}", "Corefile:1: found no '{' after '(s)', expected the snippet in braces"),
        (
            "(s) {\nx\n",
            "Corefile:2: found the end of the file, expected '}' to close the snippet '(s)' (line 1)",
        ),
        ("(s) {\n}\n(s) {\n}", "Corefile:3: found a second snippet '(s)', expected another name"),
        ("(s) {\nimport s\n}", "Corefile:2: the snippet '(s)' imports itself"),
        ("import", "Corefile:1: found 'import' alone, expected a snippet's name or a file after it"),
        ("import a b", "Corefile:1: found 'b', expected one snippet or file on the line of 'import'"),
        ('import ""', "Corefile:1: found '', expected a snippet's name or a file"),
        ("import /no/such", "Corefile:1: found no file and no snippet '/no/such', expected one to import"),
        ("import a*b*", "Corefile:1: found 'a*b*', expected at most one * and one ? in a pattern"),
        ("import [ab]", "Corefile:1: found '[ab]', expected at most one * and one ? in a pattern"),
        (
            "(common) {\n}\na {\nimport comon\n}",
            (
                "Corefile:4: found no file and no snippet 'comon', expected one to import"
                " (did you mean 'common'?)"
            ),
        ),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert error(text) == message


# ---- snippets and imports ----


def test_snippets_are_put_in_place() -> None:
    text = "(s) {\nx 1\ny\n}\n(o) {\n z {$V}\n}\na {\nimport s\nw {\nimport o\n}\n}\nimport t\n"
    blocks = parse(f"(t) {{\nb {{\nimport s\n}}\n}}\n{text}", V="v").blocks
    assert [shape(block) for block in blocks] == [
        (["a"], [(["x", "1"], []), (["y"], []), (["w"], [["z", "v"]])]),
        (["b"], [(["x", "1"], []), (["y"], [])]),
    ]


def test_a_directive_ends_where_an_import_begins() -> None:
    block = parse("(s) { x\n}\na { y 1\nimport s\nz\n}").blocks[0]
    assert shape(block) == (["a"], [(["y", "1"], []), (["x"], []), (["z"], [])])


def test_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1.conf").write_text("x 1\nimport more")
    (tmp_path / "sub" / "2.conf").write_text("y")
    (tmp_path / "sub" / "more").write_text("import ../last")
    (tmp_path / "last").write_text("z")
    main = tmp_path / "Corefile"
    parsed = parse("a {\nimport sub/*.conf\nimport {$F}\n}\n", str(main), F="last")
    assert shape(parsed.blocks[0]) == (["a"], [(["x", "1"], []), (["z"], []), (["y"], []), (["z"], [])])
    names = {str(path.resolve().relative_to(tmp_path)) for path in parsed.files}
    assert names == {"sub/1.conf", "sub/2.conf", "sub/more", "last"}
    places = {d.name.text: (Path(d.where.path).name, d.where.line) for d in parsed.blocks[0].directives}
    assert places == {"x": ("1.conf", 1), "y": ("2.conf", 1), "z": ("last", 1)}


def test_a_pattern_that_nothing_matches_is_a_warning(tmp_path: Path) -> None:
    parsed = parse("a {\nimport none*\n}\n", str(tmp_path / "Corefile"))
    assert parsed.warnings == (f"{tmp_path}/Corefile:2: no file matches 'none*'",)


def test_errors_name_the_imported_file(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("x\n}\n}")
    assert error("a {\nimport part\n}", str(tmp_path / "Corefile")).startswith(
        f"{tmp_path}/part:3: found '}}'"
    )


def test_circles(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("import b")
    (tmp_path / "b").write_text("import a")
    (tmp_path / "me").write_text("import ./me*")
    (tmp_path / "far").write_text(f"import ../{tmp_path.name}/far")
    main = str(tmp_path / "Corefile")
    assert error("import a", main) == f"{tmp_path}/b:1: the file {tmp_path}/a imports itself"
    assert error("import me", main) == f"{tmp_path}/me:1: the file {tmp_path}/me imports itself"
    assert error("import far", main) == f"{tmp_path}/far:1: the file {tmp_path}/far imports itself"
    (tmp_path / "Corefile").touch()
    assert error("import C*", main) == f"{main}:1: the file {main} imports itself"
    assert error("(s) {\nimport s\n}\nimport s") == "Corefile:2: the snippet '(s)' imports itself"
    assert "imports itself" in error("(s) {\nimport t\n}\n(t) {\nimport s\n}\na {\nimport t\n}")


def test_imports_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    doubling = "".join(f"(s{n}) {{\nimport s{n - 1}\nimport s{n - 1}\n}}\n" for n in range(1, 40))
    assert "more than 10000 imports of snippets" in error(f"(s0) {{\nx\n}}\n{doubling}a {{\nimport s39\n}}")
    monkeypatch.setattr(parser, "TOKENS_MAX", 5000)
    wide = "(s) {\n" + "x y z\n" * 300 + "}\na {\n" + "import s\n" * 20 + "}"
    assert error(wide) == "Corefile:308: more than 5000 words with all imports"
    assert error("a b\n" * 4000) == "Corefile:2501: more than 5000 words with all imports"


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "/proc", "."])
def test_only_files_are_imported(name: str) -> None:
    assert "which is no regular file, expected a Corefile" in error(f"import {name}")


def test_odd_files(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    main = str(tmp_path / "Corefile")
    assert "Too many levels of symbolic links" in error("import loop", main)
    assert "No such file or directory" in error("import gone", main)
    assert "found no file and no snippet" in error(f"import {'a' * 5000}", main)


def test_octets_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\xff {\n}\n")
    assert [key.text for key in parse(f"import {tmp_path}/x").blocks[0].keys] == ["a\ufffd"]


# ---- the digest ----


def test_digest_is_node_caches() -> None:
    """What CoreDNS logged for this file: plugin/reload: Running configuration SHA512 = ..."""
    assert parse(".:15399 {\n reload\n whoami\n}\n", "Cf1").digest == (
        "1538f3fc11969d9d289387353c0f29e9928d2b0ac36e0db3d878649001cdd068"
        "cd6a9c5dfa10269a6ec54ad013b9a3e4615823dcab48342c6ff2d319ab709f55"
    )


def test_digest_is_of_the_tokens_and_their_lines() -> None:
    digest = parse("a {\nx {$V}\n}\n", V="1").digest
    assert parse("a {\nx 1\n}\n# a comment at the end\n").digest == digest
    assert parse("a {\n  x   1 # here\n}\n", "elsewhere").digest == digest
    assert parse("# above\na {\nx 1\n}\n").digest != digest
    assert parse("a {\nx 2\n}\n").digest != digest


def test_digests_of_many_files() -> None:
    """Files put together at random, with what CoreDNS's own parser made of them (caddy 1.1.4)."""
    data = json.loads((Path(__file__).parent.parent / "data" / "corefile-digests.json").read_text())
    assert len(data["files"]) > 80
    for row in data["files"]:
        assert parse(row["text"], **data["environ"]).digest == row["sha512"], row["text"]


# ---- any text ----

_PIECES = st.sampled_from(
    [
        "a",
        ".",
        "{",
        "}",
        "\n",
        " ",
        ",",
        "import",
        "(s)",
        "s",
        '"',
        "#",
        "cache",
        "forward",
        "{$A}",
        "\\",
        ":53",
    ]
)


@given(st.lists(_PIECES, max_size=60).map("".join) | st.lists(_PIECES, max_size=60).map(" ".join))
def test_any_text_parses_or_says_where(text: str) -> None:
    try:
        blocks = parse(text, A="a").blocks
    except CorefileError as problem:
        place = str(problem).split(": ")[0]
        assert place.split(":")[0] == "Corefile"
        assert 1 <= int(place.split(":")[1]) <= text.count("\n") + 1
    else:
        assert all(block.keys for block in blocks)
