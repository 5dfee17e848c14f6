# SPDX-License-Identifier: Apache-2.0
"""A function in a short-lived process: what it imports and allocates is not kept for control's life.

Control has one thread, so a fork in the middle of its loop finds no lock held.

The process leads a group, in which the programs are that it starts (nft, iptables): whoever ends it before
its time ends them, too. Control has orphans among its descendants given to it, so it can wait for them.
"""

import contextlib
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

from fastdns import log
from fastdns._process import close_others, reset_signals, set_parent_death_signal
from fastdns.errors import FastDNSError

Result = TypeVar("Result")

_READ = 65536


class ApartError(FastDNSError):
    """The process died, hung, or met an error of ours; its text says which."""


class Apart:
    """A function at work in a process of its own; its outcome comes over a pipe."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        keep: frozenset[int] = frozenset(),
    ) -> None:
        """keep: descriptors that stay open in it. Raises ApartError when there is no process to be had."""
        self.name = function.__name__.replace("_", " ").strip()
        near, far = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = os.fork()
        except OSError as error:
            os.close(near)
            os.close(far)
            raise ApartError(f"{self.name}: {error.strerror}") from None
        if self._pid == 0:
            _be_child(function, arguments, far, keep)
        os.setpgid(self._pid, self._pid)  # here, too: whoever is first
        os.close(far)
        os.set_blocking(near, False)
        self.descriptor = near  #: readable when there is something of the outcome, or its end
        self._data = bytearray()

    def read(self) -> bool:
        """Take what is there of the outcome. Returns whether that was all."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.descriptor, _READ):
                self._data += chunk
            return True
        return False

    def outcome(self) -> object:
        """What the function returned. Raises what it raised, if that is a FastDNSError, else ApartError."""
        if not self._data:
            raise ApartError(f"{self.name}: its process died")
        found = pickle.loads(self._data)  # of our own fork, over a pipe that nobody else has
        if isinstance(found, FastDNSError):
            raise found
        return found[0]

    def end(self) -> None:
        """It has said all, or took too long: gone when this returns, with all that it started.

        A program in the middle of a change of the kernel's rules is waited for: it ends with that. Programs
        are waited for only by a process that is a subreaper, as control is (``become_subreaper``).
        """
        os.close(self.descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:  # itself first: only then are its orphans ours
                os.waitpid(-self._pid, 0)


def run_apart(function: Callable[..., Result], *arguments: object, timeout_s: float = 30.0) -> Result:
    """``function(*arguments)`` in a process of its own, waited for. Raises as ``Apart.outcome`` does."""
    work = Apart(function, arguments)
    try:
        poll = select.poll()
        poll.register(work.descriptor, select.POLLIN)
        until = time.monotonic() + timeout_s
        while not work.read():
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise ApartError(f"{work.name}: no end after {timeout_s:.0f} s")
        return work.outcome()  # type: ignore[return-value]
    finally:
        work.end()


def _be_child(
    function: Callable[..., object], arguments: tuple[object, ...], descriptor: int, keep: frozenset[int]
) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        reset_signals()
        set_parent_death_signal(signal.SIGKILL)
        close_others({descriptor, *keep})
        try:
            data = pickle.dumps((function(*arguments),))
        except FastDNSError as error:
            data = pickle.dumps(error)
        except Exception as error:  # said here with its lines, there in one
            log.error(f"control: {traceback.format_exc()}")
            data = pickle.dumps(ApartError(f"{function.__name__}: {error!r}"))
        with open(descriptor, "wb") as pipe:
            pipe.write(data)
        code = 0
    finally:
        os._exit(code)
