# SPDX-License-Identifier: Apache-2.0
"""Our nft tables, ``ip fastdns`` and ``ip6 fastdns``: their text, and how it gets into the kernel.

What they do (reference: node-network.md, 1 and 2):

*No connection tracking* for DNS to and from our addresses, as long as they are on the node. Without
that condition a table that outlives the address would keep kube-proxy's translation away from it.

*Fallback*. While an address that only this node knows is away, questions to it are rewritten to
the cluster's DNS service before conntrack sees them, in a zone of their own, and the answers back. It is
no NAT, so that kube-proxy's translation of the service still applies. It works while the
address is an element of the set `fallback`, whose timeout is renewed as long as we live.

Everything goes in by ``nft -f -``: a table is replaced in one transaction, nobody sees it without its
rules. The program is a short-lived process of 5 ms; its library in control would stay with all it read.
Families have tables of their own: route chains in `inet` need newer kernels than RKE2's oldest.
"""

import subprocess

from fastdns.control.node import nfnetlink
from fastdns.control.node.model import TABLE, ErrorType, Fallback, NodeError, NodePlan, Phase

_FAMILIES = {4: "ip", 6: "ip6"}
_RUN_S = 10.0
_DRAIN_S = 30  #: a drain takes 5 s; what is killed in it must not leave our successor's address unreachable

# Before raw (-300), where the rules against tracking stand, and after srcnat (100).
_BEFORE_RAW, _RAW, _AFTER_NAT = -310, -300, 150


class UnavailableError(NodeError):
    """This kernel or this image can't have the table; its text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(ErrorType.IPTABLES, text)


def run(arguments: list[str], text: str = "") -> str:
    """The output of nft. Raises UnavailableError."""
    try:
        done = subprocess.run(
            ["nft", *arguments], input=text, capture_output=True, text=True, timeout=_RUN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"nft: {error}") from None
    if done.returncode != 0:
        first = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnavailableError(f"nft: {first[0]}")
    return done.stdout


def load(plan: NodePlan, phase: Phase, with_fallback: bool) -> None:
    """Replace our tables by those of the phase, in one transaction. Raises UnavailableError."""
    run(["-f", "-"], ruleset(plan, phase, with_fallback))


def remove() -> None:
    """Take our tables away, if there are any. Raises UnavailableError."""
    run(["-f", "-"], "".join(_forget(family) for family in _FAMILIES.values()))


def renew(plan: NodePlan) -> None:
    """Start the fallback's timeout anew. Raises UnavailableError, also where the table is gone.

    Adding an element that exists does not extend it: add, delete, add, in one transaction.
    """
    lines = []
    for one in plan.fallbacks():
        where = f"element {_family(one.address)} {TABLE} fallback"
        lines += [
            f"add {where} {{ {one.address} }}",
            f"delete {where} {{ {one.address} }}",
            f"add {where} {{ {one.address} timeout {_linger_s(plan)}s }}",
        ]
    if lines:
        run(["-f", "-"], "\n".join(lines) + "\n")


def listing(plan: NodePlan) -> str:
    """Our tables as the kernel has them, without what changes by itself; "" for one that is missing."""
    found = []
    for version, family in _FAMILIES.items():
        if plan.of_family(version):
            try:
                found.append(run(["-s", "list", "table", family, TABLE]))
            except UnavailableError:
                found.append("")
    return "\n".join(found)


def are_youngest(plan: NodePlan) -> bool:
    """Whether ours are the youngest tables of their families. Raises UnavailableError.

    `nft flush ruleset` takes effect table by table, the oldest first, over some milliseconds. Were ours older
    than kube-proxy's, a question in that time would be translated, and its answer by nobody any more.
    """
    try:
        youngest = dict(nfnetlink.tables())
    except OSError as error:
        raise UnavailableError(f"nftables: {error.strerror or error}") from None
    return all(
        youngest.get(family) == TABLE for version, family in _FAMILIES.items() if plan.of_family(version)
    )


def ruleset(plan: NodePlan, phase: Phase, with_fallback: bool) -> str:
    """The transaction that puts our tables in the place of whatever they were."""
    text = []
    for version, family in _FAMILIES.items():
        text.append(_forget(family))
        addresses = plan.of_family(version)
        fallbacks = [one for one in plan.fallbacks() if with_fallback and one.address in addresses]
        if not addresses or (phase is Phase.LINGER and not fallbacks):
            continue
        parts = [_served(family, addresses), *_fallback_sets(family, plan, fallbacks, phase)]
        if phase is not Phase.LINGER:
            parts += _notrack_chains(family, plan, phase)
        parts += _fallback_chains(family, plan.port, fallbacks, phase)
        text.append(f"table {family} {TABLE} {{\n" + "".join(parts) + "}\n")
    return "".join(text)


def _family(address: str) -> str:
    return _FAMILIES[6 if ":" in address else 4]


def _linger_s(plan: NodePlan) -> int:
    """While we live a crash is bridged even where nothing is to linger after a stop."""
    return plan.linger_s or 600


def _forget(family: str) -> str:
    # Deleting what isn't there is an error, adding what is there is none.
    return f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n"


def _served(family: str, addresses: tuple[str, ...]) -> str:
    return _set("served", family, "", ", ".join(addresses))


def _set(name: str, family: str, flags: str, elements: str) -> str:
    kind = "ipv4_addr" if family == "ip" else "ipv6_addr"
    lines = [f"\tset {name} {{", f"\t\ttype {kind}"]
    if flags:
        lines.append(f"\t\tflags {flags}")
    if elements:
        lines.append(f"\t\telements = {{ {elements} }}")
    return "\n".join([*lines, "\t}", ""])


def _chain(name: str, kind: str, hook: str, priority: int, rules: list[str]) -> str:
    lines = [f"\tchain {name} {{", f"\t\ttype {kind} hook {hook} priority {priority}; policy accept;"]
    return "\n".join([*lines, *(f"\t\t{rule}" for rule in rules), "\t}", ""])


def _notrack_chains(family: str, plan: NodePlan, phase: Phase) -> list[str]:
    def rules(direction: str, protocols: str, port: str) -> list[str]:
        return [
            f"{family} {direction} @served {protocol} {port} fib {direction} type local notrack"
            for protocol in protocols.split()
        ]

    questions = rules("daddr", "udp tcp", f"dport {plan.port}")
    # Answers stay untracked in a drain, too: a conntrack entry that an answer makes would take the client's
    # next question, from the same port, for its reply, and kube-proxy would never see it.
    answers = rules("saddr", "udp tcp", f"sport {plan.port}")
    if phase is Phase.DRAIN:
        return [_chain("notrack-output", "filter", "output", _RAW, answers)]
    health = rules("daddr", "tcp", f"dport {plan.health_port}")
    health += rules("saddr", "tcp", f"sport {plan.health_port}")
    return [
        _chain("notrack-prerouting", "filter", "prerouting", _RAW, questions),
        _chain("notrack-output", "filter", "output", _RAW, [*questions, *answers, *health]),
    ]


def _fallback_sets(family: str, plan: NodePlan, fallbacks: list[Fallback], phase: Phase) -> list[str]:
    if not fallbacks:
        return []
    elements = ", ".join(f"{one.address} timeout {_linger_s(plan)}s" for one in fallbacks)
    sets = [_set("fallback", family, "timeout", elements)]
    if phase is Phase.DRAIN:
        elements = ", ".join(f"{one.address} timeout {_DRAIN_S}s" for one in fallbacks)
        sets.append(_set("draining", family, "timeout", elements))
    return sets


def _fallback_chains(family: str, port: int, fallbacks: list[Fallback], phase: Phase) -> list[str]:
    if not fallbacks:
        return []
    there, back = [], []
    for one in fallbacks:
        for protocol in ("udp", "tcp"):
            rewrite = f"ct original zone set {one.zone} {family} daddr set {one.service}"
            match = f"{family} daddr {one.address} {protocol} dport {port}"
            if phase is Phase.DRAIN:
                there.append(f"{match} {family} daddr @draining {rewrite}")
            there.append(f"{match} {family} daddr @fallback fib daddr type != local {rewrite}")
            back.append(
                f"{family} saddr {one.service} {protocol} sport {port}"
                f" ct original zone {one.zone} {family} saddr set {one.address}"
            )
    return [
        _chain("fallback-prerouting", "filter", "prerouting", _BEFORE_RAW, there),
        _chain("fallback-output", "route", "output", _BEFORE_RAW, there),
        _chain("fallback-postrouting", "filter", "postrouting", _AFTER_NAT, back),
        _chain("fallback-input", "filter", "input", _AFTER_NAT, back),
    ]
