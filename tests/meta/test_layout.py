# SPDX-License-Identifier: Apache-2.0
"""docs/shm-layout.md says what the compiler says: offsets and sizes of every shared structure."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.meta.sources import PACKAGE, ROOT

HEADERS = ("_layout.h", "_layout_config.h")
DOCUMENT = ROOT / "docs" / "shm-layout.md"


@dataclass(frozen=True, slots=True)
class Row:
    offset: int
    size: int | None  # None: up to the end
    field: str


@dataclass(frozen=True, slots=True)
class Struct:
    name: str
    size: int | None  # None: it grows with the list of counters
    rows: tuple[Row, ...]


def read_tables(text: str) -> list[Struct]:
    found = []
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        heading = re.match(r"(fd_\w+_t)(?:, (\d+))?$", section, re.MULTILINE)
        assert heading, section.splitlines()[0]
        rows = re.findall(r"^\| (\d+) \| (\d+|rest) \| (\w+) \|(?:[^|]*\|){3}$", section, re.MULTILINE)
        fields = tuple(Row(int(off), None if size == "rest" else int(size), name) for off, size, name in rows)
        found.append(Struct(heading[1], int(heading[2]) if heading[2] else None, fields))
    return found


STRUCTS = read_tables(DOCUMENT.read_text(encoding="utf-8"))


def compiled(structs: list[Struct], scratch: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """(struct, field) to (offset, size) as the C compiler has them; the field "" is the whole."""
    lines = ["#include <stdio.h>", '#include "_layout.h"', "int main(void) {"]
    for struct in structs:
        lines.append(f'printf("{struct.name} - 0 %zu\\n", sizeof({struct.name}));')
        lines += [
            f'printf("{struct.name} {row.field} %zu %zu\\n", offsetof({struct.name}, {row.field}),'
            f" sizeof((({struct.name} *)0)->{row.field}));"
            for row in struct.rows
        ]
    source, program = scratch / "layout.c", scratch / "layout"
    source.write_text("\n".join([*lines, "}"]), encoding="ascii")
    compiler = shutil.which("cc") or "gcc"
    command = [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-I", str(PACKAGE), "-o", str(program), str(source)]
    subprocess.run(command, check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    words = [line.split() for line in output.splitlines()]
    return {(name, field.strip("-")): (int(off), int(size)) for name, field, off, size in words}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, int]]:
    return compiled(STRUCTS, tmp_path_factory.mktemp("layout"))


def test_every_struct_of_the_header_has_a_table() -> None:
    header = "".join((PACKAGE / name).read_text(encoding="utf-8") for name in HEADERS)
    assert [struct.name for struct in STRUCTS] == sorted(
        set(re.findall(r"^\} (fd_\w+_t);", header, re.MULTILINE)),
        key=[struct.name for struct in STRUCTS].index,
    )


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.name)
def test_the_table_is_the_layout(struct: Struct, layout: dict[tuple[str, str], tuple[int, int]]) -> None:
    _, whole = layout[struct.name, ""]
    assert struct.size in (None, whole)
    for row in struct.rows:
        offset, size = layout[struct.name, row.field]
        assert (row.offset, row.size if row.size is not None else size) == (offset, size), row.field


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.name)
def test_rows_leave_no_gap(struct: Struct, layout: dict[tuple[str, str], tuple[int, int]]) -> None:
    _, whole = layout[struct.name, ""]
    end = 0
    for row in struct.rows:
        assert row.offset == end, f"a gap before {row.field}: the compiler pads, or a row is missing"
        end = row.offset + (layout[struct.name, row.field][1] if row.size is None else row.size)
    assert end == whole


def test_only_counters_are_open_ended() -> None:
    open_ended = [(struct.name, row.field) for struct in STRUCTS for row in struct.rows if row.size is None]
    assert open_ended == [("fd_region_t", "counters"), ("fd_post_t", "counters")]
    assert [struct.name for struct in STRUCTS if struct.size is None] == ["fd_region_t", "fd_post_t"]


def test_the_test_finds(tmp_path: Path) -> None:
    text = "### fd_record_t, 12\n\n| 0 | 4 | len | octets | p | |\n| 5 | 1 | kind | - | p | |\n"
    (struct,) = read_tables(text)
    wrong = compiled([struct], tmp_path)
    with pytest.raises(AssertionError):
        test_the_table_is_the_layout(struct, wrong)
    with pytest.raises(AssertionError):
        test_rows_leave_no_gap(struct, wrong)
