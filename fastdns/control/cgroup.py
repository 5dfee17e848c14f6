# SPDX-License-Identifier: Apache-2.0
"""The memory limits that hold for this process: its own cgroup's and all parents', v1 and v2.

Touching memory beyond such a limit is answered by SIGKILL, not by an error, so it is compared
before anything is touched (design, "Bounded").
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# v1 says "no limit" with the largest multiple of a page in 63 bits.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The lowest limit, and whose it is."""

    octets: int
    where: str  #: path of the file that says so


@dataclass(frozen=True, slots=True)
class _Mount:
    """A cgroup file system, of either version."""

    point: str
    root: str  #: the cgroup that is mounted there: not / in a container without a cgroup namespace
    limit_file: str


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """The lowest limit from this process's own cgroup upwards, or None where there is none.

    root: the file system to look at; tests give a tree of their own. A file that is missing or
    can't be read sets no limit: it is not for us to refuse a start because of it.
    """
    lowest: MemoryLimit | None = None
    paths = _own_paths(root)
    for mount in _mounts(root):
        own = paths.get(mount.limit_file)
        if own is None:
            continue
        for directory in _upwards(mount, own):
            file = root / directory.lstrip("/") / mount.limit_file
            octets = _read_limit(file)
            if octets is not None and (lowest is None or octets < lowest.octets):
                lowest = MemoryLimit(octets, f"{directory}/{mount.limit_file}")
    return lowest


def _own_paths(root: Path) -> dict[str, str]:
    """Limit file -> the path of our cgroup in the hierarchy that has it; /proc/self/cgroup."""
    paths = {}
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            paths["memory.max"] = path
        elif "memory" in controllers.split(","):
            paths["memory.limit_in_bytes"] = path
    return paths


def _mounts(root: Path) -> Iterator[_Mount]:
    """The cgroup mounts that can have memory limits; /proc/self/mountinfo, proc(5)."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, dash, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            yield _Mount(_unescape(fields[4]), _unescape(fields[3]), "memory.max")
        elif kind[0] == "cgroup" and "memory" in kind[2].split(","):
            yield _Mount(_unescape(fields[4]), _unescape(fields[3]), "memory.limit_in_bytes")


def _upwards(mount: _Mount, own: str) -> Iterator[str]:
    """The directories of our cgroup and its parents, as far as the mount shows them."""
    try:
        below = PurePosixPath(own).relative_to(mount.root)
    except ValueError:
        below = PurePosixPath()  # another namespace's view: the mount point is the nearest we can see
    if ".." in below.parts:
        below = PurePosixPath()
    directory = PurePosixPath(mount.point) / below
    top = PurePosixPath(mount.point)
    yield str(directory)
    while directory != top:
        directory = directory.parent
        yield str(directory)


def _read_limit(file: Path) -> int | None:
    for line in _lines(file):
        if line.isascii() and line.isdigit() and int(line) < _NO_LIMIT:
            return int(line)
    return None


def _lines(file: Path) -> list[str]:
    try:
        return os.fsdecode(file.read_bytes()).splitlines()
    except OSError:
        return []


def _unescape(text: str) -> str:
    # mountinfo writes space, tab, newline and backslash as three octal digits.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
