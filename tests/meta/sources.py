# SPDX-License-Identifier: Apache-2.0
"""The package's source files as the meta tests see them: modules, imports, function signatures."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "fastdns"

_CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<base>[\w.]+)\s+c?import\s+(?P<names>\([^)]*\)|[^\n#]*)"
    r"|c?import\s+(?P<plain>[\w., ]+))",
    re.MULTILINE,
)


def source_files() -> list[Path]:
    """Every .py, .pyi, .pyx, .pxd and .h of the package."""
    suffixes = {".py", ".pyi", ".pyx", ".pxd", ".h"}
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in suffixes and path.is_file())


def module_name(path: Path) -> str:
    """The dotted name that a file of the package is imported under."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The fastdns modules that a .py, .pyi, .pyx or .pxd imports or cimports, wherever it does."""
    text = path.read_text(encoding="utf-8")
    found = _python_imports(text) if path.suffix in (".py", ".pyi") else _cython_imports(text)
    return {name for name in found if name.partition(".")[0] == "fastdns"}


def without_imports(text: str) -> str:
    """A .pyx or .pxd without its import and cimport statements."""
    return _CYTHON_IMPORT.sub("", text)


def _python_imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError("a relative import: name the module whole")
            yield from _members(node.module or "", [alias.name for alias in node.names])


def _cython_imports(text: str) -> Iterator[str]:
    for match in _CYTHON_IMPORT.finditer(text):
        if match["plain"]:
            yield from (name.split(" as ")[0].strip() for name in match["plain"].split(","))
        else:
            if match["base"].startswith("."):
                raise ValueError("a relative cimport: name the module whole")
            names = match["names"].strip("()").replace("\n", " ").split(",")
            yield from _members(
                match["base"], [name.split(" as ")[0].strip() for name in names if name.strip()]
            )


def _members(base: str, names: list[str]) -> Iterator[str]:
    """The modules meant: `from fastdns import _name` and `from fastdns._name import x` both mean _name."""
    for name in names:
        stem = ROOT.joinpath(*base.split("."), name)
        is_file = any(stem.with_suffix(suffix).exists() for suffix in (".py", ".pyx", ".pxd"))
        is_folder = base.startswith("fastdns") and stem.is_dir()
        yield f"{base}.{name}" if is_file or is_folder else base
