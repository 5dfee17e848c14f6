# SPDX-License-Identifier: Apache-2.0
"""The figures of a running server, from its shared memory.

Nothing is asked of the server: the keeper's descriptors are found in /proc and mapped
read-only, so this works with control dead, too. The same uid as the keeper's, or root, may.
"""

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fastdns import _stats
from fastdns._segments import now_ms
from fastdns.errors import NoServerError

_KEEPER = "fastdns: keeper"  # 15 octets: as much as the kernel keeps of a title
_SEGMENT = re.compile(r"/memfd:fastdns-([a-z0-9-]+) \(deleted\)")


def find_keepers(proc: Path = Path("/proc")) -> list[int]:
    """PIDs of the keepers that run here."""
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "comm").read_text().rstrip("\n") == _KEEPER:
                found.append(int(entry.name))
        except OSError:
            continue  # it has gone meanwhile
    return sorted(found)


def choose_keeper(pid: int | None = None) -> int:
    """The keeper with this PID, or the only one. Raises NoServerError."""
    keepers = find_keepers()
    if pid is not None:
        if pid not in keepers:
            raise NoServerError(f"process {pid} is no fastdns keeper; found: {keepers or 'none'}")
        return pid
    if not keepers:
        raise NoServerError("no running server found: no process has the title 'fastdns: keeper'")
    if len(keepers) > 1:
        raise NoServerError(f"several servers run, choose one with --pid: {', '.join(map(str, keepers))}")
    return keepers[0]


def take(pid: int) -> dict[str, Any]:
    """All figures of the server whose keeper has this PID. Raises NoServerError, SegmentError."""
    with open_segments(pid) as segments:
        try:
            board = _stats.read_board(segments["board"])
            config = _stats.read_config(segments["config"])
            post = _stats.read_post(segments["coordinator"])
            cache = _stats.read_cache(segments["cache"])
            regions = [_stats.read_region(segments[f"worker-{i}"]) for i in range(board["workers"])]
        except KeyError as error:
            raise NoServerError(f"process {pid} has no segment {error}: it starts or stops") from None
    now = now_ms()
    return {
        "keeper": {
            "pid": pid,
            "uptime_s": _seconds(now - board["started_ms"]),
            "ticks": board["ticks"],
            "late_ticks": board["late_ticks"],
            "addresses": board["addresses"],
            "addresses_away": bool(board["addresses_away"]),
            "address_trips": board["address_trips"],
            "address_returns": board["address_returns"],
        },
        "config": {
            "number": config["number"],
            "listen": [_address(*one) for one in config["listeners"]],
            "upstream": [("tcp://" if one[3] else "") + _address(*one[:3]) for one in config["upstreams"]],
        },
        "children": [_child(one, now) for one in board["children"]],
        "workers": list(regions),
        "coordinator": dict(post),
        "totals": totals(regions, post),
        "cache": {
            "size": cache["size"],
            "shards": cache["shards"],
            "slots": cache["slots"],
            "entries": post["entries"],
            "entry_octets": post["entry_octets"],
            "generation": cache["generation"],
        },
    }


def totals(regions: "list[_stats.Region]", post: "_stats.Post") -> dict[str, Any]:
    """Sums over the workers, and what follows from them. Percentages are None before the first query."""
    counters = {
        name: sum(one["counters"][name] for one in regions) + post["counters"][name]
        for name in _stats.COUNTERS
    }
    shares = [one["counters"]["udp_queries"] + one["counters"]["tcp_queries"] for one in regions]
    return {
        "queries": sum(shares),
        "replies": counters["replies_udp"] + counters["replies_tcp"],
        "hit_percent": _percent(counters["hits"], counters["hits"] + counters["misses"]),
        "busiest_worker_percent": _percent(max(shares, default=0), sum(shares)),
        "pending": sum(one["pending"] for one in regions),
        "clients": sum(one["clients"] for one in regions),
        "tcp_connections": sum(one["tcp_connections"] for one in regions),
        "counters": counters,
    }


def _child(child: "_stats.Child", now: int) -> dict[str, Any]:
    running = child["state"] == "running"
    return {
        "role": child["role"],
        "index": child["index"],
        "pid": child["pid"],
        "state": child["state"],
        "restarts": child["restarts"],
        "stuck": child["stuck"],
        "uptime_s": _seconds(now - child["started_ms"]) if running else None,
        "last_death": _death(child["last_status"]) if child["died_ms"] else None,
    }


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"signal {number}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def _seconds(ms: int) -> float:
    return round(ms / 1000, 1)


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


def _address(host: str, port: int, scope: int) -> str:
    if ":" not in host:
        return f"{host}:{port}"
    return f"[{host}%{scope}]:{port}" if scope else f"[{host}]:{port}"


@contextmanager
def open_segments(pid: int) -> Iterator[Mapping[str, int]]:
    """Descriptors of the keeper's segments by name, for reading. Raises NoServerError."""
    with ExitStack() as stack:
        opened: dict[str, int] = {}
        directory = Path("/proc") / str(pid) / "fd"
        try:
            for entry in directory.iterdir():
                # The keeper's own descriptors stay; a duplicate that it makes for control may be closed, and
                # its number be another thing's, between each of these lines.
                with suppress(FileNotFoundError):
                    link = str(entry.readlink())
                    name = _SEGMENT.fullmatch(link)
                    if name and name[1] not in opened:
                        descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
                        stack.callback(os.close, descriptor)
                        if str(Path(f"/proc/self/fd/{descriptor}").readlink()) == link:
                            opened[name[1]] = descriptor
        except PermissionError:
            raise NoServerError(
                f"the memory of process {pid} can't be read; expected to run as the same user, or as root"
            ) from None
        except FileNotFoundError:
            raise NoServerError(f"process {pid} has gone") from None
        yield opened
