# SPDX-License-Identifier: Apache-2.0
"""The file of ``-pidfile``: it is there while the server answers."""

import contextlib
import os
from pathlib import Path

from fastdns import log


def write(file: Path, pid: int) -> None:
    """Say that the server with this keeper answers. A failure is logged, no more: it serves."""
    try:
        file.write_text(f"{pid}\n", encoding="ascii")
    except OSError as error:
        log.error(f"Failed to write pidfile {file}: {error.strerror}")


def remove(file: Path) -> None:
    """Take it away, unless it is another server's by now."""
    with contextlib.suppress(OSError, ValueError):
        if int(file.read_text(encoding="ascii")) == os.getpid():
            file.unlink()
