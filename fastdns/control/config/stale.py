# SPDX-License-Identifier: Apache-2.0
"""Stale answers of a block: what `serve_stale` says, or what is done where it doesn't (RFC 8767)."""

import math
from dataclasses import dataclass
from typing import Final

from fastdns.control.config.cache import Cache, ServeStale
from fastdns.control.config.model import Settings
from fastdns.control.model import Limits
from fastdns.proto import STALE_REPLY_TTL

_SECONDS_MAX: Final = 2**32 - 1
_TTL_MAX: Final = 65535  #: s; a stale answer's, of more use to nobody
_RECHECK_MAX_S: Final = 300  #: RFC 8767 section 5: no more than 5 minutes
_RECHECK_S: Final = 30.0  #: the same section's example


@dataclass(frozen=True, slots=True)
class Stale:
    """As ``control.model.Block`` has it."""

    stale_s: int = 0
    stale_wait_ms: int = 0
    stale_ttl_s: int = STALE_REPLY_TTL
    recheck_ms: int = 0


def stale_of(cache: Cache, settings: Settings, cluster: bool) -> Stale:
    """What a block does with expired answers. Its failure recheck timer runs also where CoreDNS's default is
    none: it ends with the upstream's return, and at most 1 s after a failure that upstream answered itself.
    """
    if cache.serve_stale is not None:
        return _as_said(cache.serve_stale)
    if cluster:
        return Stale()
    return Stale(
        _seconds(settings.stale_s),
        math.ceil(settings.stale_wait_s * 1000),
        STALE_REPLY_TTL,
        round(_RECHECK_S * 1000),
    )


def _as_said(stale: ServeStale) -> Stale:
    """`immediate [RESPONSE_TTL [RECHECK]]`, or `verify [TIMEOUT [RESPONSE_TTL [RECHECK]]]`."""
    wait_ms, times_s = 0, stale.times_s
    if stale.mode == "verify":
        # Without a time upstream gets as much as there is: a failure is told earlier.
        whole_ms = Limits().client_deadline_ms
        wait_ms = min(math.ceil(times_s[0] * 1000), whole_ms) if times_s and times_s[0] else whole_ms
        times_s = times_s[1:]
    ttl_s = times_s[0] if times_s else 0.0
    recheck_s = times_s[1] if len(times_s) > 1 else _RECHECK_S
    return Stale(
        _seconds(stale.duration_s),
        wait_ms,
        min(int(ttl_s), _TTL_MAX),
        round(min(recheck_s, _RECHECK_MAX_S) * 1000),
    )


def _seconds(value_s: float) -> int:
    return min(math.ceil(value_s), _SECONDS_MAX)
