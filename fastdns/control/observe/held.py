# SPDX-License-Identifier: Apache-2.0
"""The sockets of /metrics, /health and /ready, as the keeper holds them for control's next life.

While control is replaced they listen on: a probe's connection waits in the backlog instead of being refused.
"""

import socket
from collections.abc import Callable, Iterable, Mapping

from fastdns.control.observe.listen import Address
from fastdns.protocol import MAX_HTTP

Hold = Callable[[int, int], object]  #: of a place and a descriptor
Release = Callable[[int], object]


class HeldSockets:
    """Which of them the keeper has. Beyond MAX_HTTP there is no place: those close with control."""

    def __init__(self, hold: Hold, release: Release, found: Mapping[int, int]) -> None:
        """found: descriptors from the keeper, by place; they are ours from now on."""
        self._hold = hold
        self._release = release
        self._found: dict[Address, socket.socket] = {}
        self._places: dict[Address, int] = {}
        for place, descriptor in found.items():
            one = socket.socket(fileno=descriptor)
            self._found[_bound(one)] = one
            self._places[_bound(one)] = place

    def find(self, address: Address) -> socket.socket | None:
        """The socket that listens on a resolved address since an earlier life; the caller owns it then."""
        host, port = address
        for one in (host,) if host else ("::", "0.0.0.0"):
            if (one, port) in self._found:
                return self._found.pop((one, port))
        return None

    def keep(self, sockets: Iterable[socket.socket]) -> None:
        """Have the keeper hold these and no others, the first as long as there are places.

        Raises KeeperError.
        """
        wanted = {_bound(one): one for one in sockets}
        for address in self._places.keys() - wanted.keys():
            self._release(self._places.pop(address))
        free = [place for place in range(MAX_HTTP) if place not in self._places.values()]
        for address in [one for one in wanted if one not in self._places][: len(free)]:
            place = free.pop(0)
            self._hold(place, wanted[address].fileno())
            self._places[address] = place
        for one in self._found.values():
            one.close()
        self._found.clear()


def _bound(one: socket.socket) -> Address:
    host, port, *_ = one.getsockname()
    return host, port
