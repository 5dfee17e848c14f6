# SPDX-License-Identifier: Apache-2.0
"""What /health and /ready say.

/health is honest but slow to say no: the kubelet kills DNS on the node for it, and on all busy nodes at once
if load alone were enough. It says no only when no worker has moved for 15 s although each was replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdns._stats import Post, Region

DEAD_S = 15.0  #: without any worker's heartbeat
STALE_S = 2.0  #: a worker that has not moved for so long is not ready; the keeper replaces it after 1.5 s
_GAP_S = 3.0  #: between two looks: we stood still ourselves, and know nothing of the time between


@dataclass(slots=True)
class _Seen:
    """A worker's heartbeat, as it was last seen."""

    heartbeat: int
    moved_s: float  #: when it was seen to move
    starts: int  #: of the worker, at that time


class Watch:
    """The workers' heartbeats over time. Times are time.monotonic's; look once a second."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._looked_s = 0.0

    def look(self, regions: "Sequence[Region]", now_s: float) -> None:
        """Note what has moved."""
        late = now_s - self._looked_s > _GAP_S
        self._looked_s = now_s
        for one in regions:
            seen = self._seen.get(one["index"])
            if seen is None or late or seen.heartbeat != one["heartbeat"]:
                self._seen[one["index"]] = _Seen(one["heartbeat"], now_s, one["starts"])

    def healthy(self, regions: "Sequence[Region]", now_s: float) -> bool:
        """Whether any worker moved within 15 s, or one has not been replaced since."""
        self.look(regions, now_s)
        return not regions or any(
            now_s - self._seen[one["index"]].moved_s <= DEAD_S
            or one["starts"] == self._seen[one["index"]].starts
            for one in regions
        )

    def missing(self, regions: "Sequence[Region]", post: "Post", now_s: float) -> list[str]:
        """The processes that don't serve at the moment."""
        self.look(regions, now_s)
        found = [
            f"worker-{one['index']}"
            for one in regions
            if not one["serving"] or now_s - self._seen[one["index"]].moved_s > STALE_S
        ]
        return found if post["serving"] else [*found, "coordinator"]
