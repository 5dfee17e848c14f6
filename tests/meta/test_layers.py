# SPDX-License-Identifier: Apache-2.0
"""Which part of fastdns may import which: imports follow the data's way and never climb.

ARCHITECTURE.md shows the same as a picture. A part is a module beside the folders (`_wire`) or a folder
(`worker`). A change here is a change of the architecture: say why in its commit.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from tests.meta.sources import PACKAGE, imports, module_name, source_files

# What shared modules build on, lowest first.
ALLOWED: Final[dict[str, set[str]]] = {
    "_version": set(),
    "errors": set(),
    "gotemplate": {"errors"},
    "tlscontext": set(),
    "forking": set(),
    "later": set(),
    "log": set(),
    "proto": set(),
    "protocol": set(),
    "handles": set(),
    "_proto": set(),
    "_shm": set(),
    "_memory": set(),
    "_process": set(),
    "_sys": {"_shm"},
    "_segments": {"_shm"},
    "_stats": {"_segments", "_shm", "errors"},
    "_name": {"_proto"},
    "_wire": {"_name", "_proto", "_shm"},
    "_response": {"_name", "_proto"},
    "_rotate": {"_shm"},
    "_compress": {"_name", "_proto", "_response"},
    "_cache": {"_proto", "_rotate", "_segments", "_shm", "_stats"},
    "_zones": {"_proto", "_shm"},
    "_suspects": {"_shm"},
    "_answer": {"_cache", "_name", "_proto", "_rotate", "_shm"},
    "_ring": {"_shm"},
    "_log": {"_ring", "_segments", "_shm", "_stats"},
    "child": {"_process", "forking"},
    "snapshot": {"_segments", "_stats", "errors"},
}

# One part in two files.
SAME_PART: Final = {"_cache_read": "_cache"}

_DATA_PLANE: Final = {
    "_memory", "_proto", "_shm", "_sys", "_stats", "_segments", "_name", "_wire", "_response", "_compress",
    "_rotate", "_cache", "_answer", "_ring", "_log", "_zones", "_suspects", "handles", "child", "forking",
    "log",
}  # fmt: skip

# The roles don't import each other: `commands` hands the keeper their entry points. What looks at a client's
# message and what looks at upstream's are kept apart too.
ROLES: Final[dict[str, set[str]]] = {
    "worker": _DATA_PLANE - {"_response", "_compress"},
    "coordinator": (_DATA_PLANE - {"_wire"}) | {"errors", "gotemplate", "tlscontext"},
    "keeper": {"_process", "_segments", "_shm", "_sys", "forking", "handles", "log", "protocol"},
    "control": {
        "_process", "_ring", "_segments", "_shm", "_stats", "_version", "_zones", "child", "errors",
        "gotemplate", "handles", "log", "proto", "protocol", "tlscontext",
    },
}  # fmt: skip

# Whatever starts the roles or looks at them from outside.
OUTSIDE: Final[dict[str, set[str]]] = {
    "cli": {"_version", "errors"},  # imports a subcommand by its name, when it is asked for
    "loadgen": {"control", "errors"},
    "demo": {"_process", "control"},
    "commands": {
        "_stats", "_version", "cli", "control", "coordinator", "demo", "errors", "keeper", "later", "loadgen",
        "log", "snapshot", "worker",
    },
    "__main__": {"cli"},
    "__init__": {"_version"},
    "_testing": _DATA_PLANE | {"control", "coordinator", "keeper", "worker"},
}  # fmt: skip

# Inside a role: each module may import those before it.
ORDER: Final[dict[str, list[str]]] = {
    "worker": [
        "_state", "_hand", "_count", "_querylog", "_links", "_ask", "_send", "_tcp_pool", "_tcp_table",
        "_tcp_stream", "_tcp", "_pending", "_serve", "_udp", "_loop",
    ],
    "coordinator": [
        "_net", "_random", "_timers", "_space", "_shard", "_store", "_hand", "_queue", "_state", "_channels",
        "_deaths", "_delivery", "_inflight", "_report", "_upstream", "_health", "_rotation", "_prefer",
        "_labels", "_names", "_rewrite", "_hosts", "_slow", "_table", "_sweep", "_judge", "_stored",
        "_conclude", "_query", "_policy", "_tls", "_connection", "_tcp", "_udp",
        "_probe", "_cut", "_ahead", "_ask", "_exchange", "_settle", "_take", "_resume", "_loop",
        "_coordinator",
    ],
    "keeper": ["_posix", "_children", "_addresses", "_groups", "_mailbox", "_roll", "_plane", "_loop"],
}  # fmt: skip

# Only the coordinator writes the cache, and only by this module; the tests' wrappers reach it too.
STORE: Final = "fastdns.coordinator._store"


def part_of(module: str) -> str:
    name = module.split(".")[1] if "." in module else "__init__"
    return SAME_PART.get(name, name)


def violations(edges: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong with these (importer, imported) pairs."""
    table = {**ALLOWED, **ROLES, **OUTSIDE}
    found = []
    for importer, imported in edges:
        source, target = part_of(importer), part_of(imported)
        if source not in table:
            found.append(f"{importer}: the tables of {Path(__file__).name} have no row for {source!r}")
        elif source == target:
            order = ORDER.get(source, [])
            lower, upper = (name.split(".")[-1] for name in (imported, importer))
            if {lower, upper} <= set(order) and order.index(lower) > order.index(upper):
                found.append(f"{importer} imports {imported}, which stands after it in ORDER")
        elif target not in table[source]:
            found.append(f"{importer} imports {imported}: {source} may not use {target}")
        if imported == STORE and source not in ("coordinator", "_testing"):
            found.append(f"{importer} imports {imported}: only the coordinator writes the cache")
    return found


def all_edges() -> list[tuple[str, str]]:
    return [
        (module_name(path), imported)
        for path in source_files()
        if path.suffix != ".h"
        for imported in sorted(imports(path))
    ]


def test_imports_follow_the_layers() -> None:
    edges = all_edges()
    assert len(edges) > 50, "the sources were not read"
    assert violations(edges) == []


def test_the_layers_have_no_cycle() -> None:
    table = {**ALLOWED, **ROLES, **OUTSIDE}
    done: set[str] = set()
    while len(done) < len(table):
        ready = {name for name, uses in table.items() if name not in done and uses <= done}
        assert ready, f"a cycle among {sorted(set(table) - done)}"
        done |= ready


def test_no_role_may_import_another() -> None:
    for role, allowed in ROLES.items():
        assert not allowed & (ROLES.keys() | OUTSIDE.keys()), role


@pytest.mark.parametrize("role", ORDER)
def test_the_order_inside_a_role_is_whole(role: str) -> None:
    compiled = {path.stem for suffix in (".pyx", ".pxd") for path in (PACKAGE / role).glob(f"*{suffix}")}
    assert compiled == set(ORDER[role])


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("fastdns.worker._loop", "fastdns.coordinator._judge"),
        ("fastdns.worker._udp", "fastdns._response"),
        ("fastdns.worker._serve", "fastdns.coordinator._store"),
        ("fastdns.commands.stats", "fastdns.coordinator._store"),
        ("fastdns.coordinator._loop", "fastdns._wire"),
        ("fastdns._wire", "fastdns._cache"),
        ("fastdns._cache", "fastdns.worker._state"),
        ("fastdns.keeper.process", "fastdns.control.model"),
        ("fastdns.newcomer", "fastdns._shm"),
    ],
)
def test_the_test_finds(importer: str, imported: str) -> None:
    assert violations([(importer, imported)])


def test_cython_imports_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sample.pyx"
    path.write_text(
        "from fastdns cimport _name\nfrom fastdns._shm cimport (\n    fd_load64,  # why\n    fd_store64,\n)\n"
        "cimport fastdns._wire\nimport fastdns.errors\nfrom libc.stdint cimport uint8_t\n"
        "def f():\n    from fastdns.worker import _loop\n"
    )
    assert imports(path) == {
        "fastdns._name", "fastdns._shm", "fastdns._wire", "fastdns.errors", "fastdns.worker._loop"
    }  # fmt: skip
