# SPDX-License-Identifier: Apache-2.0
"""Who else serves on an address: another process's sockets, from /proc/net.

kubespray runs a second DaemonSet of node-cache on the same address while the first is upgraded. Such an
address is not ours alone, so it is neither given a lifetime nor taken away.
"""

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTEN = 0x0A  # TCP_LISTEN; a UDP socket that is not connected shows TCP_CLOSE
_UNCONNECTED = 0x07
_TABLES = (("udp", _UNCONNECTED), ("udp6", _UNCONNECTED), ("tcp", _LISTEN), ("tcp6", _LISTEN))


def foreign_listeners(
    addresses: Iterable[str], port: int, processes: Iterable[int], proc: Path = Path("/proc")
) -> frozenset[str]:
    """Those of the addresses on which a socket listens that none of our processes has.

    processes: control and the keeper, in the order in which a socket goes from one to the next. After them
    come their children: a worker has what a reload took from the keeper until it is replaced.
    """
    wanted = set(addresses)
    found = {(address, inode) for address, inode in _listeners(proc, port) if address in wanted}
    if not found:
        return frozenset()
    parents = tuple(processes)
    family = [*parents, *(child for pid in parents for child in _children(proc, pid))]
    ours = {inode for pid in family for inode in _inodes(proc, pid)}
    there = {inode for _, inode in _listeners(proc, port)}  # one that was closed meanwhile was ours, too
    return frozenset(address for address, inode in found if inode not in ours and inode in there)


def _listeners(proc: Path, port: int) -> Iterator[tuple[str, int]]:
    for name, state in _TABLES:
        try:
            lines = (proc / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # no IPv6 in this kernel
        for line in lines:
            fields = line.split()
            host, _, number = fields[1].partition(":")
            if int(number, 16) == port and int(fields[3], 16) == state:
                yield _address(host), int(fields[9])


def _address(text: str) -> str:
    # Words of 32 bits, each in host order: little-endian on all machines that Kubernetes has.
    octets = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET6 if len(octets) == 16 else socket.AF_INET, octets)


def _children(proc: Path, pid: int) -> list[int]:
    try:
        return [int(one) for one in (proc / f"{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []  # a kernel without CONFIG_PROC_CHILDREN


def _inodes(proc: Path, pid: int) -> Iterator[int]:
    try:
        entries = list((proc / str(pid) / "fd").iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # closed since
        if target.startswith("socket:["):
            yield int(target[8:-1])
