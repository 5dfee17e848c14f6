# SPDX-License-Identifier: Apache-2.0
"""`rewrite` where a block's rules need more than the loop's tables: all of its rules are done here, in order.

The question is changed on the way in; what was changed is put right in the answer (corefile.md 2.3).
"""

import ipaddress
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import re2

from fastdns.coordinator.slow.steps import Ask, Done, Go, Outcome, Question, StepError, parse_name

_NSID, _SUBNET = 3, 8  #: EDNS option codes; RFC 5001, RFC 7871

_Change = Callable[[str], str]

#: Types whose data holds a name that `answer value` sees, and the attribute.
_TARGETS: Final = {
    dns.rdatatype.CNAME: "target",
    dns.rdatatype.DNAME: "target",
    dns.rdatatype.NS: "target",
    dns.rdatatype.PTR: "target",
    dns.rdatatype.SRV: "target",
    dns.rdatatype.MX: "exchange",
    dns.rdatatype.NAPTR: "replacement",
    dns.rdatatype.SOA: "mname",
}


@dataclass(slots=True)
class _State:
    """What the answer needs: the changes that its records get, and the target to follow."""

    owners: list[_Change] = field(default_factory=list)
    values: list[_Change] = field(default_factory=list)
    ttls: list[tuple[int, int]] = field(default_factory=list)
    rcodes: list[tuple[int, int]] = field(default_factory=list)
    cnames: list[Callable[[str], str | None]] = field(default_factory=list)
    options: list[bytes] = field(default_factory=list)  #: EDNS options for the query upstream
    followed: dns.message.Message | None = None


class Rewrites:
    """The step: all `rewrite` rules of a block. specs: stop, and the rule with its kind and fields."""

    def __init__(self, specs: Sequence[Mapping[str, Any]]) -> None:
        self._rules = [(spec["stop"], _RULES[spec["rule"]["kind"]](spec["rule"])) for spec in specs]

    def ask(self, question: Question) -> Outcome:
        state = _State()
        asked = question
        touched = False
        for stop, rule in self._rules:
            changed = rule(asked, state)
            if changed is None:
                continue
            asked, touched = changed, True
            if stop:
                break
        return Go(asked, back=touched, state=state, options=b"".join(state.options))

    def answer(self, question: Question, state: Any, message: dns.message.Message) -> Outcome:
        if state.followed is not None:
            _join(state.followed, message)
            message, state.followed, state.cnames = state.followed, None, []
        target = _new_target(state, message)
        if target is not None:
            state.followed = message
            return Ask(replace(question, name=parse_name(target)), state=state)
        _put_right(state, message)
        rdclass, rdtype = (
            dns.rdataclass.RdataClass(question.rdclass),
            dns.rdatatype.RdataType(question.rdtype),
        )
        message.question = [dns.rrset.RRset(question.name, rdclass, rdtype)]
        return Done(message)


# ------------------------------------------------------------------------------- rules ----

_Rule = Callable[[Question, _State], Question | None]


def _pattern(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(text, options)


def _by_groups(pattern: Any, to: str) -> Callable[[str], str | None]:
    """The text that a regular expression's groups make of another, or None where it doesn't match."""

    def change(text: str) -> str | None:
        found = pattern.search(text)
        if found is None:
            return None
        made = to
        for number, group in enumerate((found.group(0), *found.groups())):
            made = made.replace(f"{{{number}}}", group or "")
        return made

    return change


def _matcher(match: str, from_: str, to: str) -> Callable[[str], str | None]:
    """What a rule makes of a name, or None where it doesn't match."""
    if match == "exact":
        return lambda name: to if name == from_ else None
    if match == "prefix":
        return lambda name: to + name[len(from_) :] if name.startswith(from_) else None
    if match == "suffix":
        return lambda name: name[: -len(from_)] + to if name.endswith(from_) else None
    if match == "substring":
        return lambda name: name.replace(from_, to) if from_ in name else None
    return _by_groups(_pattern(from_), to)


def _always(change: Callable[[str], str | None]) -> _Change:
    return lambda text: text if (made := change(text)) is None else made


def _name_rule(spec: Mapping[str, Any]) -> _Rule:
    change = _matcher(spec["match"], spec["from_"].lower(), spec["to"].lower())
    auto = spec["answer_auto"] or spec["match"] == "exact"
    # A suffix goes back wherever it stands, also in names that the question led to.
    undo = (
        _matcher("suffix", spec["to"].lower(), spec["from_"].lower()) if spec["match"] == "suffix" else None
    )
    answers = [
        (one["part"], _always(_by_groups(_pattern(one["regex"]), one["to"]))) for one in spec["answers"]
    ]

    def rule(question: Question, state: _State) -> Question | None:
        made = change(question.text)
        if made is None:
            return None
        asked = replace(question, name=parse_name(made))
        if auto:
            back = _always(undo or _matcher("exact", asked.text, question.text))
            # Changes in the answer go back in the reverse order of those in the question.
            state.owners.insert(0, back)
            state.values.insert(0, back)
        for part, one in answers:
            (state.owners if part == "name" else state.values).append(one)
        return asked

    return rule


def _type_rule(spec: Mapping[str, Any]) -> _Rule:
    def rule(question: Question, _: _State) -> Question | None:
        return replace(question, rdtype=spec["to"]) if question.rdtype == spec["from_"] else None

    return rule


def _class_rule(spec: Mapping[str, Any]) -> _Rule:
    def rule(question: Question, _: _State) -> Question | None:
        return replace(question, rdclass=spec["to"]) if question.rdclass == spec["from_"] else None

    return rule


def _ttl_rule(spec: Mapping[str, Any]) -> _Rule:
    match = _matcher(spec["match"], spec["name"], "")

    def rule(question: Question, state: _State) -> Question | None:
        if match(question.text) is None:
            return None
        state.ttls.append((spec["min_s"], spec["max_s"]))
        return question

    return rule


def _rcode_rule(spec: Mapping[str, Any]) -> _Rule:
    match = _matcher(spec["match"], spec["name"], "")

    def rule(question: Question, state: _State) -> Question | None:
        if match(question.text) is None:
            return None
        state.rcodes.append((spec["from_"], spec["to"]))
        return question

    return rule


def _cname_rule(spec: Mapping[str, Any]) -> _Rule:
    change = _matcher(spec["match"], spec["from_"].lower(), spec["to"].lower())

    def rule(question: Question, state: _State) -> Question | None:
        state.cnames.append(change)
        return question

    return rule


def _edns_local_rule(spec: Mapping[str, Any]) -> _Rule:
    data, variable, code = bytes.fromhex(spec["data"]), spec["variable"], spec["code"]
    # Options of the client don't go upstream, so there is nothing to replace or to take away.
    wanted = spec["action"] in ("set", "append")

    def rule(question: Question, state: _State) -> Question | None:
        if not wanted:
            return None
        state.options.append(_option(code, _variable(variable, question) if variable else data))
        return question

    return rule


def _edns_nsid_rule(spec: Mapping[str, Any]) -> _Rule:
    wanted = spec["action"] in ("set", "append")

    def rule(question: Question, state: _State) -> Question | None:
        if not wanted:
            return None
        state.options.append(_option(_NSID, b""))
        return question

    return rule


def _edns_subnet_rule(spec: Mapping[str, Any]) -> _Rule:
    wanted = spec["action"] in ("set", "append")

    def rule(question: Question, state: _State) -> Question | None:
        if not wanted or question.client is None:
            return None
        state.options.append(
            _option(_SUBNET, _subnet(question.client.address, spec["v4_len"], spec["v6_len"]))
        )
        return question

    return rule


def _option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def _subnet(address: str, v4_len: int, v6_len: int) -> bytes:
    """The data of a client subnet option; RFC 7871 s6."""
    client = ipaddress.ip_address(address)
    bits = v4_len if client.version == 4 else v6_len
    network = ipaddress.ip_network((client, bits), strict=False)
    octets = network.network_address.packed[: (bits + 7) // 8]
    return struct.pack("!HBB", 1 if client.version == 4 else 2, bits, 0) + octets


def _variable(name: str, question: Question) -> bytes:
    """The value of {qname} and the like, in CoreDNS's form: names as text, numbers in network order."""
    if name == "{qname}":
        return question.text.encode()
    if name == "{qtype}":
        return struct.pack("!H", question.rdtype)
    client = question.client
    if client is None:
        raise StepError(f"{name} is not known here")
    values = {
        "{client_ip}": ipaddress.ip_address(client.address).packed,
        "{client_port}": struct.pack("!H", client.port),
        "{protocol}": b"tcp" if client.tcp else b"udp",
        "{server_ip}": ipaddress.ip_address(client.server_address).packed,
        "{server_port}": struct.pack("!H", client.server_port),
    }
    return values[name]


_RULES: Final[dict[str, Callable[[Mapping[str, Any]], _Rule]]] = {
    "NameRule": _name_rule,
    "TypeRule": _type_rule,
    "ClassRule": _class_rule,
    "TtlRule": _ttl_rule,
    "RcodeRule": _rcode_rule,
    "CnameRule": _cname_rule,
    "EdnsLocalRule": _edns_local_rule,
    "EdnsNsidRule": _edns_nsid_rule,
    "EdnsSubnetRule": _edns_subnet_rule,
}


# ------------------------------------------------------------------------------ answers ----


def _put_right(state: _State, message: dns.message.Message) -> None:
    for section in (message.answer, message.authority, message.additional):
        section[:] = [_put_right_rrset(state, rrset) for rrset in section]
        if section:  # per record, so that a reply without any is not changed
            for from_, to in state.rcodes:
                if message.rcode() == from_:
                    message.set_rcode(dns.rcode.Rcode(to))


def _put_right_rrset(state: _State, rrset: dns.rrset.RRset) -> dns.rrset.RRset:
    ttl = rrset.ttl
    for least, most in state.ttls:
        ttl = min(max(ttl, least), most)
    made = dns.rrset.RRset(_change_name(rrset.name, state.owners), rrset.rdclass, rrset.rdtype)
    for rdata in rrset:
        attribute = _TARGETS.get(rrset.rdtype) if state.values else None
        if attribute is not None:
            value = _change_name(getattr(rdata, attribute), state.values)
            made.add(rdata.replace(**{attribute: value}), ttl)
        else:
            made.add(rdata, ttl)
    return made


def _change_name(name: dns.name.Name, changes: Sequence[_Change]) -> dns.name.Name:
    text = name.to_text().lower()
    made = text
    for change in changes:
        made = change(made)
    return name if made == text else parse_name(made)


def _new_target(state: _State, message: dns.message.Message) -> str | None:
    """The target that a `cname` rule wants instead of a CNAME's own; it is put into the record."""
    for rrset in message.answer:
        if rrset.rdtype != dns.rdatatype.CNAME:
            continue
        for change in state.cnames:
            made = change(rrset[0].target.to_text().lower())
            if made is not None:
                leading = dns.rrset.RRset(rrset.name, rrset.rdclass, rrset.rdtype)
                leading.add(rrset[0].replace(target=parse_name(made)), rrset.ttl)
                message.answer = [leading]
                return made
    return None


def _join(message: dns.message.Message, followed: dns.message.Message) -> None:
    """Put the records of the new target behind the CNAME that leads to it."""
    target = message.answer[0][0].target
    message.answer += [rrset for rrset in followed.answer if rrset.name == target]
