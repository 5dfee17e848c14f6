# SPDX-License-Identifier: Apache-2.0
"""The package multiprocess, without the pickler that it would bring along.

It imports dill, dill half of the standard library: 3 MiB in the keeper, and in each child the pages of it
that a reference count touches. Processes are only forked here, nothing is pickled. Where somebody else
imported dill before, or does so later, nothing changes for them.
"""

import sys

_ABSENT = "dill" not in sys.modules
if _ABSENT:
    sys.modules["dill"] = None  # type: ignore[assignment]  # its import fails, which multiprocess expects

import multiprocess  # noqa: E402  # after the line above, on purpose
import multiprocess.popen_fork  # noqa: E402  # or the first fork would, when the keeper's memory is frozen

if _ABSENT:
    del sys.modules["dill"]

__all__ = ["multiprocess"]
