# SPDX-License-Identifier: Apache-2.0
"""A reply taken apart into fields that can be compared, and the comparison of two."""

from dataclasses import dataclass, field, replace

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from tests.diff.upstream import Asked

TTL_SLACK = 1  # s; the servers are asked a moment apart, and each counts its own seconds
SECTIONS = ("answer", "authority", "additional")
_FLAGS = ("AA", "TC", "RD", "RA", "AD", "CD")
_Z = 0x40


@dataclass(frozen=True)
class Record:
    owner: str
    rdclass: str
    rdtype: str
    rdata: str
    ttl: int

    def __str__(self) -> str:
        return f"{self.owner} {self.ttl} {self.rdclass} {self.rdtype} {self.rdata}"

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.owner, self.rdclass, self.rdtype, self.rdata

    @property
    def folded(self) -> tuple[str, str, str, str]:
        """The key with the owner in small letters."""
        return self.owner.lower(), self.rdclass, self.rdtype, self.rdata


@dataclass(frozen=True)
class Edns:
    version: int
    size: int
    do: bool
    options: tuple[tuple[int, str], ...]


@dataclass
class Seen:
    """What came back for a query, and what it made the server ask."""

    wire: bytes | None  #: None: nothing came
    took_s: float
    asked: frozenset[Asked] = frozenset()
    firsts: frozenset[str] = frozenset()  #: of all replies of an Ask.repeat
    rcode: str = ""
    opcode: str = ""
    flags: dict[str, bool] = field(default_factory=dict)
    question: str = ""
    sections: dict[str, list[Record]] = field(default_factory=dict)
    edns: Edns | None = None
    error: str = ""

    def __post_init__(self) -> None:
        if self.wire is None:
            return
        try:
            message = dns.message.from_wire(
                self.wire, one_rr_per_rrset=True, raise_on_truncation=False, ignore_trailing=False
            )
        except dns.exception.DNSException as error:
            self.error = f"{type(error).__name__}: {error}"
            return
        self.rcode = dns.rcode.to_text(message.rcode())
        self.opcode = dns.opcode.to_text(message.opcode())
        bits = int.from_bytes(self.wire[2:4], "big")
        self.flags = {name: bool(bits & dns.flags.from_text(name)) for name in _FLAGS}
        self.flags["Z"] = bool(bits & _Z)
        self.question = " ".join(
            f"{one.name} {dns.rdataclass.to_text(one.rdclass)} {dns.rdatatype.to_text(one.rdtype)}"
            for one in message.question
        )
        for name in SECTIONS:
            self.sections[name] = [
                Record(
                    one.name.to_text(),
                    dns.rdataclass.to_text(one.rdclass),
                    dns.rdatatype.to_text(one.rdtype),
                    one[0].to_text() if len(one) else "",
                    one.ttl,
                )
                for one in getattr(message, name)
            ]
        if message.edns >= 0:
            self.edns = Edns(
                message.edns,
                message.payload,
                bool(message.ednsflags & dns.flags.DO),
                tuple((int(one.otype), one.to_wire().hex()) for one in message.options),
            )

    def flag(self, name: str) -> bool:
        return self.flags.get(name, False)

    def forget_port(self, client_port: int) -> None:
        """The client's own port, which whoami tells, is another one each time."""
        for records in self.sections.values():
            records[:] = [
                replace(one, rdata=one.rdata.replace(f" {client_port} ", " CLIENT ")) for one in records
            ]

    def records(self) -> list[Record]:
        return [record for name in SECTIONS for record in self.sections.get(name, [])]

    def __str__(self) -> str:
        """As dig would show it, in a few lines."""
        if self.wire is None:
            return f"nothing came within {self.took_s:.1f} s"
        flags = " ".join(name.lower() for name, is_set in self.flags.items() if is_set)
        lines = [f"{self.opcode} {self.rcode} {flags}; {self.question}; {len(self.wire)} octets {self.error}"]
        for name in SECTIONS:
            records = self.sections.get(name, [])
            lines += [f"  {name}: {str(record)[:100]}" for record in records[:6]]
            lines += [f"  ... {len(records)} records"] if len(records) > 6 else []
        lines += [f"  {self.edns}"] if self.edns else []
        lines += [f"  asked {one}" for one in sorted(map(str, self.asked))] or ["  asked nobody"]
        lines += [f"  first: {sorted(self.firsts)}"] if len(self.firsts) > 1 else []
        return "\n".join(lines)


Differences = dict[str, tuple[object, object]]


def compare(theirs: Seen, ours: Seen, any_order: bool = False) -> Differences:
    """Each field in which the two differ, with both values."""
    if theirs.wire is None or ours.wire is None:
        return _differing({"reply": (_came(theirs), _came(ours)), "asked": (theirs.asked, ours.asked)})
    fields: dict[str, tuple[object, object]] = {
        "parsed": (theirs.error, ours.error),
        "rcode": (theirs.rcode, ours.rcode),
        "opcode": (theirs.opcode, ours.opcode),
        "question": (theirs.question, ours.question),
        "firsts": (theirs.firsts, ours.firsts),
        **_compare_asked(theirs, ours),
        **{f"flag.{name}": (theirs.flags.get(name), ours.flags.get(name)) for name in (*_FLAGS, "Z")},
        **_compare_edns(theirs.edns, ours.edns),
    }
    for name in SECTIONS:
        fields |= _compare_section(
            name, theirs.sections.get(name, []), ours.sections.get(name, []), any_order
        )
    return _differing(fields)


def _came(seen: Seen) -> str:
    return "nothing" if seen.wire is None else "a reply"


def _compare_asked(theirs: Seen, ours: Seen) -> dict[str, tuple[object, object]]:
    """Whom was asked what; by which protocol is a field of its own."""
    without_way = [{(one.upstream, one.name, one.rdtype) for one in seen.asked} for seen in (theirs, ours)]
    if without_way[0] != without_way[1]:
        return {"asked": (theirs.asked, ours.asked)}
    return {"asked.over": (theirs.asked, ours.asked)}


def _compare_edns(theirs: Edns | None, ours: Edns | None) -> dict[str, tuple[object, object]]:
    if theirs is None or ours is None:
        return {"edns": (theirs, ours)}
    return {
        "edns.version": (theirs.version, ours.version),
        "edns.size": (theirs.size, ours.size),
        "edns.do": (theirs.do, ours.do),
        "edns.options": (theirs.options, ours.options),
    }


def _compare_section(
    name: str, theirs: list[Record], ours: list[Record], any_order: bool
) -> dict[str, tuple[object, object]]:
    """Records without TTLs; where these are the same, their order, and the TTLs."""
    keys = [record.key for record in theirs], [record.key for record in ours]
    fields: dict[str, tuple[object, object]] = {}
    if sorted(keys[0]) != sorted(keys[1]):
        if sorted(record.folded for record in theirs) != sorted(record.folded for record in ours):
            return {name: ([str(record) for record in theirs], [str(record) for record in ours])}
        fields["case"] = keys
        keys = [record.folded for record in theirs], [record.folded for record in ours]
    if not any_order:
        fields[f"{name}.order"] = keys
    ttls = [record.ttl for record in sorted(theirs, key=lambda one: one.folded)]
    mine = [record.ttl for record in sorted(ours, key=lambda one: one.folded)]
    if any(abs(one - other) > TTL_SLACK for one, other in zip(ttls, mine, strict=True)):
        fields[f"{name}.ttl"] = ttls, mine
    return fields


def _differing(fields: dict[str, tuple[object, object]]) -> Differences:
    return {name: (one, other) for name, (one, other) in fields.items() if one != other}
