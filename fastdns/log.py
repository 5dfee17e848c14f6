# SPDX-License-Identifier: Apache-2.0
"""Log lines of Python code: on stderr, in node-cache's form. The data plane writes none."""

import contextlib
import os
import select

_STDERR = 2


def info(text: str) -> None:
    """What happened as it should."""
    _write("INFO", text)


def warning(text: str) -> None:
    """What somebody should look at; the server goes on."""
    _write("WARNING", text)


def error(text: str) -> None:
    """What went wrong."""
    _write("ERROR", text)


def plain(text: str) -> None:
    """Lines without a level: what CoreDNS prints at its start."""
    _send(f"{text}\n")


def _write(level: str, text: str) -> None:
    _send(f"[{level}] {text}\n")


def _send(text: str) -> None:
    # What nobody reads is lost: a process that waits for the reader of its log serves nobody.
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    if any(events & select.POLLOUT for _, events in poll.poll(0)):
        with contextlib.suppress(OSError):
            os.write(_STDERR, text.encode(errors="replace"))
