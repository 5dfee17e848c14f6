# SPDX-License-Identifier: Apache-2.0
"""A server block's chain as steps, in the order in which CoreDNS runs its plugins (corefile.md 1.5):
dns64, rewrite, template, hosts, forward, whoami.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from fastdns.control.config.hostsfile import host_table, read_lines
from fastdns.control.config.model import Forward as ForwardPlugin
from fastdns.control.config.model import Hosts, ServerBlock, Settings
from fastdns.control.config.names import is_below, lower
from fastdns.control.config.plugins import Rewrite, Template
from fastdns.control.config.rewrite import (
    ClassRule,
    CnameRule,
    EdnsLocalRule,
    EdnsSubnetRule,
    NameRule,
    RcodeRule,
    Rule,
    TtlRule,
    TypeRule,
)
from fastdns.control.model import (
    FamilyStep,
    Forward,
    HealthCheck,
    HostsStep,
    NameStep,
    ReplyStep,
    SlowStep,
    Step,
    TypeStep,
    WhoamiStep,
)

#: What handles queries: a block with none of them answers REFUSED (corefile.md 1.2).
HANDLERS: Final = (
    "bufsize", "trace", "prometheus", "errors", "log", "dns64", "loadbalance", "cache", "rewrite", "template",
    "hosts", "loop", "forward", "whoami",
)  # fmt: skip

_A: Final = 1
_AAAA: Final = 28

#: Variables of `rewrite edns0` that are a function of the question alone.
_QUESTION_VARIABLES: Final = ("{qname}", "{qtype}")


def steps_of(
    block: ServerBlock,
    settings: Settings,
    upstreams: Callable[[ForwardPlugin], tuple[int, ...]],
    warn: Callable[[str], None],
) -> tuple[Step, ...]:
    """The steps of a block. ``upstreams`` gives the numbers that a `forward` asks, ``warn`` takes a line."""
    steps: list[Step] = []
    if block.dns64 is not None:
        steps.append(SlowStep(program("dns64", block.dns64)))
    steps += _rules(block.rewrite)
    steps += (_template(one, block.zones) for one in block.template)
    if block.hosts is not None:
        steps.append(_hosts(block.hosts, block.zones, warn))
    families = list(_families(block.zones, settings))
    if block.dns64 is not None and any(one.qtype == _A for one in families):
        warn(f"{block.dns64.where}: dns64: what the zones of no_a have is NODATA to it, too")
    steps += families
    steps += (_forward(one, upstreams(one)) for one in block.forward)
    if block.whoami is not None:
        steps.append(WhoamiStep())
    return tuple(steps)


def needs_client(block: ServerBlock) -> bool:
    """Whether answers of the block differ from client to client (beyond the family, for dns64)."""
    if block.whoami is not None and not any(map(_takes_all, block.forward)):
        return True
    return any(map(_template_asks, block.template)) or any(map(_rewrite_asks, block.rewrite))


def is_refused(block: ServerBlock) -> bool:
    """Whether nothing in the block handles queries."""
    return not any(getattr(block, name) for name in HANDLERS)


def program(plugin: str, options: object, **changes: Any) -> str:
    """What the coordinator's thread has to know of a plugin: JSON of its options, without their place."""
    return json.dumps({"plugin": plugin, **_plain(options), **changes}, separators=(",", ":"), default=_json)


def _plain(options: object) -> dict[str, Any]:
    assert dataclasses.is_dataclass(options)
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name != "where"
    }


def _json(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return {"kind": type(value).__name__, **_plain(value)}


def _template(template: Template, zones: tuple[str, ...]) -> SlowStep:
    error = template.ederror
    return SlowStep(
        program("template", template, zones=template.zones or zones),
        told=None if error is None else (error.code, error.text),
    )


def _rules(rewrites: tuple[Rewrite, ...]) -> list[Step]:
    """Rules as steps of the table where that can do them all. One that can't takes all of them to the thread:
    what they do to the answer has to be undone in reverse order."""
    steps = [_rule(one) for one in rewrites]
    tables = [one for one in steps if one is not None]
    if len(tables) == len(steps):
        return tables
    rules = [{"stop": one.stop, "rule": _normal(one.rule)} for one in rewrites]
    return [SlowStep(json.dumps({"plugin": "rewrite", "rules": rules}, separators=(",", ":"), default=_json))]


def _normal(rule: Rule) -> Rule:
    """A rule with its names as they are compared."""
    if isinstance(rule, NameRule | CnameRule) and rule.match != "regex":
        return dataclasses.replace(rule, from_=_text(rule.from_), to=_text(rule.to))
    if isinstance(rule, TtlRule | RcodeRule) and rule.match != "regex":
        return dataclasses.replace(rule, name=_text(rule.name))
    return rule


def _rule(rewrite: Rewrite) -> Step | None:
    """A rule as a table's step; None where that can't do it."""
    rule, stop = rewrite.rule, rewrite.stop
    match rule:
        case NameRule(match=match, answers=()) if match != "regex":
            automatic = rule.answer_auto or match == "exact"
            return NameStep(match, _text(rule.from_), _text(rule.to), automatic, stop)
        case TypeRule():
            return TypeStep("type", rule.from_, rule.to, stop)
        case ClassRule():
            return TypeStep("class", rule.from_, rule.to, stop)
        case TtlRule(match=match) if match != "regex":
            return ReplyStep("ttl", match, _text(rule.name), rule.min_s, rule.max_s, stop)
        case RcodeRule(match=match) if match != "regex":
            return ReplyStep("rcode", match, _text(rule.name), rule.from_, rule.to, stop)
    return None


def _text(name: str) -> str:
    """A name as node-cache compares it: in lower case, with a dot at its end, a mere part of one too."""
    return lower(name if name.endswith(".") else f"{name}.")


def _hosts(hosts: Hosts, zones: tuple[str, ...], warn: Callable[[str], None]) -> HostsStep:
    def lines() -> Iterator[Any]:
        try:
            yield from read_lines(hosts.file)
        except OSError as error:
            warn(f"{hosts.where}: hosts: {hosts.file}: {error.strerror}; going on without it")
        yield from hosts.inline

    origins = hosts.zones or zones
    names = host_table(lines(), origins, reverse=not hosts.no_reverse)
    through = hosts.fallthrough
    return HostsStep(names, origins, () if through is None else through or (".",), hosts.ttl_s)


def _forward(plugin: ForwardPlugin, upstreams: tuple[int, ...]) -> Forward:
    check = plugin.health_check
    return Forward(
        upstreams,
        plugin.zone,
        plugin.except_,
        policy=plugin.policy,
        next_rcodes=plugin.next_,
        next_on_nodata=plugin.next_on_nodata,
        failover_rcodes=plugin.failover,
        max_fails=plugin.max_fails,
        max_attempts=plugin.max_connect_attempts,
        max_concurrent=plugin.max_concurrent,
        failfast=plugin.failfast_all_unhealthy_upstreams,
        read_timeout_s=plugin.read_timeout_s,
        check=HealthCheck(check.interval_s, lower(check.domain), not check.no_rec),
    )


def _families(zones: tuple[str, ...], settings: Settings) -> Iterator[FamilyStep]:
    """Families that names of these zones, or of some of their children, have not got."""
    for qtype, without in ((_A, settings.no_a), (_AAAA, settings.no_aaaa)):
        for zone in without:
            if any(is_below(zone, one) or is_below(one, zone) for one in zones):
                yield FamilyStep(qtype, zone, settings.both_families)


def _takes_all(forward: ForwardPlugin) -> bool:
    return forward.zone == "." and not forward.except_


def _template_asks(template: Template) -> bool:
    return any(".Remote" in text for text in (*template.answer, *template.additional, *template.authority))


def _rewrite_asks(rewrite: Rewrite) -> bool:
    rule = rewrite.rule
    if isinstance(rule, EdnsSubnetRule):
        return rule.action != "unset"
    return isinstance(rule, EdnsLocalRule) and rule.variable not in ("", *_QUESTION_VARIABLES)
