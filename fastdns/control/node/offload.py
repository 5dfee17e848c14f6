# SPDX-License-Identifier: Apache-2.0
"""A blocking function in a short-lived child: control's loop goes on, and its memory stays small.

What the node needs (pyroute2, the output of nft and iptables) is used for moments and would be kept for life:
pyroute2 alone is 14 MiB. A fork costs 2 ms and takes all of that along when it ends.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

from setproctitle import setproctitle

from fastdns._process import reset_signals, set_parent_death_signal
from fastdns.errors import FastDNSError

Result = TypeVar("Result")

TIMEOUT_S = 30.0  #: three programs that wait for the xtables lock
_READ = 65536


class ChildError(FastDNSError):
    """The child died, hung, or met an error of ours; its text says which."""


async def offload(
    function: Callable[..., Result], *arguments: object, timeout_s: float = TIMEOUT_S
) -> Result:
    """The result of ``function(*arguments)``, run in a child. Raises what it raised, where that is a
    FastDNSError, else ChildError.

    Control has one thread, so a fork in the middle of its loop finds no lock held.
    """
    near, far = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(near)
        os.close(far)
        raise ChildError(f"{function.__name__}: {error.strerror}") from None
    if pid == 0:
        _be_child(function, arguments, far)
    os.close(far)
    try:
        data = await asyncio.wait_for(_read_all(near), timeout_s)
    except TimeoutError:
        raise ChildError(f"{function.__name__}: no end after {timeout_s:.0f} s") from None
    finally:
        os.close(near)
        _end(pid)
    return _unpack(function.__name__, data)


async def _read_all(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    chunks: list[bytes] = []
    ended = loop.create_future()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(descriptor, _READ):
                chunks.append(chunk)
            loop.remove_reader(descriptor)
            if not ended.done():
                ended.set_result(None)

    loop.add_reader(descriptor, read)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
    return b"".join(chunks)


def _end(pid: int) -> None:
    """It has written all it had to say, or took too long."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _unpack(name: str, data: bytes) -> Result:  # type: ignore[type-var]
    if not data:
        raise ChildError(f"{name}: its process died")
    outcome = pickle.loads(data)  # from our own fork, over a pipe that nobody else has
    if isinstance(outcome, FastDNSError):
        raise outcome
    result: Result = outcome[0]
    return result


def _be_child(function: Callable[..., object], arguments: tuple[object, ...], descriptor: int) -> NoReturn:
    code = 1
    try:
        reset_signals()
        set_parent_death_signal(signal.SIGKILL)
        setproctitle(f"fastdns: {function.__name__.replace('_', ' ').strip()}")
        try:
            data = pickle.dumps((function(*arguments),))
        except FastDNSError as error:
            data = pickle.dumps(error)
        except Exception as error:  # said here with its lines, there in one
            traceback.print_exc()
            sys.stderr.flush()
            data = pickle.dumps(ChildError(f"{function.__name__}: {error!r}"))
        with open(descriptor, "wb") as pipe:
            pipe.write(data)
        code = 0
    finally:
        os._exit(code)
