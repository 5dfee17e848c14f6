# SPDX-License-Identifier: Apache-2.0
"""No Python in the generated C of hot functions.

`nogil` alone does not promise it: Cython takes the GIL by itself for a call to a function declared with
`except`, for a division that may be by zero, for a bounds check, and to report an exception that nobody
can catch.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.meta.generated import Generated, functions, generate, hot_modules, python_api
from tests.meta.sources import PACKAGE

pytestmark = pytest.mark.timeout(900)  # Cython over all of it; some 25 s on two idle cores


@pytest.fixture(scope="module")
def generated() -> list[Generated]:
    return generate(hot_modules())


def remarks(module: Generated) -> list[str]:
    return [line for line in module.remarks.splitlines() if "performance hint" in line or "warning:" in line]


def test_hot_functions_touch_no_python(generated: list[Generated]) -> None:
    seen, found = 0, []
    for module in generated:
        cold = {function.c_suffix for function in declared(module) if not function.nogil}
        for name, body in functions(module.text):
            if name.endswith(tuple(cold)):
                continue
            seen += 1
            if names := python_api(body):
                found.append(f"{module.name}: {name} uses {', '.join(sorted(names))}")
    assert found == []
    assert seen > 100, "the generated functions were not recognised"


def test_cython_has_nothing_to_remark(generated: list[Generated]) -> None:
    assert [line for module in generated for line in remarks(module)] == []


def test_each_hot_function_was_looked_at(generated: list[Generated]) -> None:
    """Every function that a .pyx declares `nogil:` is found by name in its C text."""
    for module in generated:
        names = [name for name, _ in functions(module.text)]
        hot = [function.c_suffix for function in declared(module) if function.nogil]
        missing = [suffix for suffix in hot if not any(name.endswith(suffix) for name in names)]
        assert missing == [], module.name


def test_functions_with_python_in_them_are_private(generated: list[Generated]) -> None:
    """What hot modules offer each other is nogil; set-up that needs Python stays inside its module."""
    for module in generated:
        offered = [function for function in declared(module) if not function.name.startswith("_")]
        loose = [function.name for function in offered if not (function.nogil or function.in_class)]
        assert loose == [], f"{module.name}: cdef functions without nogil"


_DECLARATION = re.compile(
    r"^(cdef class|class) (\w+)|^( *)cdef [^\n(:=]*?(\w+)\(([^)]*)\)([^\n]*):$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Function:
    """A cdef function with a body, as its .pyx declares it."""

    name: str
    in_class: str
    nogil: bool

    @property
    def c_suffix(self) -> str:
        """What its C name ends with."""
        return f"{len(self.in_class)}{self.in_class}_{self.name}" if self.in_class else f"_{self.name}"


def declared(module: Generated) -> list[Function]:
    """The cdef functions of a module's .pyx. Signatures may span lines."""
    path = PACKAGE.joinpath(*module.name.split(".")).with_suffix(".pyx")
    found, in_class = [], ""
    text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
    for match in _DECLARATION.finditer(text):
        if match[2]:
            in_class = match[2]
        else:
            found.append(Function(match[4], in_class if match[3] else "", "nogil" in match[6]))
    return found


BAD = {
    "a call that may raise": "cdef int helper() except -1 nogil:\n    return 0\n"
    "cdef int bad() noexcept nogil:\n    return helper()\n",
    "the GIL asked for": "cdef object kept = None\n"
    "cdef void bad() noexcept nogil:\n    with gil:\n        kept = 1\n",
    "a division that may be by zero": "cimport cython\n@cython.cdivision(False)\n"
    "cdef int bad(int a, int b) noexcept nogil:\n    return a // b\n",
    "a bounds check": "cimport cython\n@cython.boundscheck(True)\n"
    "cdef int bad(const unsigned char[::1] a, int b) noexcept nogil:\n    return a[b]\n",
}


@pytest.mark.parametrize("sample", BAD)
def test_the_test_finds(sample: str, tmp_path: Path) -> None:
    path = tmp_path / "sample.pyx"
    path.write_text(BAD[sample])
    (module,) = generate([path], tmp_path)
    assert any(python_api(body) for name, body in functions(module.text) if name.endswith("_bad"))


def test_the_test_finds_what_cython_remarks(tmp_path: Path) -> None:
    path = tmp_path / "sample.pyx"
    helper = "cdef void helper() nogil:\n    pass\n"
    path.write_text(helper + "cdef void bad() noexcept nogil:\n    helper()\n")
    (module,) = generate([path], tmp_path)
    assert remarks(module)


def test_good_code_passes(tmp_path: Path) -> None:
    path = tmp_path / "sample.pyx"
    path.write_text("cdef int good(int a, int b) noexcept nogil:\n    return a // b if b else 0\n")
    (module,) = generate([path], tmp_path)
    assert [python_api(body) for name, body in functions(module.text) if name.endswith("_good")] == [set()]
    assert remarks(module) == []
