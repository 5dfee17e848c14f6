# SPDX-License-Identifier: Apache-2.0
"""The first acts of every child of the keeper (design, "Deaths").

A child is a fork of the keeper in the middle of its work. ``begin`` takes away what belongs to
the keeper (its signals, its descriptors, its rights) and makes sure that the child does not
outlive it.
"""

import os
import signal

from setproctitle import setproctitle

from fastdns._process import close_others, reset_signals, set_no_new_privs, set_parent_death_signal
from fastdns.forking import multiprocess


def begin(title: str, keep: set[int], uid: int, gid: int) -> None:
    """Turn this fork of the keeper into a process of its own. Call it once, before anything else.

    title: what ``ps`` shows.
    keep: descriptors that stay open, beside 0, 1 and 2; all others are closed.
    uid, gid: what to run as; 0 keeps what we have. Without root both are left as they are.

    Raises OSError when a right can't be given up. Exits at once when the keeper has died.
    """
    signal.set_wakeup_fd(-1)
    os.setsid()  # a terminal's Ctrl-C is for the keeper, which stops its children by their stop words
    reset_signals()  # after it: a Ctrl-C that came before was not for us
    close_others(keep)
    _drop_rights(uid, gid)
    set_no_new_privs()
    set_parent_death_signal(signal.SIGKILL)  # after the change of uid, which clears it
    parent = multiprocess.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it died before the line above: no signal will come
    setproctitle(title)


def _drop_rights(uid: int, gid: int) -> None:
    if os.geteuid() != 0 or uid == 0:
        return
    os.setgroups([])
    if gid:
        os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
