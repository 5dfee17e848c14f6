# SPDX-License-Identifier: Apache-2.0
"""A blocking function in a short-lived child: control's loop goes on, and its memory stays small.

What the node needs (pyroute2, the output of nft and iptables), a Corefile's grammar, a scrape's library: all
of it is used for moments and would be kept for life; pyroute2 alone is 14 MiB. A fork costs 2 ms and takes
that along when it ends.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar, cast

from fastdns.control.apart import Apart, ApartError
from fastdns.control.lean_asyncio import asyncio

Result = TypeVar("Result")

TIMEOUT_S = 30.0  #: several programs that may wait for the xtables lock


async def offload(
    function: Callable[..., Result],
    *arguments: object,
    keep: Iterable[int] = (),
    timeout_s: float = TIMEOUT_S,
) -> Result:
    """The result of ``function(*arguments)``, run in a child that keeps these descriptors.

    Raises what it raised, where that is a FastDNSError, else ApartError. Cancelled: nothing that the child
    has started goes on when this ends.
    """
    loop = asyncio.get_running_loop()
    work = Apart(function, arguments, frozenset(keep))
    ended = asyncio.Event()

    def on_readable() -> None:
        if work.read():
            loop.remove_reader(work.descriptor)
            ended.set()

    loop.add_reader(work.descriptor, on_readable)
    try:
        async with asyncio.timeout(timeout_s):  # wait_for of Python 3.11 may swallow a cancellation
            await ended.wait()
        return cast("Result", work.outcome())
    except TimeoutError:
        raise ApartError(f"{work.name}: no end after {timeout_s:.0f} s") from None
    finally:
        loop.remove_reader(work.descriptor)
        work.end()
