# SPDX-License-Identifier: Apache-2.0
"""What /proc says about the server's processes together, and about its sockets.

The server is one to its operator, so CPU, memory and descriptors are sums over all of its processes. What
may not be read (other uids, fewer capabilities) is left out.
"""

import os
import resource
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fastdns.control.addresses import Endpoint

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NO_LIMIT = float(2**64)
_ATTEMPTS = 3  #: at a sum over processes of which one is reaped meanwhile


@dataclass(frozen=True, slots=True)
class Usage:
    """All processes together. Octets, seconds."""

    cpu_s: float
    resident: int  #: each shared page once
    virtual: int
    virtual_max: float
    open_fds: int
    max_fds: int
    started_s: float  #: of the keeper, since the epoch
    received: int  #: by the network namespace
    sent: int


def usage(pids: Iterable[int], proc: Path = Path("/proc")) -> Usage:
    """pids: the keeper's first, then its children's."""
    family = list(dict.fromkeys(pids))
    keeper = _stat(proc, family[0])
    received, sent = _network(proc)
    virtual_max, _ = resource.getrlimit(resource.RLIMIT_AS)
    return Usage(
        cpu_s=_cpu_ticks(proc, family) / _TICKS,
        resident=sum(_resident(proc, pid) for pid in family),
        virtual=sum(int(_stat(proc, pid)[_VSIZE]) for pid in family),
        virtual_max=_NO_LIMIT if virtual_max == resource.RLIM_INFINITY else float(virtual_max),
        open_fds=sum(_open_fds(proc, pid) for pid in family),
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        started_s=_boot_time(proc) + int(keeper[_START]) / _TICKS,
        received=received,
        sent=sent,
    )


# Fields of /proc/PID/stat behind the command's closing bracket; proc(5) counts from 3 there.
_UTIME, _STIME, _CUTIME, _CSTIME, _START, _VSIZE = 11, 12, 13, 14, 19, 20
_NOTHING = ["0"] * 24


def _stat(proc: Path, pid: int) -> list[str]:
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _NOTHING
    return text.rpartition(")")[2].split()


def _cpu_ticks(proc: Path, family: list[int]) -> int:
    """CPU time of these and of all their dead children.

    A child that is reaped while we add up moves into its parent's sum: that would count it twice or not at
    all, so the parent's is read before and after.
    """
    total = 0
    for _ in range(_ATTEMPTS):
        reaped = _stat(proc, family[0])[_CUTIME : _CSTIME + 1]
        total = sum(int(word) for pid in family for word in _stat(proc, pid)[_UTIME : _CSTIME + 1])
        if _stat(proc, family[0])[_CUTIME : _CSTIME + 1] == reaped:
            break
    return total


def _resident(proc: Path, pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, IndexError):  # without the right to ptrace: what is surely its own
        _, resident, shared, *_ = (proc / str(pid) / "statm").read_text().split()
        return (int(resident) - int(shared)) * _PAGE
    return 0


def _open_fds(proc: Path, pid: int) -> int:
    with suppress(OSError):
        return len(list((proc / str(pid) / "fd").iterdir()))
    return 0


def _boot_time(proc: Path) -> float:
    with suppress(OSError, ValueError):
        for line in (proc / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
    return 0.0


def _network(proc: Path) -> tuple[int, int]:
    """Octets received and sent, IPv4, as Go's client has them."""
    with suppress(OSError, ValueError, IndexError):
        rows = [line.split() for line in (proc / "net" / "netstat").read_text().splitlines()]
        for names, values in pairwise(rows):
            if names[0] == values[0] == "IpExt:" and "InOctets" in names:
                found = dict(zip(names, values, strict=True))
                return int(found["InOctets"]), int(found["OutOctets"])
    return 0, 0


@dataclass(slots=True)
class Queue:
    """The kernel's receive queues of one address, all sockets together."""

    octets: int = 0
    drops: int = 0


def receive_queues(
    endpoints: dict[int, Endpoint], keeper: int, proc: Path = Path("/proc")
) -> dict[int, Queue]:
    """What waits in the UDP sockets of each listener, and what the kernel has dropped there.

    Only sockets that the keeper holds count, where that may be read; else all on the address.
    """
    wanted = {(one.host, one.port): number for number, one in endpoints.items()}
    inodes = _socket_inodes(proc, keeper)
    found = {number: Queue() for number in endpoints}
    for file in ("udp", "udp6"):
        for address, inode, octets, drops in _udp_sockets(proc / "net" / file):
            number = wanted.get(address)
            if number is not None and (inodes is None or inode in inodes):
                found[number].octets += octets
                found[number].drops += drops
    return found


def _socket_inodes(proc: Path, pid: int) -> set[str] | None:
    """Of the sockets that a process holds; None where that may not be read."""
    folder = proc / str(pid) / "fd"
    try:
        links = list(folder.iterdir())
    except OSError:
        return None
    found = set()
    for link in links:
        with suppress(OSError):  # closed since
            target = str(link.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def _udp_sockets(file: Path) -> Iterator[tuple[tuple[str, int], str, int, int]]:
    """Address, inode, octets that wait and drops of each socket in /proc/net/udp or udp6."""
    try:
        lines = file.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, IndexError):
            words = line.split()
            host, _, port = words[1].partition(":")
            queued = words[4].partition(":")[2]
            yield (_host(host), int(port, 16)), words[9], int(queued, 16), int(words[12])


def _host(text: str) -> str:
    # Words of 32 bits in the machine's order.
    words = [int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8)]
    packed = b"".join(words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
