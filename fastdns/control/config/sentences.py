# SPDX-License-Identifier: Apache-2.0
"""A sentence or two about each plugin of a block: the function has the plugin's name."""

from collections.abc import Iterator

from fastdns.control.config import model
from fastdns.control.config.kinds import duration_text as duration
from fastdns.control.config.model import ServerBlock
from fastdns.control.config.numbers import QCLASSES, QTYPES, RCODES, name_of
from fastdns.control.config.special import LOG_COMMON


def names_below(zones: tuple[str, ...]) -> str:
    """The names that a list of zones stands for."""
    if not zones or "." in zones:
        return "all names"
    return f"names at or below {_list(zones)}"


def _list(words: tuple[str, ...] | list[str], last: str = "and") -> str:
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end


def _http(address: tuple[str, int]) -> str:
    host, port = address
    return f"{host or 'all addresses'}, port {port}"


def timeouts(plugin: model.Timeouts, _: ServerBlock) -> Iterator[str]:
    """TCP's times."""
    bound = f", {plugin.maxtcpqueries} queries at most" if plugin.maxtcpqueries > 0 else ""
    first, idle = duration(plugin.read_s), duration(plugin.idle_s)
    yield f"TCP: {first} for the first query, {idle} between queries{bound}"


def reload(plugin: model.Reload, _: ServerBlock) -> Iterator[str]:
    """Period and spread."""
    spread = f", give or take {duration(plugin.jitter_s / 2)}" if plugin.jitter_s else ""
    yield f"looks at this file every {duration(plugin.interval_s)}{spread}, and takes it when it has changed"


def bufsize(plugin: model.Bufsize, _: ServerBlock) -> Iterator[str]:
    """The size."""
    yield f"lowers a client's EDNS size to {plugin.size} octets"


def bind(plugin: model.Bind, _: ServerBlock) -> Iterator[str]:
    """What the words stand for, where it isn't plain: the addresses are in `listens`."""
    hosts = [address.host for address in plugin.addresses]
    if list(plugin.words) != hosts:
        yield f"{' '.join(plugin.words)} is {_list(hosts)} at the moment; looked up when the file is read"


def debug(_plugin: model.Debug, _: ServerBlock) -> Iterator[str]:
    """Nothing to say of it."""
    yield "more lines in the log"


def trace(plugin: model.Trace, _: ServerBlock) -> Iterator[str]:
    """Where to."""
    yield f"{plugin.kind} at {plugin.endpoint}: accepted, no traces are sent"


def ready(plugin: model.Ready, _: ServerBlock) -> Iterator[str]:
    """Where."""
    yield f"GET /ready on {_http(plugin.address)}: 200 when every worker answers"


def health(plugin: model.Health, _: ServerBlock) -> Iterator[str]:
    """Where, and lameduck."""
    wait = f"; at the end it serves for {duration(plugin.lameduck_s)} more" if plugin.lameduck_s else ""
    yield f"GET /health on {_http(plugin.address)}{wait}"


def pprof(_plugin: model.Pprof, _: ServerBlock) -> Iterator[str]:
    """Nothing."""
    yield "accepted; nothing listens, since there is no Go runtime to profile"


def prometheus(plugin: model.Prometheus, _: ServerBlock) -> Iterator[str]:
    """Where."""
    yield f"GET /metrics on {_http(plugin.address)}; this block's queries are counted"


def errors(plugin: model.Errors, _: ServerBlock) -> Iterator[str]:
    """All of them, and those together."""
    yield "errors are logged"
    for row in plugin.consolidate:
        first = "the first at once, then " if row.show_first else ""
        yield f"errors like {row.regex!r}: {first}a count after {duration(row.duration_s)}, level {row.level}"


def log(plugin: model.Log, _: ServerBlock) -> Iterator[str]:
    """Which queries, in which form."""
    which = "queries" if "all" in plugin.classes else f"queries answered with {_list(plugin.classes)}"
    form = "" if plugin.format == LOG_COMMON else f" as {plugin.format!r}"
    yield f"a line for {which} of {names_below(plugin.zones)}{form}"


def dns64(plugin: model.Dns64, _: ServerBlock) -> Iterator[str]:
    """Prefix and for whom."""
    who = "all clients" if plugin.allow_ipv4 else "IPv6 clients"
    when = "always" if plugin.translate_all else "where there is none"
    yield f"{who} get AAAA records made from A, {when}, behind {plugin.prefix}"


def loadbalance(plugin: model.Loadbalance, _: ServerBlock) -> Iterator[str]:
    """How."""
    how = "as upstream has them" if plugin.policy == "weighted" else "in another order, at random"
    first = f", those in {_list(plugin.prefer)} first" if plugin.prefer else ""
    yield f"addresses of each reply {how}{first}"


def cache(plugin: model.Cache, block: ServerBlock) -> Iterator[str]:
    """What is kept, and for how long."""
    yield f"for {names_below(plugin.zones or block.zones)}:"
    for what, bounds in (("answers with records", plugin.success), ("NXDOMAIN and NODATA", plugin.denial)):
        yield f"{what} are kept for {_bounds(bounds)}; about {bounds.capacity} of them"
    how_long = f"for {duration(plugin.servfail_s)}" if plugin.servfail_s else "not at all"
    yield f"failures are kept {how_long}"
    for disabled in {row.what: row for row in plugin.disable}.values():
        what = "answers with records" if disabled.what == "success" else "NXDOMAIN and NODATA"
        yield f"{what} of {names_below(disabled.zones)} are not kept"
    if plugin.keepttl:
        yield "a hit carries the TTL that it was stored with"
    ahead = plugin.prefetch
    if ahead.amount:
        hits = "a hit" if ahead.amount == 1 else f"{ahead.amount} hits"
        yield f"names with {hits} in their time are asked again when {ahead.percent}% of it is left"
    if plugin.serve_stale is not None:
        stale = plugin.serve_stale
        when = "before upstream is asked" if stale.mode == "immediate" else "when upstream has no answer"
        yield f"expired answers are given for {duration(stale.duration_s)} more, {when}"


def _bounds(row: model.CacheClass) -> str:
    low, high = duration(row.ttl_min_s), duration(row.ttl_max_s)
    if row.ttl_min_s >= row.ttl_max_s:
        return high  # the cap wins
    return f"their TTL, at most {high}" + (f" and at least {low}" if row.ttl_min_s else "")


def rewrite(plugin: model.Rewrite, _: ServerBlock) -> Iterator[str]:
    """The rule."""
    more = "" if plugin.stop else "; then the next rules"
    yield f"{_rule(plugin.rule)}{more}"


def _matched(match: str, name: str) -> str:
    words = {
        "exact": f"for {name}",
        "prefix": f"for names that begin with {name}",
        "suffix": f"for names that end in {name}",
        "substring": f"for names with {name} in them",
        "regex": f"for names like {name!r}",
    }
    return words[match]


def _rule(rule: model.Rule) -> str:
    match rule:
        case model.NameRule():
            back = "; owner names are put back" if rule.answer_auto or rule.match == "exact" else ""
            parts = "".join(f"; {row.part}s like {row.regex!r} become {row.to}" for row in rule.answers)
            return f"{_matched(rule.match, rule.from_)}: asks with {rule.to} in that place{back}{parts}"
        case model.TypeRule():
            types = name_of(QTYPES, rule.to), name_of(QTYPES, rule.from_)
            return "asks for {} where {} was asked".format(*types)
        case model.ClassRule():
            return (
                f"asks in class {name_of(QCLASSES, rule.to)} where {name_of(QCLASSES, rule.from_)} was asked"
            )
        case model.TtlRule():
            return f"{_matched(rule.match, rule.name)}: TTLs from {rule.min_s} to {rule.max_s} s"
        case model.RcodeRule():
            codes = f"{name_of(RCODES, rule.from_)} becomes {name_of(RCODES, rule.to)}"
            return f"{_matched(rule.match, rule.name)}: {codes}, where the reply has a record"
        case model.CnameRule():
            return f"{_matched(rule.match, rule.from_)} as target of a CNAME: goes on with {rule.to}"
        case _:
            return _edns_rule(rule)


def _edns_rule(rule: model.EdnsLocalRule | model.EdnsNsidRule | model.EdnsSubnetRule) -> str:
    back = "; taken out of the reply" if rule.revert else ""
    if isinstance(rule, model.EdnsLocalRule):
        data = "" if rule.action == "unset" else f" {rule.variable or rule.data!r}"
        return f"what is asked upstream: {rule.action} EDNS option {rule.code}{data}{back}"
    if isinstance(rule, model.EdnsNsidRule):
        return f"what is asked upstream: {rule.action} NSID{back}"
    lengths = "" if rule.action == "unset" else f" /{rule.v4_len} and /{rule.v6_len}"
    return f"what is asked upstream: {rule.action} the client's network{lengths}{back}"


def template(plugin: model.Template, block: ServerBlock) -> Iterator[str]:
    """Which questions, and what they get."""
    qtype = "every type" if plugin.qtype == 255 else f"type {name_of(QTYPES, plugin.qtype)}"
    qclass = "" if plugin.qclass == 1 else f", class {name_of(QCLASSES, plugin.qclass)}"
    names = names_below(plugin.zones or block.zones)
    like = "" if plugin.match == (".*",) else f" like {_list([repr(one) for one in plugin.match], 'or')}"
    counts = [
        f"{len(rows)} {what} record{'s' if len(rows) > 1 else ''}"
        for what, rows in (
            ("answer", plugin.answer), ("authority", plugin.authority), ("additional", plugin.additional)
        )
        if rows
    ]  # fmt: skip
    made = _list(counts) if counts else "no record"
    yield f"{qtype}{qclass} of {names}{like}: {name_of(RCODES, plugin.rcode)} with {made}"
    if like:
        yield f"other {names}: {_onward(plugin.fallthrough)}"


def _onward(fallthrough: tuple[str, ...] | None) -> str:
    if fallthrough is None:
        return "SERVFAIL"
    if "." in fallthrough:
        return "go on"
    return f"go on if {names_below(fallthrough)}, else SERVFAIL"


def hosts(plugin: model.Hosts, block: ServerBlock) -> Iterator[str]:
    """From where, and what happens to other names."""
    names = names_below(plugin.zones or block.zones)
    count = len(plugin.inline)
    lines = f", and {count} line{'s' if count > 1 else ''} here" if count else ""
    looked = f"looked at every {duration(plugin.reload_s)}" if plugin.reload_s else "read once"
    reverse = "A and AAAA" if plugin.no_reverse else "A, AAAA and PTR"
    yield f"{reverse} of {names}, TTL {plugin.ttl_s} s"
    yield f"from {plugin.file}, {looked}{lines}"
    yield f"names that it doesn't know: {_onward(plugin.fallthrough)}"


def loop(_plugin: model.Loop, block: ServerBlock) -> Iterator[str]:
    """For which zone."""
    yield f"an upstream that sends questions for {block.zones[0]} back here is found and left out"


def forward(plugin: model.Forward, _: ServerBlock) -> Iterator[str]:
    """What is asked of whom; one sentence for all zones of a line."""
    if plugin.zone != plugin.zones[0]:
        return
    servers: list[str] = []
    for to in plugin.to:
        if to.file is not None:
            servers.append(f"{_list([str(e) for e in to.endpoints])} (from {to.file})")
        else:
            servers.append(to.text if to.scheme != "dns" or to.host else str(to.endpoints[0]))
    how = " over TCP" if plugin.force_tcp else ""
    how += f" from {plugin.source_address}" if plugin.source_address else ""
    but = f", but not {_list(plugin.except_)}" if plugin.except_ else ""
    which = "what is left" if plugin.zone == "." else names_below(plugin.zones)
    yield f"{which}{but}: asked of {_list(servers, 'or')}{how}"
    if any(to.host for to in plugin.to):
        resolvers = _list([str(one) for one in plugin.resolver], "or")
        yield f"the addresses of these hosts: asked of {resolvers} at the start and at each reload"


def whoami(_plugin: model.Whoami, _: ServerBlock) -> Iterator[str]:
    """What is left."""
    yield "answers what is left with the client's own address and port"
