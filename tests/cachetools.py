# SPDX-License-Identifier: Apache-2.0
"""Cache entries packed by hand, after docs/shm-layout.md: what the compiled code is compared with."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.wiretools import labels

HEADER = struct.Struct("<4Q3IH2B3H2B7H3B5xH")
UNIT = 16
ENTRY_MAX = 77888
POSITIVE, NODATA, NXDOMAIN, FAILURE = 1, 2, 3, 4
PREFERRED = 8  # of marks


def root_record(rdata: bytes = b"", rdtype: int = 1) -> bytes:
    """The shortest record there is, and its rdata."""
    return b"\0" + struct.pack("!HHIH", rdtype, 1, 60, len(rdata)) + rdata


@dataclass(frozen=True)
class Entry:
    """An fd_entry_t and what follows it. `records` as they go on the wire, their TTLs at `ttl_off`."""

    qname: bytes = labels(b"a", b"example")
    key_hash: int = 0x1234_0000_0000_0000
    records: bytes = root_record(b"\1\2\3\4")
    ttl_off: Sequence[int] = (5,)
    stored_ms: int = 0
    stale_mark: int = 0  #: epoch in the upper 16 bits, ms in the others
    fingerprint: int = 0
    slot_ref: int = 0
    ttl_s: int = 60
    stale_s: int = 0
    group: int = 0
    variant: int = 0
    key_flags: int = 0
    qtype: int = 1
    qclass: int = 1
    zone: int = 0
    plugin: int = 0
    marks: int = 0
    msg_flags: int = 0
    ancount: int = 1
    nscount: int = 0
    arcount: int = 0
    plain_len: int = 0
    kind: int = POSITIVE
    ext_rcode: int = 0

    def key(self) -> tuple[object, ...]:
        return (
            self.key_hash,
            self.group,
            self.variant,
            self.key_flags,
            self.qtype,
            self.qclass,
            self.qname,
        )

    def header(self) -> bytes:
        return HEADER.pack(
            self.key_hash,
            self.stored_ms,
            self.stale_mark,
            self.fingerprint,
            self.slot_ref,
            self.ttl_s,
            self.stale_s,
            self.group,
            self.variant,
            self.key_flags,
            self.qtype,
            self.qclass,
            self.zone,
            self.plugin,
            self.marks,
            self.msg_flags,
            self.ancount,
            self.nscount,
            self.arcount,
            len(self.records),
            len(self.ttl_off),
            self.plain_len,
            len(self.qname),
            self.kind,
            self.ext_rcode,
            0,  # told
        )

    def pack(self) -> bytes:
        name = self.header() + self.qname
        offsets = name + bytes(len(name) % 2) + struct.pack(f"<{len(self.ttl_off)}H", *self.ttl_off)
        return offsets + bytes(-len(offsets) % 8) + self.records

    def size(self) -> int:
        return len(self.pack())

    def units(self) -> int:
        return -(-self.size() // UNIT)

    def but(self, **changes: object) -> "Entry":
        return replace(self, **changes)  # type: ignore[arg-type]


def with_records(entry: Entry, octets: int, fill: int = 0) -> Entry:
    """The same with `octets` of records: none for 0, else one of 11 or more."""
    if octets == 0:
        return entry.but(records=b"", ttl_off=(), ancount=0)
    rdata = bytes([fill]) * (octets - 11)
    return entry.but(records=root_record(rdata), ttl_off=(5,), ancount=1)


def hash_of(*, shard: int = 0, bucket: int = 0, tag: int = 1, rest: int = 0) -> int:
    """A key hash that leads to a given shard, bucket and tag; `rest` tells such hashes apart."""
    return tag << 48 | rest << 32 | bucket << 16 | shard
