# SPDX-License-Identifier: Apache-2.0
"""fastdns/proto.py says what fastdns/_proto.pxd says, and both what dnspython knows."""

import re
from enum import IntEnum, IntFlag
from pathlib import Path

import dns.edns
import dns.flags
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

import fastdns
from fastdns import proto

PXD = Path(fastdns.__file__).parent / "_proto.pxd"

#: The .pxd's enums in their order: prefix of their names, and the Python class (None: the module itself).
BLOCKS: list[tuple[str, type[IntEnum] | type[IntFlag] | None]] = [
    ("", None),
    ("FLAG_", proto.Flag),
    ("", proto.Rcode),
    ("TYPE_", proto.RRType),
    ("CLASS_", proto.RRClass),
    ("OPTION_", proto.Option),
    ("EDE_", proto.Ede),
]


def pxd_blocks() -> list[dict[str, int]]:
    """Names and values of each enum in the .pxd."""
    blocks = PXD.read_text().split("cdef enum:")[1:]
    found = [re.findall(r"^    (\w+) = (\w+)", block, re.MULTILINE) for block in blocks]
    return [{name: int(value, 0) for name, value in pairs} for pairs in found]


def test_every_enum_is_mirrored() -> None:
    assert len(pxd_blocks()) == len(BLOCKS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_names_and_values_agree(number: int) -> None:
    prefix, mirror = BLOCKS[number]
    theirs = pxd_blocks()[number]
    assert theirs
    if mirror is proto.Flag:
        assert theirs.pop("OPT_FLAG_DO") == proto.OPT_FLAG_DO
    if mirror is None:
        plain = {
            name: value for name, value in vars(proto).items() if name.isupper() and isinstance(value, int)
        }
        plain.pop("OPT_FLAG_DO")
        assert plain == theirs
    else:
        assert {prefix + name: int(member) for name, member in mirror.__members__.items()} == theirs


def test_numbers_are_those_of_the_registries() -> None:
    for rcode in proto.Rcode:
        assert dns.rcode.to_text(dns.rcode.Rcode(rcode)) in (
            rcode.name,
            "BADSIG" if rcode == 16 else rcode.name,
        )
    for rdtype in proto.RRType:
        assert dns.rdatatype.to_text(dns.rdatatype.RdataType(rdtype)) in (rdtype.name, f"TYPE{int(rdtype)}")
    for rdclass in proto.RRClass:
        assert dns.rdataclass.to_text(dns.rdataclass.RdataClass(rdclass)) == rdclass.name
    for ede in proto.Ede:
        assert dns.edns.EDECode(ede).name == ede.name
    for name in ("QR", "AA", "TC", "RD", "RA", "AD", "CD"):
        assert int(dns.flags.Flag[name]) == int(proto.Flag[name])
    assert int(dns.flags.EDNSFlag.DO) == proto.OPT_FLAG_DO
    assert int(dns.edns.OptionType.EDE) == int(proto.Option.EDE)
