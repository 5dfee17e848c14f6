# SPDX-License-Identifier: Apache-2.0
"""Memory of several processes together, each page once, as /proc/PID/pagemap has them.

A sum of proportional set sizes says less than that on a machine where something else maps the same files,
such as another Python. Needs CAP_SYS_ADMIN: to others the kernel shows no frame numbers.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest

PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY = struct.Struct("=Q")
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1


def distinct_octets(pids: Iterable[int]) -> int:
    """Of all pages that any of these processes has in its page table; skips where that may not be read."""
    frames: set[int] = set()
    for pid in pids:
        frames |= _frames(pid)
    return len(frames) * PAGE


def _frames(pid: int) -> set[int]:
    found = set()
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
            place, *_, name = line.split(maxsplit=5)
            if name in ("[vsyscall]", "[vvar]", "[vvar_vclock]", "[vdso]"):  # the kernel's own
                continue
            start, end = (int(word, 16) for word in place.split("-"))
            pagemap.seek(start // PAGE * _ENTRY.size)
            entries = pagemap.read((end - start) // PAGE * _ENTRY.size)
            found |= {entry & _FRAME for (entry,) in _ENTRY.iter_unpack(entries) if entry & _PRESENT}
    if found == {0}:
        pytest.skip("needs CAP_SYS_ADMIN: frame numbers in /proc/PID/pagemap")
    return found
