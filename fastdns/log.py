# SPDX-License-Identifier: Apache-2.0
"""Log lines of Python code: on stderr, in node-cache's form. The data plane writes none."""

import contextlib
import sys


def info(text: str) -> None:
    """What happened as it should."""
    _write("INFO", text)


def warning(text: str) -> None:
    """What somebody should look at; the server goes on."""
    _write("WARNING", text)


def error(text: str) -> None:
    """What went wrong."""
    _write("ERROR", text)


def _write(level: str, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more: no reason to stop serving
        sys.stderr.write(f"[{level}] {text}\n")
        sys.stderr.flush()
