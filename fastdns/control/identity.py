# SPDX-License-Identifier: Apache-2.0
"""What the data plane runs as: two uids, so that a worker can't signal or trace the coordinator."""

import os
from pathlib import Path

from fastdns.control.model import Identity

WORKER_UID = 64101
COORDINATOR_UID = 64102
GID = 64101

# capabilities(7): to become them, and for the keeper to signal them when they have become them.
_CAP_KILL, _CAP_SETGID, _CAP_SETUID = 5, 6, 7


def choose_identity(root: Path = Path("/")) -> Identity:
    """Two uids of their own where we are root and may change to them, else what we are.

    root: where /proc lies; tests give a tree of their own.
    """
    if os.geteuid() != 0 or not _has_capabilities(root):
        return Identity()
    if not all(_is_mapped(root / "proc/self/uid_map", uid) for uid in (WORKER_UID, COORDINATOR_UID)):
        return Identity()
    if not _is_mapped(root / "proc/self/gid_map", GID):
        return Identity()
    return Identity(WORKER_UID, COORDINATOR_UID, GID)


def _has_capabilities(root: Path) -> bool:
    for line in (root / "proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return all(effective >> bit & 1 for bit in (_CAP_KILL, _CAP_SETGID, _CAP_SETUID))
    return False


def _is_mapped(file: Path, number: int) -> bool:
    """Whether the user namespace has this uid or gid; user_namespaces(7)."""
    for line in file.read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= number < first + count:
            return True
    return False
