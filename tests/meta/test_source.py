# SPDX-License-Identifier: Apache-2.0
"""Habits that hold for every file: licence lines, size, no loose ends, no machine of anybody's own, stubs."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.meta.sources import PACKAGE, ROOT, imports, module_name

_CODE = {".py", ".pyi", ".pyx", ".pxd", ".h", ".c", ".sh", ".mk"}
_LINES_MAX = 600


def repository_files() -> list[Path]:
    """What git would put into a commit now; without git (an sdist), all that isn't built."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        folders = [ROOT / name for name in ("fastdns", "tests", "bench", "tools", "docs")]
        found = [
            path for folder in folders for path in folder.rglob("*") if path.suffix not in {".so", ".pyc"}
        ]
    return sorted(path for path in found if path.is_file())


FILES = repository_files()
CODE = [
    path for path in FILES if path.suffix in _CODE or path.name == "Makefile" or path.parent.name == ".ci"
]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_files_are_found() -> None:
    assert len(CODE) > 50


def test_licence_lines() -> None:
    missing = [
        relative(path)
        for path in CODE
        if text_of(path).strip() and "SPDX-License-Identifier: Apache-2.0" not in text_of(path)[:200]
    ]
    assert missing == []


def test_no_file_is_long() -> None:
    long = {relative(path): text_of(path).count("\n") for path in CODE}
    assert {name: lines for name, lines in long.items() if lines > _LINES_MAX} == {}


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a loose end without an issue's number", r"\b(?:TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))"),
        ("a path on somebody's machine", r"(?<![\w.])/(?:work|home|root)/"),
        ("an address in the web", r"\bhttps?://(?!127\.|\{)"),
        ("a merge's leftover", r"^(?:<{7}|>{7}) "),
        ("a debugger or a focus", r"\bbreakpoint\(\)|\bpdb\.set_trace"),
    ],
)
def test_nothing_of(what: str, pattern: str) -> None:
    found = [
        f"{relative(path)}:{number}"
        for path in [*CODE, *(path for path in FILES if path.suffix in {".md", ".toml", ".txt"})]
        if path != Path(__file__)
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], what


def test_compiled_modules_that_python_imports_have_stubs() -> None:
    compiled = {module_name(path): path for path in PACKAGE.rglob("*.pyx") if path.parent.name != "_testing"}
    imported = {name for path in PACKAGE.rglob("*.py") for name in imports(path)}
    assert imported & compiled.keys(), "no compiled module was seen to be imported"
    missing = [
        name for name in sorted(imported & compiled.keys()) if not compiled[name].with_suffix(".pyi").exists()
    ]
    assert missing == []


def test_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_every_contract_says_noexcept_nogil() -> None:
    """A .pxd of a compiled module lists functions that other compiled modules call: all `noexcept nogil`."""
    function = re.compile(r"^cdef (?:inline )?[\w ]+?[\s*]+(\w+)\(([^)]*)\)([^\n]*)$", re.MULTILINE)
    loose = [
        f"{relative(path)}: {match[1]}"
        for path in PACKAGE.rglob("_*.pxd")
        for match in function.finditer(re.sub(r"#.*", "", text_of(path)))
        if "noexcept nogil" not in match[3]
    ]
    assert loose == []
