# SPDX-License-Identifier: Apache-2.0
"""`cache` and its options."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastdns.control.config import kinds as k
from fastdns.control.config.declare import Arg, Option, Plugin, Rest
from fastdns.control.model import PREFETCH_HITS

CACHE_CAPACITY: Final = 10000

#: Highest TTL of a class where the file says nothing, s.
CACHE_TTLS: Final = {"success": 3600, "denial": 1800}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheClass:
    """Bounds of one class of answers."""

    capacity: Annotated[int, Arg("CAPACITY", k.Int(0), "entries; a soft quota of the block")]
    ttl_max_s: Annotated[int, Arg("TTL", k.Int(1), "highest TTL, s; `cache TTL` where it isn't said")] = 0
    ttl_min_s: Annotated[int, Arg("MINTTL", k.Int(0), "lowest TTL, s")] = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch:
    """When to ask again for a name in use before it expires."""

    amount: Annotated[int, Arg("AMOUNT", k.Int(0), "hits that make a name popular; 0 turns it off")]
    duration_s: Annotated[
        float, Arg("DURATION", k.Duration(), "the hits are not further apart than this")
    ] = 60.0
    percent: Annotated[int, Arg("PERCENT", k.Percent(10, 90), "of the TTL left when it is asked again")] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeStale:
    """Answers from expired entries."""

    duration_s: Annotated[float, Arg("DURATION", k.Duration(), "how long after its end")] = 3600.0
    mode: Annotated[
        str,
        Arg("MODE", k.Choice(("immediate", "verify"), any_case=True), "before or after upstream is asked"),
    ] = "immediate"
    times_s: Annotated[
        tuple[float, ...],
        Rest(
            "TIME",
            k.Duration(),
            "immediate: [RESPONSE_TTL [RECHECK]]; verify: [TIMEOUT [RESPONSE_TTL [RECHECK]]]",
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDisable:
    """A class that isn't kept, for some names."""

    what: Annotated[str, Arg("CLASS", k.Choice(("success", "denial")), "the class")]
    zones: Annotated[
        tuple[str, ...], Rest("ZONES", k.Zones(), "names at or below these; all if none is said")
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache(Plugin):
    """Keeps answers. Every reply of the block, from the cache or not, carries one TTL for all records, within
    the bounds of its class.
    """

    ttl_s: Annotated[int | None, Arg("TTL", k.Int(1), "highest TTL of both classes, s", when=r"-?[0-9]+")] = (
        None
    )
    zones: Annotated[
        tuple[str, ...],
        Rest("ZONES", k.Zones(), "only names at or below these; the block's keys if none is said"),
    ] = ()
    success: Annotated[
        CacheClass, Option("success", CacheClass, "answers with records; TTL 3600 where nothing is said")
    ] = CacheClass(capacity=CACHE_CAPACITY, ttl_max_s=CACHE_TTLS["success"])
    denial: Annotated[
        CacheClass, Option("denial", CacheClass, "NXDOMAIN and NODATA; TTL 1800 where nothing is said")
    ] = CacheClass(capacity=CACHE_CAPACITY, ttl_max_s=CACHE_TTLS["denial"])
    prefetch: Annotated[
        Prefetch,
        Option(
            "prefetch",
            Prefetch,
            "ask again for names in use before they expire; 4 hits where nothing is said",
        ),
    ] = Prefetch(amount=PREFETCH_HITS)
    serve_stale: Annotated[
        ServeStale | None,
        Option(
            "serve_stale",
            ServeStale,
            "use expired entries; not said: as the `fastdns` block's `stale`, but for the cluster's zones",
        ),
    ] = None
    serve_stale_policy: Annotated[
        str | None,
        Option("serve_stale_policy", k.Choice(("prefer_positive",), any_case=True),
               "an expired answer with records stays where a refresh finds none", since="1.14.7"),
    ] = None  # fmt: skip
    servfail_s: Annotated[
        float, Option("servfail", k.Duration(0, 300), "how long failures are kept; 0: not at all")
    ] = 5.0
    disable: Annotated[
        tuple[CacheDisable, ...],
        Option("disable", CacheDisable, "don't keep a class; the last line of a class counts", repeated=True),
    ] = ()
    keepttl: Annotated[bool, Option("keepttl", None, "hits carry the TTL they were stored with")] = False
