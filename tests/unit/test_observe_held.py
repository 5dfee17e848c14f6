# SPDX-License-Identifier: Apache-2.0
"""Sockets that outlive control: which of them the keeper has."""

import os
import socket
from collections.abc import Iterator

import pytest

from fastdns.control.observe.held import HeldSockets
from fastdns.control.observe.listen import bind
from fastdns.protocol import MAX_HTTP


class Keeper:
    """Holds what it is told to hold."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}

    def hold(self, place: int, descriptor: int) -> None:
        assert place not in self.held
        self.held[place] = os.dup(descriptor)

    def release(self, place: int) -> None:
        os.close(self.held.pop(place))

    def next_life(self) -> HeldSockets:
        return HeldSockets(self.hold, self.release, {place: os.dup(one) for place, one in self.held.items()})

    def ports(self) -> set[int]:
        found = set()
        for one in self.held.values():
            with socket.socket(fileno=os.dup(one)) as sock:
                found.add(sock.getsockname()[1])
        return found


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    yield made
    for place in list(made.held):
        made.release(place)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_what_is_kept_is_found_in_the_next_life(keeper: Keeper) -> None:
    first = keeper.next_life()
    socks = [bind((host, 0), shared=True) for host in ("127.0.0.1", "::1", "")]
    addresses = [one.getsockname()[:2] for one in socks]
    assert first.find(addresses[0]) is None
    first.keep(socks)
    for one in socks:
        one.close()
    assert all(is_listening(port) for host, port in addresses if host != "::1")
    second = keeper.next_life()
    found = [second.find(one) for one in (addresses[0], addresses[1], ("", addresses[2][1]))]
    taken = [one for one in found if one is not None]
    assert [one.getsockname()[:2] for one in taken] == addresses
    assert second.find(addresses[0]) is None, "it has an owner"
    second.keep(taken)
    assert keeper.ports() == {port for _, port in addresses}
    second.keep(taken[:1])
    for one in taken[1:]:
        one.close()
    assert keeper.ports() == {addresses[0][1]}
    assert not is_listening(addresses[2][1])
    taken[0].close()


def test_what_the_next_life_does_not_want_is_closed(keeper: Keeper) -> None:
    with bind(("127.0.0.1", 0), shared=True) as sock:
        keeper.next_life().keep([sock])
        port = sock.getsockname()[1]
    assert is_listening(port)
    keeper.next_life().keep([])
    assert not keeper.held
    assert not is_listening(port)


def test_there_are_so_many_places(keeper: Keeper) -> None:
    """What has none is closed with control, as everything else of it."""
    socks = [bind(("127.0.0.1", 0), shared=True) for _ in range(MAX_HTTP + 2)]
    life = keeper.next_life()
    life.keep(socks)
    assert sorted(keeper.held) == list(range(MAX_HTTP))
    assert keeper.ports() == {one.getsockname()[1] for one in socks[:MAX_HTTP]}, "the first"
    life.keep(socks[-2:])
    assert keeper.ports() == {one.getsockname()[1] for one in socks[-2:]}
    for one in socks:
        one.close()
