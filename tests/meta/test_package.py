# SPDX-License-Identifier: Apache-2.0
"""The package as others get it: a wheel from a clean tree and from an sdist, installed, and answering."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.meta.sources import PACKAGE, ROOT
from tests.meta.test_source import repository_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("FASTDNS_", "PYTHON"))}


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=_CLEAN | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(command)}:\n{output[-3000:]}"
    return output


def build(kind: str, source: Path, out: Path) -> Path:
    """Let the build backend, as pip does, make a wheel or sdist of `source`."""
    out.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", code, str(out), cwd=source)
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist made of a copy of the repository's files alone."""
    tree = tmp_path_factory.mktemp("clean") / "fastdns"
    for path in repository_files():
        copy = tree / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return build("sdist", tree, tmp_path_factory.mktemp("sdist") / "out")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from that sdist."""
    scratch = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch, filter="data")
    (tree,) = scratch.iterdir()
    return build("wheel", tree, scratch / "out")


def test_the_sdist_has_all_sources(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {
        str(path.relative_to(ROOT))
        for path in repository_files()
        if path.is_relative_to(PACKAGE)
        or path.parent == ROOT / "docs"
        or path.name in ("LICENSE", "setup.py")
    }
    assert expected - names == set()
    assert not any(name.endswith((".so", ".pyc")) for name in names)


def test_the_wheel_has_what_runs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = [path for path in PACKAGE.rglob("*.pyx") if path.parent.name != "_testing"]
    stems = {name.partition(".")[0] for name in names if name.endswith(".so")}
    assert stems == {str(path.relative_to(ROOT).with_suffix("")) for path in modules}
    assert not any("_testing" in name or name.endswith((".pyx", ".c")) for name in names)
    for name in ("py.typed", "_layout.h", "_wire.pxd", "_stats.pyi", "demo/cluster.zone"):
        assert f"fastdns/{name}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_wheel_answers(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
        cwd=tmp_path,
    )
    code = "import fastdns; print(fastdns.__file__)"
    assert run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(site)).startswith(str(site))
    script = str(site / "bin" / "node-cache")
    version = run(sys.executable, "-P", script, "-version", cwd=tmp_path, PYTHONPATH=str(site))
    assert version.startswith("fastdns-")
    shown = run(
        *(sys.executable, "-P", "-m", "fastdns", "demo", "--once", "--load-seconds", "0.2"),
        *("--listen", "127.0.0.1:5391"),
        cwd=tmp_path,
        PYTHONPATH=str(site),
    )
    assert "hit ratio" in shown


def test_a_debug_build_in_place_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(
        command, cwd=ROOT, env={**_CLEAN, "FASTDNS_DEBUG": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "make debug" in done.stderr
