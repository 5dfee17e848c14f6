# SPDX-License-Identifier: Apache-2.0
"""Modules that are loaded at their first use, and what a server does without."""

import subprocess
import sys

import pytest

from fastdns.later import postpone
from tests.system.server import default_environment

NAME = "colorsys"  # of the library, and needed by nobody here


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, NAME, raising=False)


@pytest.mark.usefixtures("absent")
def test_loaded_at_the_first_use() -> None:
    postpone(NAME)
    import colorsys

    assert "rgb_to_hsv" not in vars(colorsys)
    assert colorsys.rgb_to_hsv(0.0, 0.0, 1.0) == (2 / 3, 1.0, 1.0)
    assert "rgb_to_hsv" in vars(sys.modules[NAME])
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = colorsys.no_such_thing  # type: ignore[attr-defined]


@pytest.mark.usefixtures("absent")
def test_the_form_from_import_is_a_use() -> None:
    postpone(NAME)
    from colorsys import hsv_to_rgb

    assert hsv_to_rgb(0.0, 0.0, 1.0) == (1.0, 1.0, 1.0)


def test_what_is_loaded_stays() -> None:
    postpone("sys")
    assert sys.modules["sys"] is sys


@pytest.mark.parametrize("command", ["nodecache", "serve"])
def test_a_server_does_without(command: str) -> None:
    """Not even to make its dataclasses, each of which has a docstring."""
    program = f"""
import sys
import fastdns.commands.{command}
import fastdns.control.config.nodecache, fastdns.control.onnode, fastdns.control.observe.log
import fastdns.control.life, fastdns.control.process
import fastdns.coordinator.process, fastdns.worker.process, fastdns.keeper.process
print(*sorted({{"ast", "dill", "dis", "gzip", "ssl"}} & set(sys.modules)))
later = ("asyncio.sslproto", "inspect", "ipaddress", "locale")
print(*(name for name in later if len(vars(sys.modules[name])) > 9))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=default_environment(),
    )
    assert done.stdout.split() == []
