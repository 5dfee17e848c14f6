# SPDX-License-Identifier: Apache-2.0
"""Numbers of a configuration: given once, kept over reloads.

Entries in the cache, clients that wait and counters refer to listeners, groups, zones, blocks, series and
upstreams by number. What a configuration still has keeps its number; what it has no more leaves its number
empty. The register goes with the configuration (``Config.notes``): control's successor goes on with it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

_VERSION: Final = 1

#: What has numbers, and how many there can be. A group's is never given again: it is part of the cache's key.
KINDS: Final = ("listeners", "groups", "zones", "blocks", "series", "upstreams")


@dataclass(slots=True)
class Numbers:
    """Which number means what. ``generation`` is the number of the configuration they were last given for."""

    generation: int = 0
    known: dict[str, dict[str, tuple[int, int]]] = field(
        default_factory=lambda: {kind: {} for kind in KINDS}
    )  #: of each kind, by key: the number, and the last generation that had it

    @classmethod
    def read(cls, notes: bytes) -> Self:
        """The register of a configuration's notes; an empty one where there are none.

        Raises ValueError for notes of something else.
        """
        if not notes:
            return cls()
        try:
            content = json.loads(notes)
            if content["version"] != _VERSION:
                raise ValueError(f"version {content['version']!r}")
            known = {
                kind: {key: (int(number), int(last)) for key, (number, last) in content[kind].items()}
                for kind in KINDS
            }
            return cls(int(content["generation"]), known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the notes of a configuration: expected its numbers ({error})") from None

    def dump(self) -> bytes:
        """As ``read`` takes it."""
        return json.dumps(
            {"version": _VERSION, "generation": self.generation, **self.known}, separators=(",", ":")
        ).encode()

    def begin(self) -> "Numbers":
        """A register for the next configuration; this one stays as it is, for when that one fails."""
        return Numbers(self.generation + 1, {kind: dict(keys) for kind, keys in self.known.items()})

    def after_failure(self, former: "Numbers") -> "Numbers":
        """A register for the return from this configuration to the former one.

        What that one has means what it meant there; numbers that were given here are given to nobody else.
        """
        found = {}
        for kind in KINDS:
            taken = {number for number, _ in former.known[kind].values()}
            mine = {key: one for key, one in self.known[kind].items() if one[0] not in taken}
            found[kind] = mine | former.known[kind]
        return Numbers(self.generation + 1, found)

    def give(self, kind: str, keys: Iterable[str], most: int, *, again: bool = True) -> dict[str, int]:
        """The number of each key, below ``most``; keys for which there is none are left out.

        A number that this configuration has no more is given to another key only where all are taken, the
        one that was idle longest first; never with ``again`` False.
        """
        known = self.known[kind]
        wanted = list(dict.fromkeys(keys))
        new = []
        for key in wanted:
            if key in known:
                known[key] = (known[key][0], self.generation)
            else:
                new.append(key)
        taken = {number for number, _ in known.values()}
        fresh = (number for number in range(most) if number not in taken)
        idle = sorted((last, key) for key, (_, last) in known.items() if last < self.generation)
        for key in new:
            number = next(fresh, None)
            if number is None and again and idle:
                number, _ = known.pop(idle.pop(0)[1])
            if number is not None:
                known[key] = (number, self.generation)
        return {key: known[key][0] for key in wanted if key in known}
