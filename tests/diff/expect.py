# SPDX-License-Identifier: Apache-2.0
"""What a reply is held to, in words: "NOERROR aa -tc ttl=30 192.0.2.1".

NXDOMAIN, SILENCE          the rcode; nothing came at all
aa, -aa                    a flag (aa tc rd ra ad cd z) is set, is clear
ttl=30                     the TTL of every record, within 1 s
ttls=100,20                the answer's TTLs in order, within 1 s
answers=2 authority=1 additional=0      numbers of records
soa ns cname rrsig         a record of that type is somewhere in the reply
opt, -opt, opt=1232, do, -do, options=3,15, -options
asked, -asked, asked=UP2   an upstream was asked; none; that one and no other
over=tcp                   and that way
size<=512                  octets of the message
took<1, took>0.2           s
firsts=4                   how many different addresses stood first
question, -question        is there one
asks=MX                    the type in it
for=www.example.test/A     what upstream was asked for, all of it
owner=www.example.test.    some record has this owner
auth=ns.test. extra=::1    a word in the authority section's, the additional section's rdata
anything else              an answer's rdata is, or has the words
"""

from collections.abc import Callable

from tests.diff.reply import SECTIONS, TTL_SLACK, Seen

_FLAGS = ("aa", "tc", "rd", "ra", "ad", "cd", "z")
_RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "BADVERS")
_TYPES = ("soa", "ns", "cname", "rrsig", "srv", "opt")


def unmet(expected: str, seen: Seen) -> list[str]:
    """The words that don't hold."""
    return [word for word in expected.split() if not _holds(word, seen)]


def _holds(word: str, seen: Seen) -> bool:
    if word == "SILENCE":
        return seen.wire is None
    if word.startswith("took"):
        limit = float(word[5:])
        return seen.took_s < limit if word[4] == "<" else seen.took_s > limit
    if word.startswith("size"):
        return len(seen.wire or b"") <= int(word.removeprefix("size<="))
    if word in _RCODES:
        return seen.rcode == word
    key, separator, value = word.partition("=")
    if separator and key in _COUNTED:
        return _COUNTED[key](value, seen)
    bare = word.removeprefix("-")
    if bare in _PLAIN:
        return _PLAIN[bare](seen) is not word.startswith("-")
    return any(word in record.rdata for record in seen.sections.get("answer", []))


def _near(wanted: int, ttl: int) -> bool:
    return abs(wanted - ttl) <= TTL_SLACK


def _ttls(value: str, seen: Seen) -> bool:
    wanted = [int(one) for one in value.split(",")]
    ttls = [record.ttl for record in seen.sections.get("answer", [])]
    return len(wanted) == len(ttls) and all(map(_near, wanted, ttls))


def _count(section: str) -> Callable[[str, Seen], bool]:
    return lambda value, seen: len(seen.sections.get(section, [])) == int(value)


_COUNTED: dict[str, Callable[[str, Seen], bool]] = {
    "ttl": lambda value, seen: (
        bool(seen.records()) and all(_near(int(value), record.ttl) for record in seen.records())
    ),
    "ttls": _ttls,
    "answers": _count("answer"),
    "authority": _count("authority"),
    "additional": _count("additional"),
    "opt": lambda value, seen: seen.edns is not None and seen.edns.size == int(value),
    "version": lambda value, seen: seen.edns is not None and seen.edns.version == int(value),
    "options": lambda value, seen: (
        seen.edns is not None and [str(code) for code, _ in seen.edns.options] == value.split(",")
    ),
    "asked": lambda value, seen: {one.upstream for one in seen.asked} == set(value.split(",")),
    "over": lambda value, seen: {one.tcp for one in seen.asked} == {value == "tcp"},
    "firsts": lambda value, seen: len(seen.firsts) == int(value),
    "for": lambda value, seen: {f"{one.name}/{one.rdtype}" for one in seen.asked} == set(value.split(",")),
    "asks": lambda value, seen: seen.question.endswith(f" {value}"),
    "owner": lambda value, seen: any(record.owner == value for record in seen.records()),
    "extra": lambda value, seen: any(value in record.rdata for record in seen.sections.get("additional", [])),
    "auth": lambda value, seen: any(value in record.rdata for record in seen.sections.get("authority", [])),
}
_PLAIN: dict[str, Callable[[Seen], bool]] = {
    **{flag: lambda seen, flag=flag: seen.flags.get(flag.upper(), False) for flag in _FLAGS},  # type: ignore[misc]
    **{
        rdtype: lambda seen, rdtype=rdtype: any(  # type: ignore[misc]
            record.rdtype == rdtype.upper() for record in seen.records()
        )
        for rdtype in _TYPES
    },
    "opt": lambda seen: seen.edns is not None,
    "do": lambda seen: seen.edns is not None and seen.edns.do,
    "options": lambda seen: seen.edns is not None and bool(seen.edns.options),
    "asked": lambda seen: bool(seen.asked),
    "question": lambda seen: bool(seen.question),
    "records": lambda seen: any(seen.sections.get(name) for name in SECTIONS),
}
