# SPDX-License-Identifier: Apache-2.0
"""The test cluster's zones: valid, the same each time, and with everything that tests count on."""

from pathlib import Path

import dns.zone
import pytest

from tests.peers import make_zone

MUST_HAVE = [
    ("nginx-svc.default.svc.cluster.local", "A"),
    ("nginx-svc.default.svc.cluster.local", "AAAA"),
    ("_http._tcp.nginx-svc.default.svc.cluster.local", "SRV"),
    ("kubernetes.default.svc.cluster.local", "A"),
    ("20.10.43.10.in-addr.arpa", "PTR"),
    ("external-db.shop.svc.cluster.local", "CNAME"),
    ("unknown.odd.cluster.local", "TYPE65400"),
    ("https.odd.cluster.local", "HTTPS"),
    ("db.example.test", "A"),
]


def test_zones_parse_and_hold_what_tests_ask_for(tmp_path: Path) -> None:
    files = make_zone.write(tmp_path)
    parsed = {
        name: dns.zone.from_file(str(path), origin=f"{name}.", relativize=False)
        for name, path in files.items()
    }
    for name, rtype in MUST_HAVE:
        zone = next(zone for zone_name, zone in parsed.items() if f".{name}".endswith(f".{zone_name}"))
        assert zone.get_rdataset(f"{name}.", rtype), f"{name} {rtype}"


def test_zones_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for directory in (first, second):
        directory.mkdir()
        make_zone.write(directory)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


@pytest.mark.parametrize("size", make_zone.HEADLESS_SIZES)
def test_headless_services_have_their_sizes(size: int) -> None:
    owner = f"headless-{size}.data.svc.cluster.local"
    records = make_zone.zones()[make_zone.CLUSTER]
    addresses = {record.rdata for record in records if (record.owner, record.rtype) == (owner, "A")}
    assert len(addresses) == size
    assert (f"_http._tcp.{owner}", "SRV") in make_zone.questions(make_zone.CLUSTER)


def test_no_rrset_is_asked_twice_and_no_wildcard_by_its_own_name() -> None:
    questions = make_zone.questions()
    assert len(questions) == len(set(questions)) > 3000
    assert not any(name.startswith("*") for name, _ in questions)
