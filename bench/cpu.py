# SPDX-License-Identifier: Apache-2.0
"""CPU time of a server: all of its processes together, those that died on the way too."""

import contextlib
import os
import time
from pathlib import Path

from tests.peers.run import process_tree

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def _own_cpu_s(pid: int) -> float:
    """User and system time of all threads of `pid`, dead ones too, to the nanosecond.

    The kernel's clock of another process, which has no name in Python: clockid_t is the inverted PID above
    the three bits of the kind, CPUCLOCK_SCHED (include/linux/posix-timers.h). /proc/PID/stat has the same
    sum in hundredths.
    """
    return time.clock_gettime((~pid << 3) | 2)


def _dead_children_s(pid: int) -> float:
    """User and system time of the children of `pid` that it has reaped, and of theirs."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    # The command may hold blanks and brackets; field 3 (state) is the first after it.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * _TICK_S  # cutime, cstime


def tree_cpu_s(pid: int) -> float:
    """CPU seconds that `pid` and all of its descendants have used since they began."""
    total = 0.0
    for member in process_tree(pid):
        # One that ends under our eyes is counted by its parent, once that has reaped it.
        with contextlib.suppress(OSError):
            total += _own_cpu_s(member) + _dead_children_s(member)
    return total
