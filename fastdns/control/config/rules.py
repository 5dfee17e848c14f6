# SPDX-License-Identifier: Apache-2.0
"""The words of `rewrite` as a rule (``rewrite``)."""

import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from fastdns.control.config import names
from fastdns.control.config.declare import Kind
from fastdns.control.config.kinds import BaseKind, Choice, Int, QClass, QType, Rcode, Regex, group_count
from fastdns.control.config.lexer import Token
from fastdns.control.config.messages import nearest, shown
from fastdns.control.config.reader import Given, Reader
from fastdns.control.config.rewrite import (
    NAME_MATCHES,
    AnswerRule,
    ClassRule,
    CnameRule,
    EdnsLocalRule,
    EdnsNsidRule,
    EdnsSubnetRule,
    NameRule,
    RcodeRule,
    Rule,
    TtlRule,
    TypeRule,
)

TTL_MAX: Final = 2**31 - 1  #: RFC 2181 section 8
EDNS_VARIABLES: Final = (
    "{qname}", "{qtype}", "{client_ip}", "{client_port}", "{protocol}", "{server_ip}", "{server_port}"
)  # fmt: skip

T = TypeVar("T")


class _Wrong(Exception):
    """A problem was noted; the rule can't be made."""


def rewrite(given: Given) -> None:
    """The rule of a given.directive, written on its line or in its block."""
    words = [*given.directive.words, *(word for line in given.directive.body for word in line)]
    with contextlib.suppress(_Wrong):
        given.values.update(_Words(given.directive.name, words, given.reader).rewrite())


class _Words:
    """The words of a rule, taken from the left."""

    def __init__(self, name: Token, words: list[Token], reader: Reader) -> None:
        self.reader = reader
        self.last = name
        self.left = words

    def rewrite(self) -> dict[str, Any]:
        stop = True
        if self.left and self.left[0].text.lower() in ("continue", "stop"):
            stop = self.take("").text.lower() == "stop"
        forms: dict[str, Callable[[], Rule]] = {
            "name": self.name,
            "type": lambda: TypeRule(*self.two(QTypeAnyCase())),
            "class": lambda: ClassRule(*self.two(QClassAnyCase())),
            "ttl": self.ttl,
            "rcode": self.rcode,
            "cname": self.cname,
            "edns0": self.edns0,
        }
        what = self.take(f"one of {', '.join(forms)}")
        if what.text.lower() not in forms:
            self.wrong(what, f"one of {', '.join(forms)}", forms)
        rule = forms[what.text.lower()]()
        self.reader.end_of_line(self.left)
        return {"stop": stop, "rule": rule}

    # ---- words ----

    def take(self, expected: str) -> Token:
        if not self.left:
            self.reader.problem(
                self.last, f"found nothing after {shown(self.last.text)}, expected {expected}"
            )
            raise _Wrong
        self.last = self.left.pop(0)
        return self.last

    def wrong(self, word: Token, expected: str, known: Iterable[str] = (), reason: str = "") -> None:
        hint = f" ({reason})" if reason else nearest(word.text, known)
        self.reader.problem(word, f"found {shown(word.text)}, expected {expected}{hint}")
        raise _Wrong

    def value(self, kind: Kind) -> Any:
        word = self.take(kind.expected)
        try:
            return kind.parse(word.text)
        except ValueError as error:
            self.wrong(word, kind.expected, kind.known, str(error))

    def two(self, kind: Kind) -> tuple[int, int]:
        return self.value(kind), self.value(kind)

    def match(self, least: int) -> str:
        """The kind of match, where one is said: it may be left out where ``least`` words come."""
        if len(self.left) <= least or self.left[least].text == "answer":
            return "exact"
        matches = Choice(NAME_MATCHES, any_case=True)
        return str(self.value(matches))

    def pattern(self, match: str) -> str:
        """What names are matched against."""
        if match == "regex":
            return str(self.value(Regex()))
        word = self.take("a name")
        return self.folded(word, match)

    def folded(self, word: Token, match: str) -> str:
        if match in ("exact", "suffix"):
            try:
                # A suffix may begin in the middle of a label, and with a dot.
                leading = "." if match == "suffix" and word.text.startswith(".") and word.text != "." else ""
                return leading + names.absolute(word.text.removeprefix(leading))
            except ValueError as error:
                self.wrong(word, "a domain name", reason=str(error))
        if not word.text:
            self.wrong(word, "a part of a name")
        return names.lower(word.text)

    def replacement(self, match: str, regex: str) -> str:
        """What stands in the name's place; with groups of the regular expression in braces."""
        word = self.take("what to put there")
        if match != "regex":
            return self.folded(word, match)
        groups = group_count(regex)
        used = [int(found) for found in re.findall(r"\{([0-9]{1,3})\}", word.text)]
        if used and max(used) > groups:
            self.wrong(word, f"groups up to {{{groups}}}, which the regular expression has")
        return word.text

    # ---- rules ----

    def name(self) -> NameRule:
        match = self.match(2)
        pattern = self.pattern(match)
        to = self.replacement(match, pattern)
        auto, answers = False, []
        while self.left:
            word = self.take("")
            if word.text != "answer":
                self.wrong(word, "answer", ("answer",))
            part = self.value(Choice(("auto", "name", "value")))
            if part == "auto":
                auto = True
                continue
            regex = self.value(Regex())
            answers.append(AnswerRule(part, regex, self.replacement("regex", regex)))
        return NameRule(match, pattern, to, auto, tuple(answers))

    def ttl(self) -> TtlRule:
        match = self.match(2)
        pattern = self.pattern(match)
        word = self.take("a TTL, or MIN-MAX")
        found = re.fullmatch(r"([0-9]{1,10})|([0-9]{0,10})-([0-9]{0,10})", word.text)
        low = high = 0
        if found and found[1]:
            low = high = int(found[1])
        elif found and (found[2] or found[3]):
            low, high = int(found[2] or 0), int(found[3] or TTL_MAX)
        else:
            self.wrong(word, "a TTL, MIN-MAX, MIN- or -MAX")
        if not low <= high <= TTL_MAX:
            self.wrong(word, f"bounds in order, up to {TTL_MAX}")
        return TtlRule(match, pattern, low, high)

    def rcode(self) -> RcodeRule:
        match = self.match(3)
        return RcodeRule(match, self.pattern(match), *self.two(Rcode(numeric=True)))

    def cname(self) -> CnameRule:
        match = self.match(2)
        pattern = self.pattern(match)
        return CnameRule(match, pattern, self.replacement(match, pattern))

    def edns0(self) -> Rule:
        what = self.value(Choice(("local", "nsid", "subnet"), any_case=True))
        action = self.value(Choice(("set", "append", "replace", "unset"), any_case=True))
        if what == "local":
            return self.edns0_local(action)
        if what == "nsid":
            return EdnsNsidRule(action, self.revert(action))
        if action == "unset":
            return EdnsSubnetRule(action)
        lengths = self.value(Int(0, 32, "prefix length")), self.value(Int(0, 128, "prefix length"))
        return EdnsSubnetRule(action, *lengths, self.revert(action))

    def edns0_local(self, action: str) -> EdnsLocalRule:
        code = self.value(EdnsCode())
        if action == "unset":
            return EdnsLocalRule(action, code)
        word = self.take("its data: a word, 0x and hex digits, or a {variable}")
        data, variable = b"", ""
        if word.text.startswith("{") and word.text.endswith("}"):
            variable = word.text
            if variable not in EDNS_VARIABLES and "/" not in variable:
                self.wrong(word, f"one of {', '.join(EDNS_VARIABLES)}", EDNS_VARIABLES)
        elif word.text.startswith("0x"):
            try:
                data = bytes.fromhex(word.text[2:])
            except ValueError:
                self.wrong(word, "an even number of hex digits after 0x")
        else:
            data = word.text.encode(errors="surrogateescape")
        return EdnsLocalRule(action, code, data, variable, self.revert(action))

    def revert(self, action: str) -> bool:
        if action == "unset" or not self.left:
            return False
        return bool(self.value(Choice(("revert",))))


class QTypeAnyCase(QType):
    """A query type in any case."""

    __slots__ = ()

    def parse(self, text: str) -> int:
        return QType.parse(self, text.upper())


class QClassAnyCase(QClass):
    """A class in any case."""

    __slots__ = ()

    def parse(self, text: str) -> int:
        return QClass.parse(self, text.upper())


class EdnsCode(BaseKind):
    """The number of an EDNS option."""

    __slots__ = ()
    expected: Final = "the code of an option, 0 to 65535 or with 0x"

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"0[xX][0-9A-Fa-f]{1,4}|[0-9]{1,5}", text, re.ASCII):
            raise ValueError
        value = int(text, 16 if text[:2] in ("0x", "0X") else 10)
        if value > 65535:
            raise ValueError
        return value
