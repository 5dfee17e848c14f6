# SPDX-License-Identifier: Apache-2.0
"""zone_find against a model in plain Python: longest match, DS, groups, numbers that nothing has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._testing.zones import Zones
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.model import Listener, Upstream, Zone, plain_config

A, DS = 1, 43
NO_SERIES = 0xFFFF
PLAIN = plain_config((Endpoint("127.0.0.1", 53),), (Upstream(Endpoint("127.0.0.1", 9)),), 1)

# Few labels, so that names meet zones; one of 63 octets, and names of up to 127 labels.
labels = st.sampled_from(["a", "b", "ab", "cluster", "local", "x" * 63])
names = st.lists(labels, max_size=3) | st.lists(st.just("a"), max_size=126)
zone_lists = st.lists(st.tuples(names, st.integers(0, 2)), max_size=24)


@contextmanager
def open_zones(
    zones: list[Zone | None], series: tuple[tuple[int, int | None, int], ...] = ()
) -> Iterator[Zones]:
    descriptor = create_config(replace(PLAIN, zones=tuple(zones), series=series))
    try:
        yield Zones(descriptor)
    finally:
        os.close(descriptor)


def absolute(name: list[str]) -> dns.name.Name | None:
    """None: the sample is too long to be a name."""
    try:
        return dns.name.Name([*(label.encode() for label in name), b""])
    except dns.name.NameTooLong:
        return None


def model(zones: list[Zone | None], group: int, qname: dns.name.Name, qtype: int) -> int | None:
    """The longest zone; for DS the shortest but the root."""
    above = {
        len(dns.name.from_text(zone.name)): number
        for number, zone in enumerate(zones)
        if zone is not None and zone.group == group and qname.is_subdomain(dns.name.from_text(zone.name))
    }
    below_root = [depth for depth in above if depth > 1]
    if qtype == DS and below_root:
        return above[min(below_root)]
    return above[max(above)] if above else None


@given(zone_lists, st.lists(names, min_size=1, max_size=8), st.sampled_from([A, DS]), st.data())
def test_same_zone_as_the_model(
    chosen: list[tuple[list[str], int]], asked: list[list[str]], qtype: int, data: st.DataObject
) -> None:
    zones: list[Zone | None] = []
    seen = set()
    for name, group in chosen:
        full = absolute(name)
        if full is None or (full, group) in seen:
            zones.append(None)  # a number that nothing has any more
            continue
        seen.add((full, group))
        zones.append(Zone(full.to_text(), group=group, block=0))
    with open_zones(zones) as tables:
        for name in asked + [name for name, _ in chosen]:
            qname = absolute(data.draw(st.lists(labels, max_size=2)) + name)
            if qname is None:
                continue
            octets = qname.to_wire()
            assert octets is not None
            for group in range(4):
                assert tables.find(group, octets, qtype) == model(zones, group, qname, qtype)
        for number, zone in enumerate(zones):
            assert tables.used(number) == (zone is not None)
        assert not tables.used(len(zones))
        assert not tables.used(0xFFFF)


@pytest.mark.parametrize(
    ("qname", "qtype", "zone"),
    [
        ("sub.parent.", A, 2),
        ("sub.parent.", DS, 1),
        ("deep.sub.parent.", DS, 1),
        ("parent.", DS, 1),
        ("other.", DS, 0),
        ("apparent.", A, 0),
        (".", A, 0),
    ],
)
def test_ds_is_the_parents(qname: str, qtype: int, zone: int) -> None:
    """A label's end is no zone's end, and DS for a cut goes to the block above it."""
    zones: list[Zone | None] = [Zone(name, group=0, block=0) for name in (".", "parent.", "sub.parent.")]
    with open_zones(zones) as tables:
        octets = dns.name.from_text(qname).to_wire()
        assert octets is not None
        assert tables.find(0, octets, qtype) == zone


def test_series_of_zones_and_of_what_none_takes() -> None:
    zones: list[Zone | None] = [Zone(".", group=0, block=0), None]
    with open_zones(zones, ((0, 0, 7), (0, None, 3))) as tables:
        assert [tables.series(0, zone) for zone in (0, 1, 2, 0xFFFF)] == [7, NO_SERIES, 3, 3]
        assert tables.series(1, 0) == NO_SERIES


def test_no_zones_at_all() -> None:
    with open_zones([]) as tables:
        assert tables.find(0, b"\0", A) is None
        assert not tables.used(0)


def test_listeners_may_be_missing() -> None:
    """A slot that no address has any more stays empty; the others keep theirs."""
    listeners = (None, Listener(Endpoint("127.0.0.1", 53)))
    descriptor = create_config(replace(PLAIN, listeners=listeners, series=((1, None, 0),)))
    try:
        assert Zones(descriptor).series(1, 9) == 0
    finally:
        os.close(descriptor)
