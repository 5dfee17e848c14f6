# SPDX-License-Identifier: Apache-2.0
"""What a run of load is asked to do (LoadSpec) and what came of it (LoadResult)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

RCODES = (
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
)


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run. Either `names` or `unique_suffix`; at least one of `seconds` and `count` bounds it."""

    server: tuple[str, int]
    names: Sequence[tuple[str, str | int]] = ()
    """(qname, qtype); a name that stands here twice is asked twice as often."""
    unique_suffix: str | None = None
    """Ask only names that were never asked before, under this suffix: every query is a miss."""
    qtype: str | int = "A"
    """Of the unique names."""
    order: Literal["sequential", "random"] = "sequential"
    edns: int | None = None
    """UDP size in the query's OPT record; None: no OPT."""
    dnssec_ok: bool = False
    seconds: float | None = None
    count: int | None = None
    window: int = 1024
    """Queries under way at most, all sockets together."""
    rate: float | None = None
    """Queries/s, evenly paced; None: as fast as the window allows."""
    sockets: int = 16
    timeout_s: float = 1.0
    """A reply that takes longer is late, not an answer."""
    verify: bool = True
    """Compare each reply's question with the query's."""
    wait: Literal["auto", "poll", "nap", "spin"] = "auto"
    """What to do while nothing comes: poll (exact times), nap (cheapest with a large window), spin."""

    def __post_init__(self) -> None:
        if bool(self.names) == (self.unique_suffix is not None):
            raise ValueError("give either names or a unique suffix")
        if self.seconds is None and self.count is None:
            raise ValueError("give seconds, a count, or both: a load without an end is not a measurement")
        for name, value in (
            ("window", self.window),
            ("sockets", self.sockets),
            ("timeout_s", self.timeout_s),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above 0, not {self.rate}")


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds from the system call that sent a query to the one that received its reply."""

    min: float = 0.0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The sum: sent = answered + timeouts (+ in_flight, in a progress report only)."""

    sent: int
    answered: int
    timeouts: int
    """Without a reply in time."""
    late: int
    """Of those, replies that came after the timeout."""
    lost: int
    """Of those, without any reply until the run ended."""
    stray: int
    """Messages that answer no query under way: duplicates, foreign IDs."""
    mismatched: int
    """Replies with a waiting query's ID and another question; they are not answers."""
    truncated: int
    refused: int
    """ICMP "port unreachable": nobody listens there."""
    send_errors: int
    held_back: int
    """At a fixed rate: the most queries that were due and could not be sent, because the window was full."""
    in_flight: int
    elapsed_s: float
    """From the first query to the last answer."""
    answers_per_s: float
    octets_in: int
    rcodes: dict[str, int] = field(default_factory=dict)
    latency_us: Latency = field(default_factory=Latency)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
