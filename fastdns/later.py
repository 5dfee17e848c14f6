# SPDX-License-Identifier: Apache-2.0
"""Modules that the library imports for what a server never does, loaded when something is asked of them.

What the keeper has imported is in its memory for good, and a page that a reference count touches in each
child's, too. These are 1.2 MiB: dataclasses and asyncio import inspect (and that ast and dis) for
signatures and messages, pathlib ipaddress by way of urllib.parse, subprocess locale.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands in a module's place until somebody wants something of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} yet")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def postpone(*names: str) -> None:
    """Have these modules loaded at their first use. What is there already stays as it is."""
    for name in names:
        sys.modules.setdefault(name, _Later(name))
