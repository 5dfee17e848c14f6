# SPDX-License-Identifier: Apache-2.0
"""The rules of `rewrite`, one class a form."""

from dataclasses import dataclass
from typing import Final

NAME_MATCHES: Final = ("exact", "prefix", "suffix", "substring", "regex")


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """``answer name|value RE TO``: what happens to owner names, or to names in the data, of the reply."""

    part: str  #: name or value
    regex: str
    to: str


@dataclass(frozen=True, slots=True)
class NameRule:
    """``name [MATCH] FROM TO [answer auto] [answer name|value RE TO]...``: another name is asked; names in
    the reply are put back, or changed."""

    match: str  #: of NAME_MATCHES
    from_: str  #: exact, suffix: a name; regex: RE2, which sees the dot at the end
    to: str  #: with {0}, {1} ... for groups of a regex
    answer_auto: bool = False
    answers: tuple[AnswerRule, ...] = ()


@dataclass(frozen=True, slots=True)
class TypeRule:
    """``type FROM TO``: another type is asked."""

    from_: int
    to: int


@dataclass(frozen=True, slots=True)
class ClassRule:
    """``class FROM TO``: another class is asked."""

    from_: int
    to: int


@dataclass(frozen=True, slots=True)
class TtlRule:
    """``ttl [MATCH] NAME TTL|MIN-MAX``: TTLs of the reply are put within bounds."""

    match: str
    name: str
    min_s: int
    max_s: int


@dataclass(frozen=True, slots=True)
class RcodeRule:
    """``rcode [MATCH] NAME FROM TO``: another code in the reply."""

    match: str
    name: str
    from_: int
    to: int


@dataclass(frozen=True, slots=True)
class CnameRule:
    """``cname [MATCH] FROM TO``: another target of a CNAME, which is resolved anew."""

    match: str
    from_: str
    to: str


@dataclass(frozen=True, slots=True)
class EdnsLocalRule:
    """``edns0 local ACTION CODE [DATA] [revert]``: an option of the query that goes upstream."""

    action: str  #: set, append, replace, unset
    code: int
    data: bytes = b""
    variable: str = ""  #: {client_ip} and the like; then `data` is empty
    revert: bool = False


@dataclass(frozen=True, slots=True)
class EdnsNsidRule:
    """``edns0 nsid ACTION [revert]``: the server's identifier is asked for (RFC 5001)."""

    action: str
    revert: bool = False


@dataclass(frozen=True, slots=True)
class EdnsSubnetRule:
    """``edns0 subnet ACTION [V4LEN V6LEN] [revert]``: the client's network goes upstream (RFC 7871)."""

    action: str
    v4_len: int = 0
    v6_len: int = 0
    revert: bool = False


Rule = (
    NameRule
    | TypeRule
    | ClassRule
    | TtlRule
    | RcodeRule
    | CnameRule
    | EdnsLocalRule
    | EdnsNsidRule
    | EdnsSubnetRule
)
