# SPDX-License-Identifier: Apache-2.0
"""Everything that a scrape shows, read once: shared memory, /proc, and what control itself knows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdns import _stats
from fastdns.control.observe.names import BlockName, Facts, Names, SeriesName
from fastdns.control.observe.processes import Queue, Usage, receive_queues, usage
from fastdns.control.segments import Segments

if TYPE_CHECKING:
    from fastdns._stats import BlockSeries, Board, Ledger, LogState, Post, Region, Series, UpstreamSeries


@dataclass(frozen=True, slots=True)
class Figures:
    """One moment of the server."""

    names: Names
    facts: Facts
    board: "Board"
    post: "Post"
    regions: "list[Region]"
    series: "list[dict[int, Series]]"  #: by worker
    upstreams: "dict[int, UpstreamSeries]"
    blocks: "dict[int, BlockSeries]"
    logs: "list[LogState]"
    ledger: dict[str, int]
    usage: Usage
    queues: dict[int, Queue]

    @classmethod
    def take(cls, segments: Segments, names: Names, facts: Facts, ledger: "Ledger") -> "Figures":
        """Read all of it. Raises SegmentError."""
        board = _stats.read_board(segments.board)
        upstreams, blocks = _stats.read_post_series(segments.post)
        pids = [board["pid"], *(one["pid"] for one in board["children"] if one["state"] == "running")]
        return cls(
            names=names,
            facts=facts,
            board=board,
            post=_stats.read_post(segments.post),
            regions=[_stats.read_region(one) for one in segments.regions],
            series=[_stats.read_series(one) for one in segments.regions],
            upstreams=upstreams,
            blocks=blocks,
            logs=[_stats.read_log(one) for one in segments.logs],
            ledger=ledger.read(),
            usage=usage(pids),
            queues=receive_queues(names.endpoints, board["pid"]),
        )

    def counter(self, name: str) -> int:
        """A counter of the data and upstream planes, over all processes."""
        return self.post["counters"][name] + sum(one["counters"][name] for one in self.regions)

    def all_series(self) -> "Iterator[tuple[SeriesName, Series]]":
        """What each worker counted for each pair of listener and zone."""
        for one in self.series:
            for number, series in one.items():
                name = self.names.series.get(number)
                if name is not None:
                    yield name, series

    def counted(self) -> "Iterator[tuple[SeriesName, Series]]":
        """Those that count under coredns_dns_*: blocks with `prometheus`, and what no zone took."""
        return ((name, series) for name, series in self.all_series() if name.counted)

    def cached(self) -> "Iterator[tuple[SeriesName, str, Series]]":
        """Those of blocks with `cache`, with the zones that the cache is for."""
        for name, series in self.all_series():
            if name.cached and name.block is not None:
                block = self.names.blocks.get(name.block)
                yield name, name.zone if block is None else block.zones, series

    def named_blocks(self) -> "Iterator[tuple[BlockName, BlockSeries]]":
        """What the coordinator counted for each server block."""
        for number, series in self.blocks.items():
            name = self.names.blocks.get(number)
            if name is not None:
                yield name, series

    def named_upstreams(self) -> "Iterator[tuple[str, bool, UpstreamSeries]]":
        """What it counted for each upstream, by address and port, and whether that is asked with TLS."""
        for number, series in self.upstreams.items():
            if number in self.names.upstreams:
                yield self.names.upstreams[number], number in self.names.tls, series
