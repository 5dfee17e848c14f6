# SPDX-License-Identifier: Apache-2.0
"""Differences that every pair may have, by their lines in docs/differences.md; and what that file lists.

A line of the file that starts with a word in back quotes is a difference that the suite looks at; the word
is its identifier. A pair names one in Ask.differs; those below are allowed in every pair, each in one field
and by its rule alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.diff.pairs import Ask, Case
from tests.diff.reply import Differences, Seen

DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"
OUR_SIZE = 1232
_EXTENDED_ERROR = 15
_BARE = ("FORMERR", "NOTIMP")
_CACHED = ("NOERROR", "NXDOMAIN")


@dataclass(frozen=True)
class Everywhere:
    """A difference of one field that is allowed wherever `allows` says so."""

    identifier: str
    field: str
    allows: Callable[[Case, Ask, Seen, Seen], bool]


def _cached_aa(case: Case, _ask: Ask, theirs: Seen, ours: Seen) -> bool:
    return "cache" in case.corefile and ours.rcode in _CACHED and ours.flag("AA") and not theirs.flag("AA")


def _failed_aa(case: Case, _ask: Ask, theirs: Seen, ours: Seen) -> bool:
    return ours.rcode not in _CACHED and theirs.flag("AA") and not ours.flag("AA")


def _always_ra(_case: Case, _ask: Ask, theirs: Seen, ours: Seen) -> bool:
    return ours.flag("RA") and not theirs.flag("RA")


def _our_size(_case: Case, _ask: Ask, _theirs: Seen, ours: Seen) -> bool:
    return ours.edns is not None and ours.edns.size == OUR_SIZE


def _own_options(_case: Case, ask: Ask, _theirs: Seen, ours: Seen) -> bool:
    """None, or a reason for a failure."""
    return ours.edns is not None and all(code == _EXTENDED_ERROR for code, _ in ours.edns.options)


def _not_implemented(_case: Case, _ask: Ask, theirs: Seen, ours: Seen) -> bool:
    return theirs.rcode == ours.rcode == "NOTIMP"


def _question_case(_case: Case, _ask: Ask, _theirs: Seen, ours: Seen) -> bool:
    asked = ours.question.split()[0]
    return all(
        one.owner == asked or one.owner.lower() != asked.lower() for one in ours.sections.get("answer", [])
    )


def _over_udp(case: Case, ask: Ask, theirs: Seen, ours: Seen) -> bool:
    refreshed = "serve_stale" in case.corefile and all(one.ttl == 0 for one in ours.records())
    over_tcp = all(one.tcp for one in theirs.asked) and not all(one.tcp for one in ours.asked)
    return (ask.tcp or refreshed) and over_tcp


def _also_over_tcp(_case: Case, _ask: Ask, theirs: Seen, ours: Seen) -> bool:
    return not any(one.tcp for one in theirs.asked) and theirs.asked < ours.asked


def _ancestor_asked(_case: Case, ask: Ask, theirs: Seen, ours: Seen) -> bool:
    more = ours.asked - theirs.asked
    return (
        theirs.rcode == ours.rcode == "NXDOMAIN"
        and theirs.asked < ours.asked
        and all(one.rdtype == "A" and ask.name.endswith(f".{one.name}") for one in more)
    )


def _bare_error(_case: Case, _ask: Ask, theirs: Seen, ours: Seen) -> bool:
    return theirs.rcode == ours.rcode and ours.rcode in _BARE


EVERYWHERE = (
    Everywhere("opt-size", "edns.size", _our_size),
    Everywhere("options", "edns.options", _own_options),
    Everywhere("aa-of-misses", "flag.AA", _cached_aa),
    Everywhere("aa-of-failures", "flag.AA", _failed_aa),
    Everywhere("notimp-flags", "flag.RD", _not_implemented),
    Everywhere("owner-case", "case", _question_case),
    Everywhere("ra", "flag.RA", _always_ra),
    Everywhere("upstream-protocol", "asked.over", _over_udp),
    Everywhere("upstream-tc", "asked.over", _also_over_tcp),
    Everywhere("ancestor-asked", "asked", _ancestor_asked),
    Everywhere("error-question", "question", _bare_error),
    Everywhere("error-question", "edns", _bare_error),
)  # fmt: skip


def allowed_everywhere(
    case: Case, ask: Ask, theirs: Seen, ours: Seen, differing: Differences
) -> tuple[Differences, set[str]]:
    """What is left of the differences, and the identifiers of those that were taken away."""
    left, used = dict(differing), set()
    for rule in EVERYWHERE:
        if rule.field in left and rule.allows(case, ask, theirs, ours):
            del left[rule.field]
            used.add(rule.identifier)
    return left, used


def documented() -> list[str]:
    """The identifiers in docs/differences.md, in order."""
    return re.findall(r"^\| `([a-z][a-z0-9-]*)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
