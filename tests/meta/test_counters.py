# SPDX-License-Identifier: Apache-2.0
"""The counters' names stand in _counters.h and, for Cython, in _stats.pxd: the same."""

import re

from tests.meta.sources import PACKAGE, without_imports

_HEADER = (PACKAGE / "_counters.h").read_text(encoding="utf-8")
_LIST = re.findall(r'^ {4}X\((\w+), "([^"]+)"\)', _HEADER, re.MULTILINE)


def names_in_pxd(text: str) -> list[str]:
    block = text.partition('cdef extern from "_counters.h"')[2].partition("\n\n")[0]
    return re.findall(r"\bFD_C_(\w+)", block)


def test_cython_knows_every_counter() -> None:
    text = (PACKAGE / "_stats.pxd").read_text(encoding="utf-8")
    assert sorted(names_in_pxd(text)) == sorted(name for name, _ in _LIST)


def test_names_are_unique_and_explained() -> None:
    assert len(_LIST) > 50
    assert len(_LIST) == len(re.findall(r"^\s+X\(", _HEADER, re.MULTILINE)), "a row that can't be read"
    assert len({name for name, _ in _LIST}) == len(_LIST)
    assert len({text for _, text in _LIST}) == len(_LIST)


def test_every_counter_is_counted_somewhere() -> None:
    """A counter that nothing bumps is a promise to an operator that nobody keeps."""
    files = [path for path in PACKAGE.rglob("*.p[yx][xd]") if path.name != "_stats.pxd"]
    code = "".join(without_imports(path.read_text(encoding="utf-8")) for path in files)
    assert [name for name, _ in _LIST if not re.search(rf"\bFD_C_{name}\b", code)] == []


def test_the_test_finds() -> None:
    text = 'cdef extern from "_counters.h" nogil:\n    enum:\n        FD_C_hits, FD_C_misses\n\nFD_C_else'
    assert names_in_pxd(text) == ["hits", "misses"]
