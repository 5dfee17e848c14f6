# SPDX-License-Identifier: Apache-2.0
"""What Cython makes of the data plane: C text, the compiler's remarks, and a look into the functions."""

import ast
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.meta.sources import PACKAGE, ROOT

# Modules with functions on the way of a query, and those beside them that run once, at start.
HOT_MODULES: Final = ("_*.pyx", "worker/_*.pyx", "coordinator/_*.pyx", "keeper/_loop.pyx")
NOT_HOT: Final = {"_process", "_segments", "_stats"}

_CACHE: Final = ROOT / "build" / "meta"
_FUNCTION = re.compile(r"^static .*?\b(__pyx_f_\w+)\(.*\) \{$", re.MULTILINE)

# Everything of Python's and of Cython's runtime; macros that expand to nothing without the GIL apart.
_PYTHON_API = re.compile(r"\b(?:__Pyx_[A-Z]\w*|Py[A-Z]\w*|Py_[A-Z]\w*|_Py\w+)\b")
_HARMLESS: Final = {"Py_ssize_t", "Py_UNUSED"}


@dataclass(frozen=True, slots=True)
class Generated:
    """One module's C text, and what Cython said about it."""

    name: str
    text: str
    remarks: str


def hot_modules() -> list[Path]:
    """The .pyx files of the data and upstream plane and of the keeper's loop."""
    found = {path for pattern in HOT_MODULES for path in PACKAGE.glob(pattern)}
    return sorted(path for path in found if path.stem not in NOT_HOT)


def generate(paths: list[Path], cache: Path = _CACHE) -> list[Generated]:
    """Run Cython over them with setup.py's directives. What didn't change is kept in `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    headers = sorted(path for suffix in ("*.pxd", "*.h") for path in PACKAGE.rglob(suffix))
    common = hashlib.sha256(importlib.metadata.version("cython").encode())
    for path in [ROOT / "setup.py", *headers]:
        common.update(path.read_bytes())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda path: _generate(path, common.copy(), cache), paths))


def _generate(path: Path, key: "hashlib._Hash", cache: Path) -> Generated:
    name = path.stem if path.parent == PACKAGE else f"{path.parent.name}.{path.stem}"
    key.update(path.read_bytes())
    stem = f"{name}-{key.hexdigest()[:16]}"
    text, remarks = cache / f"{stem}.c", cache / f"{stem}.remarks"
    if not remarks.exists():
        for old in cache.glob(f"{name}-*"):
            old.unlink()
        options = [word for item in directives().items() for word in ("-X", "=".join(map(str, item)))]
        command = [
            sys.executable,
            "-m",
            "cython",
            "-3",
            *options,
            "-I",
            str(ROOT),
            "-o",
            str(text),
            str(path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            raise RuntimeError(f"{path}: {done.stdout}{done.stderr}")
        remarks.write_text(done.stdout + done.stderr, encoding="utf-8")
    return Generated(name, text.read_text(encoding="utf-8"), remarks.read_text(encoding="utf-8"))


def directives() -> dict[str, object]:
    """DIRECTIVES of setup.py, as in a release build."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "DIRECTIVES" and node.value:
            found: dict[str, object] = eval(ast.unparse(node.value), {"DEBUG": False})
            return {name: value for name, value in found.items() if name != "language_level"}
    raise LookupError("setup.py has no DIRECTIVES")


def functions(text: str) -> Iterator[tuple[str, str]]:
    """(name, body) of each C function that Cython made of a cdef function."""
    for match in _FUNCTION.finditer(text):
        end = text.index("\n}\n", match.end())
        yield match[1], _without_comments(text[match.end() : end])


def _without_comments(body: str) -> str:
    return re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)


def python_api(body: str) -> set[str]:
    """Names of Python's C API in the body."""
    return set(_PYTHON_API.findall(body)) - _HARMLESS
