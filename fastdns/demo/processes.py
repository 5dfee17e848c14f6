# SPDX-License-Identifier: Apache-2.0
"""Child processes that never outlive the demo, and what /proc says about them."""

import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastdns._process import set_parent_death_signal

_STOP_S: Final = 8.0  # a server may take 5 s to finish what its clients wait for
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a process and all of its descendants."""

    processes: int
    cpu_s: float
    pss_octets: int


@contextlib.contextmanager
def running(arguments: Sequence[str], read_line: bool = False) -> Iterator["subprocess.Popen[str]"]:
    """``python -m`` with these arguments, in a process group of its own (Ctrl-C is for the demo alone).

    At the end it gets SIGTERM and time to finish, then its whole group SIGKILL. When the demo is
    killed, the kernel sends the SIGTERM. `read_line` makes its standard output a pipe.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if read_line else None,
        text=True,
        process_group=0,
        preexec_fn=functools.partial(set_parent_death_signal, signal.SIGTERM),  # noqa: PLW1509 - no threads
    )
    try:
        yield process
    finally:
        _stop(process)
        if process.stdout is not None:
            process.stdout.close()


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def first_line(process: "subprocess.Popen[str]", timeout: float) -> str | None:
    """The first line that the process prints; None when it ends or stays silent until the timeout."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout)
    line = process.stdout.readline() if ready else ""
    return line.rstrip("\n") if line.endswith("\n") else None


def wait_until(condition: Callable[[], bool], timeout: float, step: float = 0.01) -> bool:
    """Whether `condition` came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step)
    return True


def figures(pid: int) -> Figures:
    """CPU time so far and memory now of `pid` and its descendants."""
    tree = _descendants(pid)
    return Figures(len(tree), sum(map(_cpu_s, tree)), sum(map(_pss_octets, tree)))


def _descendants(pid: int) -> list[int]:
    tree = [pid]
    for parent in tree:  # grows while it is walked
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                tree += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return tree


def _cpu_s(pid: int) -> float:
    total_ns = 0
    with contextlib.suppress(OSError):
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                total_ns += int((task / "schedstat").read_text(encoding="ascii").split()[0])
            return total_ns / 1e9
        except FileNotFoundError:  # a kernel without schedstat counts in ticks
            after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            return (int(after_name[11]) + int(after_name[12])) * _TICK_S
    return 0.0


def _pss_octets(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
