# SPDX-License-Identifier: Apache-2.0
"""The first acts of every child of the keeper (design, "Deaths").

A child is a fork of the keeper in the middle of its work. ``begin`` takes away what belongs to
the keeper (its signals, its descriptors, its rights) and makes sure that the child does not
outlive it.
"""

import contextlib
import os
import signal
from pathlib import Path

import multiprocess
from setproctitle import setproctitle

from fastdns._prctl import set_no_new_privs, set_parent_death_signal


def begin(title: str, keep: set[int], uid: int, gid: int) -> None:
    """Turn this fork of the keeper into a process of its own. Call it once, before anything else.

    title: what ``ps`` shows.
    keep: descriptors that stay open, beside 0, 1 and 2; all others are closed.
    uid, gid: what to run as; 0 keeps what we have. Without root both are left as they are.

    Raises OSError when a right can't be given up. Exits at once when the keeper has died.
    """
    _reset_signals()
    os.setsid()  # a terminal's Ctrl-C is for the keeper, which stops its children by their stop words
    _close_others(keep)
    _drop_rights(uid, gid)
    set_no_new_privs()
    set_parent_death_signal(signal.SIGKILL)  # after the change of uid, which clears it
    parent = multiprocess.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it died before the line above: no signal will come
    setproctitle(title)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    # Ignoring a signal discards it where it is pending: a Ctrl-C that came between fork and
    # setsid was meant for the keeper.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _close_others(keep: set[int]) -> None:
    # Not os.closerange up to SC_OPEN_MAX: without close_range(2) that is a thousand million calls.
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):  # the listing's own is closed already
                os.close(descriptor)


def _drop_rights(uid: int, gid: int) -> None:
    if os.geteuid() != 0 or uid == 0:
        return
    os.setgroups([])
    if gid:
        os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
