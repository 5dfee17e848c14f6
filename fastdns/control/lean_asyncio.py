# SPDX-License-Identifier: Apache-2.0
"""asyncio without ssl: control speaks TLS to nobody, and the library would take 1.3 MiB of its memory.

Import this before anything that imports asyncio. Where somebody else imported ssl before, or does so later,
nothing changes for them.
"""

import sys

_ABSENT = "ssl" not in sys.modules
if _ABSENT:
    sys.modules["ssl"] = None  # type: ignore[assignment]  # its import fails, which asyncio expects

import asyncio  # noqa: E402  # after the line above, on purpose

if _ABSENT:
    del sys.modules["ssl"]

__all__ = ["asyncio"]
