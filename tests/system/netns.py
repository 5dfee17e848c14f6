# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: a loopback of one's own, on which port 53 and any address are free.

    with network() as net, net.entered():
        net.add_address("192.0.2.1/32")
        ...                       # sockets and children made here belong to the namespace

Needs root and a kernel with namespaces; `skip_without_network_namespaces` says so.
"""

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _can_make_namespaces() -> bool:
    if os.geteuid() != 0:
        return False
    return (
        subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode
        == 0
    )


skip_without_network_namespaces = pytest.mark.skipif(
    not _can_make_namespaces(), reason="needs root and network namespaces: unshare --net --mount"
)


def ip(*arguments: str) -> None:
    """The ip command; its error text is the exception's."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    """A network namespace with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def add_address(self, address: str, device: str = "lo") -> None:
        """`address` with its prefix length, ready at once: no duplicate address detection."""
        extra = ["nodad"] if ":" in address else []
        ip("-n", self.name, "address", "add", address, "dev", device, *extra)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, is in the namespace until the end of the block."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Path(f"/run/netns/{self.name}").open("rb") as there:
                _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A namespace that is gone at the end of the block."""
    name = f"fastdns-{os.getpid()}-{secrets.token_hex(3)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield Network(name)
    finally:
        ip("netns", "delete", name)


def join_networks(one: Network, other: Network) -> None:
    """A cable between two namespaces: device `cable` in both."""
    ip(
        "link",
        "add",
        "cable",
        "netns",
        one.name,
        "type",
        "veth",
        "peer",
        "name",
        "cable",
        "netns",
        other.name,
    )
    for net in (one, other):
        ip("-n", net.name, "link", "set", "cable", "up", "addrgenmode", "none")


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
