# SPDX-License-Identifier: Apache-2.0
"""`template`: answers made from Go templates (corefile.md 2.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import re2

from fastdns.coordinator.slow.steps import (
    Ask,
    Done,
    Fail,
    Go,
    Outcome,
    Question,
    StepError,
    is_below,
    new_answer,
    parse_name,
)
from fastdns.gotemplate import Template, TemplateError, parse_template

_ANY: Final = 255
_ADDRESSES: Final = (dns.rdatatype.A, dns.rdatatype.AAAA)
_DEFAULT_TTL: Final = 3600  #: s, of a record that says none, as miekg/dns has it


@dataclass(frozen=True, slots=True)
class _Rule:
    """One `template` directive."""

    qclass: int
    qtype: int
    zones: tuple[dns.name.Name, ...]
    patterns: tuple[Any, ...]
    sections: tuple[tuple[Template, ...], tuple[Template, ...], tuple[Template, ...]]
    rcode: int
    fallthrough: tuple[dns.name.Name, ...] | None
    told: bool  #: an extended error goes out with its answers

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "_Rule":
        def templates(name: str) -> tuple[Template, ...]:
            return tuple(map(parse_template, spec.get(name, ())))

        through = spec.get("fallthrough")
        options = re2.Options()
        options.log_errors = False
        return cls(
            qclass=spec["qclass"],
            qtype=spec["qtype"],
            zones=tuple(map(parse_name, spec["zones"])),
            patterns=tuple(re2.compile(one, options) for one in spec.get("match") or (".*",)),
            sections=(templates("answer"), templates("authority"), templates("additional")),
            rcode=spec.get("rcode", 0),
            fallthrough=None if through is None else tuple(map(parse_name, through or (".",))),
            told=spec.get("ederror") is not None,
        )

    def reads(self, name: str) -> bool:
        return any(template.reads(name) for section in self.sections for template in section)

    def covers(self, question: Question) -> bool:
        return (
            self.qclass in (_ANY, question.rdclass)
            and self.qtype in (_ANY, question.rdtype)
            and is_below(question.name, self.zones)
        )

    def falls_through(self, question: Question) -> bool:
        return self.fallthrough is not None and is_below(question.name, self.fallthrough)


class Templates:
    """The step: all `template` directives of a block, in order."""

    def __init__(self, specs: Sequence[Mapping[str, Any]]) -> None:
        self._rules = tuple(map(_Rule.of, specs))
        self.matches = 0  #: coredns_template_matches_total

    @property
    def by_client(self) -> bool:
        """Whether answers differ by who asks."""
        return any(rule.reads("Remote") for rule in self._rules)

    def ask(self, question: Question) -> Outcome:
        for rule in self._rules:
            if not rule.covers(question):
                continue
            found = next((match for one in rule.patterns if (match := one.search(question.text))), None)
            if found is None:
                if rule.falls_through(question):
                    continue
                return Fail(dns.rcode.SERVFAIL, "no template matches")
            self.matches += 1
            if rule.rcode == dns.rcode.SERVFAIL:
                return Fail(dns.rcode.SERVFAIL)
            return self._answer(rule, question, found)
        return Go(question)

    def answer(self, _: Question, state: Any, message: dns.message.Message) -> Outcome:
        """The target of the CNAME that a template made."""
        made: dns.message.Message
        made, told = state
        made.answer.extend(message.answer)
        return Done(made, told=told)

    def _answer(self, rule: _Rule, question: Question, found: Any) -> Outcome:
        data = _data(rule, question, found)
        message = new_answer(question, rule.rcode)
        for section, templates in zip(
            (message.answer, message.authority, message.additional), rule.sections, strict=True
        ):
            for template in templates:
                section.append(_record(template, data))
        if question.rdtype in _ADDRESSES:
            for rrset in message.answer:
                if rrset.rdtype == dns.rdatatype.CNAME:
                    target = dns.name.from_text(rrset[0].target.to_text().lower())
                    return Ask(replace(question, name=target), state=(message, rule.told))
        return Done(message, passing=rule.reads("Remote"), told=rule.told)


def _data(rule: _Rule, question: Question, found: Any) -> dict[str, Any]:
    groups = [found.group(0), *(group or "" for group in found.groups())]
    named = {str(number): text for number, text in enumerate(groups)}
    named.update({name: text or "" for name, text in found.groupdict().items()})
    rdclass = dns.rdataclass.to_text(dns.rdataclass.RdataClass(question.rdclass))
    rdtype = dns.rdatatype.to_text(dns.rdatatype.RdataType(question.rdtype))
    longest = max((zone for zone in rule.zones if question.name.is_subdomain(zone)), key=len)
    asked = {"Name": question.text, "Qtype": question.rdtype, "Qclass": question.rdclass}
    return {
        "Zone": longest.to_text(),
        "Name": question.text,
        "Class": rdclass,
        "Type": rdtype,
        "Match": groups,
        "Group": named,
        "Regex": found.re.pattern,
        "Question": asked,
        "Message": _message(question, asked),
        "Remote": question.client.address if question.client else "",
        "Meta": {},
    }


def _message(question: Question, asked: dict[str, Any]) -> dict[str, Any]:
    """What is the same of all queries that share an answer: no ID, no AD, no OPT."""
    false = dict.fromkeys(
        ("Response", "Authoritative", "Truncated", "RecursionAvailable", "Zero", "Compress"), False
    )
    return {
        **false,
        "Opcode": dns.opcode.QUERY.value,
        "RecursionDesired": question.recursion_desired,
        "CheckingDisabled": question.checking_disabled,
        "Rcode": dns.rcode.NOERROR.value,
        "Question": [asked],
        "Answer": [],
        "Ns": [],
    }


def _record(template: Template, data: Mapping[str, Any]) -> dns.rrset.RRset:
    try:
        return _parse_record(template.render(data))
    except TemplateError as error:
        raise StepError(f"template {template.text!r}: {error}") from None
    except (dns.exception.DNSException, ValueError) as error:
        raise StepError(f"template {template.text!r} gives no record: {error}") from None


def _parse_record(text: str) -> dns.rrset.RRset:
    """``NAME [TTL] [CLASS] TYPE DATA``, class and TTL in either order. Raises ValueError, DNSException."""
    name, *rest = text.split(None, 4)
    ttl, rdclass = _DEFAULT_TTL, dns.rdataclass.IN
    for _ in range(2):
        if rest and rest[0].isdigit():
            ttl = int(rest.pop(0))
        elif rest and rest[0].upper() in ("IN", "CH", "HS", "CS"):
            rdclass = dns.rdataclass.from_text(rest.pop(0).upper())
    if len(rest) < 2:
        raise ValueError(f"{text!r}: expected NAME TTL CLASS TYPE DATA")
    rdtype = dns.rdatatype.from_text(rest[0])
    return dns.rrset.from_text_list(
        dns.name.from_text(name),
        ttl,
        rdclass,
        rdtype,
        [" ".join(rest[1:])],
        origin=dns.name.root,
        relativize=False,
    )
