# SPDX-License-Identifier: Apache-2.0
"""The keeper's addresses with a clock of the test's own and the kernel's real lifetimes."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastdns._testing.keeper import Addresses
from tests.system.netns import Network, network, skip_without_network_namespaces

pytestmark = skip_without_network_namespaces

INET, INET6 = "169.254.20.10", "fd53::10"
LIFETIME_S = 2
ENODEV, ENOSPC = 19, 28


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as one, one.entered():
        yield one


def found(net: Network) -> dict[str, int]:
    """The addresses of lo with their valid lifetime, s; for good is 4294967295."""
    text = subprocess.run(
        ["ip", "-n", net.name, "-j", "address", "show", "dev", "lo"], capture_output=True, check=True
    ).stdout
    infos: list[dict[str, Any]] = json.loads(text)[0]["addr_info"]
    return {one["local"]: one["valid_life_time"] for one in infos if one["local"] in (INET, INET6)}


def keep(
    addresses: Addresses, text: str, lifetime_s: int = LIFETIME_S, now_ms: int = 0, interface: int = 1
) -> int:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return int(addresses.keep(family, interface, socket.inet_pton(family, text), lifetime_s, now_ms))


def tick_through(addresses: Addresses, start_ms: int, end_ms: int, beats: int | None = None) -> None:
    """A tick each 100 ms; `beats` stands for a heartbeat that stands still, None for one that moves."""
    for now_ms in range(start_ms, end_ms, 100):
        assert not addresses.tick(now_ms if beats is None else beats, now_ms)


def test_an_address_is_there_at_once_for_two_seconds(net: Network) -> None:
    addresses = Addresses()
    assert keep(addresses, INET) == keep(addresses, INET6) == 0
    assert found(net) == {INET: LIFETIME_S, INET6: LIFETIME_S}
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.bind((INET6, 53))  # not tentative
    began = time.monotonic()
    while found(net):
        assert time.monotonic() - began < LIFETIME_S + 1.5
        time.sleep(0.05)
    assert time.monotonic() - began > LIFETIME_S - 0.5


def test_it_is_renewed_twice_a_second(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 10_000)
    assert addresses.state["renewals"] == 19
    assert addresses.state["trips"] == 0


def test_a_permanent_address_gets_a_lifetime(net: Network) -> None:
    net.add_address(f"{INET}/32")
    net.add_address(f"{INET6}/128")
    assert set(found(net).values()) == {2**32 - 1}
    addresses = Addresses()
    assert keep(addresses, INET) == keep(addresses, INET6) == 0
    assert found(net) == {INET: LIFETIME_S, INET6: LIFETIME_S}


def test_a_permanent_one_can_be_kept_so(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET, lifetime_s=0)
    tick_through(addresses, 0, 100)
    tick_through(addresses, 100, 6000, beats=1)
    assert found(net) == {INET: 2**32 - 1}
    addresses.clear()
    assert found(net) == {INET: 2**32 - 1}, "an address without a lifetime stays behind"


def test_one_that_somebody_removed_comes_back(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 500)
    subprocess.run(["ip", "-n", net.name, "address", "del", f"{INET}/32", "dev", "lo"], check=True)
    tick_through(addresses, 500, 1000)
    assert found(net) == {INET: LIFETIME_S}


def test_without_a_worker_that_moves_nothing_is_renewed(
    net: Network, capfd: pytest.CaptureFixture[str]
) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 1000)
    renewals = addresses.state["renewals"]
    tick_through(addresses, 1000, 4500, beats=900)
    assert addresses.state["renewals"] - renewals <= 2, "the last second's heartbeat counts, no older one"
    assert (addresses.state["away"], addresses.state["trips"]) == (True, 1)
    assert "no worker has moved for" in capfd.readouterr().err
    # The return is at once after the first trip, and real.
    tick_through(addresses, 4500, 4700)
    assert (addresses.state["away"], addresses.state["returns"]) == (False, 1)
    assert found(net) == {INET: LIFETIME_S}
    assert "back after" in capfd.readouterr().err


def test_a_pause_within_the_lifetime_is_no_trip(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    for start in range(0, 20_000, 2000):
        tick_through(addresses, start, start + 600)
        tick_through(addresses, start + 600, start + 2000, beats=start + 500)
    assert addresses.state["trips"] == 0


def test_the_second_trip_within_a_minute_waits(net: Network, capfd: pytest.CaptureFixture[str]) -> None:
    waits = []
    for _ in range(12):
        addresses = Addresses()
        keep(addresses, INET)
        tick_through(addresses, 0, 1000)
        tick_through(addresses, 1000, 5000, beats=900)
        tick_through(addresses, 5000, 6000)
        tick_through(addresses, 6000, 10_000, beats=5900)
        assert (addresses.state["trips"], addresses.state["away"]) == (2, True)
        tick_through(addresses, 10_000, 10_200)
        assert addresses.state["away"]
        due_ms = addresses.state["return_ms"]
        waits.append(due_ms - 10_000)
        tick_through(addresses, 10_200, due_ms)
        assert addresses.state["away"]
        tick_through(addresses, due_ms, due_ms + 200)
        assert not addresses.state["away"]
    assert all(1000 <= one <= 10_100 for one in waits)
    assert len(set(waits)) > 6, "random"
    assert "second trip within a minute" in capfd.readouterr().err


def test_a_wait_ends_when_the_workers_stand_still_again(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 1000)
    tick_through(addresses, 1000, 5000, beats=900)
    tick_through(addresses, 5000, 6000)
    tick_through(addresses, 6000, 10_000, beats=5900)
    tick_through(addresses, 10_000, 10_300)
    tick_through(addresses, 10_300, 30_000, beats=10_200)
    assert addresses.state["away"]
    assert addresses.state["return_ms"] == 0


def test_a_trip_a_minute_later_does_not_wait(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 1000)
    tick_through(addresses, 1000, 5000, beats=900)
    tick_through(addresses, 5000, 70_000)
    tick_through(addresses, 70_000, 74_000, beats=69_900)
    tick_through(addresses, 74_000, 74_200)
    assert (addresses.state["trips"], addresses.state["away"]) == (2, False)


def test_a_keeper_that_was_held_says_so(net: Network, capfd: pytest.CaptureFixture[str]) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 1000)
    addresses.tick(3500, 3500, late=True)
    assert (addresses.state["trips"], addresses.state["returns"]) == (1, 1)
    assert "the keeper was held for" in capfd.readouterr().err


def test_late_ticks_are_no_worker_that_stands_still(net: Network) -> None:
    """A machine without CPU time: the keeper's ticks are 0.6 s apart, and the workers get less."""
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 1000)
    for now_ms in range(1500, 60_000, 600):
        addresses.tick(now_ms // 4000, now_ms, late=True)
    assert addresses.state["trips"] == 0


def test_late_ticks_excuse_nobody_for_ever(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    tick_through(addresses, 0, 1000)
    for now_ms in range(1500, 20_000, 600):
        addresses.tick(900, now_ms, late=True)
    assert addresses.state["away"]


def test_forgotten_ones_are_gone_at_once(net: Network) -> None:
    addresses = Addresses()
    keep(addresses, INET)
    keep(addresses, INET6)
    assert addresses.forget(socket.AF_INET, socket.inet_pton(socket.AF_INET, INET)) == 0
    assert list(found(net)) == [INET6]
    assert addresses.forget(socket.AF_INET, socket.inet_pton(socket.AF_INET, INET)) == 0, "not kept: no error"
    assert addresses.forget(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, INET6), leave=True) == 0
    assert list(found(net)) == [INET6]
    keep(addresses, INET6)
    addresses.clear()
    assert found(net) == {}


def test_an_interface_that_is_not_there(net: Network, capfd: pytest.CaptureFixture[str]) -> None:
    addresses = Addresses()
    assert keep(addresses, INET, interface=4711) == ENODEV
    tick_through(addresses, 0, 5000)
    assert capfd.readouterr().err.count("4711") == 1, "said once"
    assert keep(addresses, INET, interface=1) == 0, "told anew where it is"
    assert found(net) == {INET: LIFETIME_S}
    assert addresses.state["count"] == 1


def test_a_full_table_is_an_error(net: Network) -> None:
    addresses = Addresses()
    for number in range(32):
        assert keep(addresses, f"198.51.100.{number}") == 0
    assert keep(addresses, INET) == ENOSPC


def test_a_server_that_nothing_replaces_leaves(net: Network) -> None:
    addresses = Addresses()
    addresses.exit_after(5000)
    tick_through(addresses, 0, 1000)
    tick_through(addresses, 1000, 5900, beats=900)
    assert addresses.tick(900, 6000)
