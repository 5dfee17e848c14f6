# SPDX-License-Identifier: Apache-2.0
"""Calls of prctl(2): what a child does at its birth (child.py), what the keeper does at its own."""

import os

from libc.errno cimport errno

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
    enum:
        PR_SET_CHILD_SUBREAPER
        PR_SET_NO_NEW_PRIVS
        PR_SET_PDEATHSIG


def set_no_new_privs() -> None:
    """No exec of this process gains privileges from now on. Raises OSError."""
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(errno, f"PR_SET_NO_NEW_PRIVS: {os.strerror(errno)}")


def set_parent_death_signal(unsigned long number) -> None:
    """Have the kernel send signal ``number`` when the parent dies. Raises OSError.

    A change of uid clears it, and a parent that died before the call is not noticed: the
    caller compares its parent's PID afterwards.
    """
    if prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(errno, f"PR_SET_PDEATHSIG: {os.strerror(errno)}")


def become_subreaper() -> None:
    """Have orphans among our descendants given to us, as PID 1 has them. Raises OSError."""
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(errno, f"PR_SET_CHILD_SUBREAPER: {os.strerror(errno)}")
