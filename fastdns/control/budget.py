# SPDX-License-Identifier: Apache-2.0
"""The one place that splits the memory budget, and compares the whole with the cgroup's limit.

``--memory`` is what is shared between the processes: the cache, a region for each worker, and
the rest (TCP buffers, the coordinator's tables). Beside it stand the processes themselves and
the sockets' receive buffers, which the kernel takes when packets come. docs/shm-layout.md has
the table for the default.
"""

from dataclasses import dataclass, replace

from fastdns import _segments
from fastdns.control.cgroup import MemoryLimit
from fastdns.control.model import MIB
from fastdns.errors import MemoryLimitError, UsageError
from fastdns.protocol import Geometry

KIB = 1024

MEMORY_MIN = 8 * MIB
MEMORY_MAX = 1024 * MIB
MEMORY_DEFAULT = 16 * MIB
WORKERS_MAX = 16

# A worker's region in the default budget; the tables and the question ring scale with it.
_REGION_DEFAULT = 3 * MIB
_PENDING_DEFAULT = 4096
_QUESTIONS_DEFAULT = 64 * KIB
_ANSWERS_DEFAULT = 256 * KIB
_CLIENTS_A_QUESTION = 2

# Bounds of what scales. A record never wraps, so only a ring of twice the largest answer record
# (77,888 octets) always has room for it once it is empty.
_PENDING_MIN, _PENDING_MAX = 256, 32768
_QUESTIONS_MIN, _QUESTIONS_MAX = 16 * KIB, MIB
_ANSWERS_MIN, _ANSWERS_MAX = 256 * KIB, 4 * MIB
_REGION_MAX = 48 * MIB
_REST_MAX = 32 * MIB
_TCP_POOL_UNIT = 4 * KIB
_SERIES_MIN = (
    24  #: pairs of listener and zone that can be counted; RKE2's Corefile has 8, a reload may bring more
)
_LOG_MIN, _LOG_MAX = 16 * KIB, MIB
_LOG_SHARE = 64  #: of the rest, for each process that writes one
_LOG_SHARE_QUERIES = 2  #: for all of them together, where queries are logged: 160 ms at 20,000 a second

# Distinct pages without the segments; measured 35 MiB with two workers (docs/operations.md has the table).
_PROCESSES_BASE = 30 * MIB  #: keeper, control, coordinator
_PROCESSES_WORKER = 5 * MIB // 2

RCVBUF_MAX = 4 * MIB
RCVBUF_MIN = 256 * KIB
_RCVBUF_UNIT = 4 * KIB


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be allocated. All in octets."""

    geometry: Geometry
    memory: int  #: the budget
    processes: int
    rcvbuf: int  #: SO_RCVBUF to ask for; the kernel books twice that
    sockets: int  #: all receive buffers as booked

    @property
    def total(self) -> int:
        return self.memory + self.processes + self.sockets


def make_plan(
    memory: int,
    workers: int,
    listeners: int,
    limit: MemoryLimit | None,
    series: int = 0,
    log_queries: bool = False,
) -> Plan:
    """The plan for these options. Raises UsageError, and MemoryLimitError where it doesn't fit ``limit``.

    memory: octets, as --memory has it; series: pairs of listener and zone to be counted;
    log_queries: some zone has `log`.
    """
    geometry = split(memory, workers, max(_SERIES_MIN, 2 * series))
    if log_queries:
        share = min(memory // 8, _REST_MAX) / _LOG_SHARE_QUERIES / (workers + 1)
        geometry = replace(geometry, log=_power_of_two(share, geometry.log, _LOG_MAX))
    processes = _PROCESSES_BASE + workers * _PROCESSES_WORKER
    rcvbuf = RCVBUF_MAX
    booked = 2 * workers * listeners  # octets for each octet of SO_RCVBUF, all UDP sockets together
    if limit is not None:
        room = limit.octets - memory - processes
        rcvbuf = min(RCVBUF_MAX, max(RCVBUF_MIN, room // booked // _RCVBUF_UNIT * _RCVBUF_UNIT))
        if rcvbuf * booked > room:
            raise MemoryLimitError(
                f"memory: {_mib(memory)} budget + {_mib(processes)} processes"
                f" + {_mib(rcvbuf * booked)} socket buffers = {_mib(memory + processes + rcvbuf * booked)},"
                f" but {limit.where} allows {_mib(limit.octets)};"
                " expected a higher limit, a lower --memory, or fewer --workers or --listen"
            )
    return Plan(geometry, memory, processes, rcvbuf, rcvbuf * booked)


def split(memory: int, workers: int, series: int = _SERIES_MIN) -> Geometry:
    """The sizes of the segments for a budget of ``memory`` octets. Raises UsageError."""
    if not MEMORY_MIN <= memory <= MEMORY_MAX:
        raise UsageError(f"--memory {_mib(memory)}: expected {_mib(MEMORY_MIN)} to {_mib(MEMORY_MAX)}")
    if not 1 <= workers <= WORKERS_MAX:
        raise UsageError(f"--workers {workers}: expected 1 to {WORKERS_MAX}")
    geometry = _try_split(memory, workers, series)
    if geometry is None:
        enough = next(size for size in range(memory, MEMORY_MAX, MIB) if _try_split(size, workers, series))
        raise UsageError(f"--memory {_mib(memory)}: {workers} workers need at least {_mib(enough)}")
    return geometry


def _try_split(memory: int, workers: int, series: int) -> Geometry | None:
    # Default, 16 MiB and two workers: cache 8, regions 2 x 3, rest 2, of which half are TCP buffers and
    # three times 32 KiB log rings.
    rest = min(memory // 8, _REST_MAX)
    region = min(memory * 3 // 8 // workers, _REGION_MAX)
    cache = memory - rest - region * workers
    scale = region / _REGION_DEFAULT
    questions = _power_of_two(_QUESTIONS_DEFAULT * scale, _QUESTIONS_MIN, _QUESTIONS_MAX)
    answers = _power_of_two(_ANSWERS_DEFAULT * scale, _ANSWERS_MIN, _ANSWERS_MAX)
    slots = _segments.cache_slots(cache)

    def size(pending: int) -> int:
        return _segments.region_size(
            questions=questions,
            answers=answers,
            pending=pending,
            clients=pending * _CLIENTS_A_QUESTION,
            slots=slots,
            tcp=0,  # from the rest
            series=series,
        )

    pending = min(int(_PENDING_DEFAULT * scale), _PENDING_MAX)
    if size(pending) > region:  # what does not scale (batch, answer ring) leaves less in a small budget
        each = (size(_PENDING_MAX) - size(0)) / _PENDING_MAX
        pending = int((region - size(0)) / each) - 64
    pending = pending // 64 * 64
    if pending < _PENDING_MIN:
        return None
    return Geometry(
        workers=workers,
        cache=cache,
        questions=questions,
        answers=answers,
        pending=pending,
        clients=pending * _CLIENTS_A_QUESTION,
        tcp=rest // 2 // workers // _TCP_POOL_UNIT * _TCP_POOL_UNIT,
        series=series,
        log=_power_of_two(rest / _LOG_SHARE, _LOG_MIN, _LOG_MAX),
    )


def _power_of_two(value: float, low: int, high: int) -> int:
    power = low
    while power * 2 <= min(value, high):
        power *= 2
    return power


def _mib(octets: int) -> str:
    return f"{octets / MIB:.4g}M"
