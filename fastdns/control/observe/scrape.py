# SPDX-License-Identifier: Apache-2.0
"""A scrape, in a process of its own: the library and the figures would be 2 MiB of control for good.

A process costs some 30 ms of CPU each time, a thousandth of a core where somebody scrapes every 30 s, and
control's loop goes on meanwhile.
"""

from fastdns.control.lean_asyncio import asyncio
from fastdns.control.observe.names import Facts, Names
from fastdns.control.offload import offload
from fastdns.control.segments import Segments

_LIMIT_S = 5.0  #: a scraper's own patience is 10 s


class Scraper:
    """One scrape at a time, whoever asks."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._turn = asyncio.Lock()

    async def scrape(self, names: Names, facts: Facts, gzipped: bool) -> bytes:
        """The exposition. Raises FastDNSError."""
        async with self._turn:
            one = self._segments
            keep = {one.config, one.board, one.post, one.ledger, *one.regions, *one.logs}
            return await offload(expose, one, names, facts, gzipped, keep=keep, timeout_s=_LIMIT_S)


def expose(segments: Segments, names: Names, facts: Facts, gzipped: bool) -> bytes:
    """In the process: read all of it, and write it down. Raises SegmentError."""
    import gzip

    from fastdns._stats import Ledger
    from fastdns.control.observe.exposition import render
    from fastdns.control.observe.figures import Figures
    from fastdns.control.observe.metrics import Collector

    text = render(Collector(Figures.take(segments, names, facts, Ledger(segments.ledger))))
    return gzip.compress(text, 1, mtime=0) if gzipped else text
