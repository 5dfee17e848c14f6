# SPDX-License-Identifier: Apache-2.0
"""`fastdns check --node`: do queries reach us on this node, and what happens to them when we die?

Judged from what `survey` found; docs/operations.md explains the answers.
"""

from collections.abc import Iterator
from typing import Any

from fastdns.control.node.model import family_of, is_link_local
from fastdns.control.node.survey import Survey

#: Data paths that translate a service's address before a packet gets to any rule or socket of the node.
_EARLY = {
    "cilium": "Cilium translates it in the socket or at tc, so only a local redirect policy leads it here",
    "calico-ebpf": "Calico's eBPF translates it at tc, unless it is excluded there",
}


def judge(found: Survey, addresses: tuple[str, ...]) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "kube_proxy": found.kube_proxy,
        "cni": found.cni,
        "memory_limit": found.memory,
        "nft_table": found.has_table,
        "iptables": [
            {
                "backend": one.backend,
                "family": one.version,
                "host": one.is_host,
                "input_policy": one.chain("INPUT").policy,
                "output_policy": one.chain("OUTPUT").policy,
                "could_drop": one.chain("INPUT").could_drop or one.chain("OUTPUT").could_drop,
                "rules": len(one.rules(addresses)),
            }
            for one in found.filters
        ],
        "foreign_tables_that_drop": list(found.droppers),
        "left_overs": list(_left_overs(found, addresses)),
        "addresses": {one: _address(found, one) for one in addresses},
        "trouble": list(found.trouble),
    }


def is_well(report: dict[str, Any]) -> bool:
    """Whether queries reach every address, and find an answer elsewhere when we die."""
    return bool(report["addresses"]) and all(
        one["reach"] == "yes" and one["falls_back"] for one in report["addresses"].values()
    )


def summary(report: dict[str, Any]) -> str:
    """One line for the log at the start."""
    parts = [f"kube-proxy {report['kube_proxy']}", f"CNI {report['cni']}"]
    parts += [
        f"{one['backend']} INPUT {one['input_policy']}"
        for one in report["iptables"]
        if one["could_drop"] and one["family"] == 4
    ]
    if report["foreign_tables_that_drop"]:
        parts.append(f"foreign nft chains that may drop: {', '.join(report['foreign_tables_that_drop'])}")
    for address, one in report["addresses"].items():
        if one["reach"] != "yes":
            parts.append(f"{address}: {one['reach']}")
        if not one["falls_back"]:
            parts.append(f"{address}: {one['when_we_die']}")
    return "; ".join(parts)


def lines(report: dict[str, Any]) -> Iterator[str]:
    """For a person."""
    yield f"{'kube-proxy':<14}{report['kube_proxy']}"
    yield f"{'CNI':<14}{report['cni']}"
    yield f"{'memory limit':<14}{report['memory_limit']}"
    yield f"{'nft table':<14}{'there' if report['nft_table'] else 'not there'}"
    for one in report["iptables"]:
        name = f"IPv{one['family']} {one['backend']}"
        host = ", the host's" if one["host"] else ""
        drops = "could drop" if one["could_drop"] else "drops nothing"
        yield (
            f"{name:<14}INPUT {one['input_policy']}, OUTPUT {one['output_policy']}, {drops};"
            f" {one['rules']} rules for our addresses{host}"
        )
    for title, key in (
        ("may drop", "foreign_tables_that_drop"),
        ("left over", "left_overs"),
        ("unknown", "trouble"),
    ):
        for text in report[key]:
            yield f"{title:<14}{text}"
    if not report["addresses"]:
        yield "no address of a node cache is here: nothing serves on an interface, in a rule or a table"
    for address, one in report["addresses"].items():
        yield ""
        yield address
        yield f"  {'on the node':<14}{one['on_node']}"
        yield f"  {'served':<14}{'yes' if one['served'] else 'no: no socket is bound to it'}"
        yield f"  {'queries':<14}{one['reach']}"
        yield f"  {'when we die':<14}{one['when_we_die']}"


def _address(found: Survey, address: str) -> dict[str, Any]:
    held = [one for one in found.held if one.address == address]
    where = ", ".join(
        f"{one.interface}{', for good' if one.permanent else ', for 2 s at a time'}" for one in held
    )
    falls_back, when = _death(found, address, any(one.permanent for one in held))
    return {
        "on_node": where or "no",
        "served": address in found.served,
        "reach": _reach(found, address),
        "falls_back": falls_back,
        "when_we_die": when,
    }


def _reach(found: Survey, address: str) -> str:
    if _is_service(address) and found.cni in _EARLY and found.kube_proxy == "none":
        return f"may never get here: {_EARLY[found.cni]}"
    for one in found.filters:
        if one.version != family_of(address):
            continue
        chain = one.chain("INPUT")
        accepted = {
            rule.protocol
            for rule in one.rules((address,))
            if (rule.chain, rule.target) == ("INPUT", "ACCEPT")
        }
        if chain.policy != "ACCEPT" and accepted != {"udp", "tcp"}:
            return f"dropped by {one.backend}'s INPUT (policy {chain.policy}), where no rule accepts them"
        if chain.could_drop and accepted != {"udp", "tcp"}:
            return f"may be dropped by rules in {one.backend}'s INPUT, where none accepts them first"
    if found.droppers:
        return f"may be dropped by {', '.join(found.droppers)}: no rule of ours can prevent that"
    return "yes"


def _death(found: Survey, address: str, permanent: bool) -> tuple[bool, str]:
    if permanent:
        return False, "no answer: the address has no lifetime, and stays with nobody behind it"
    if address in found.fallbacks:
        return True, "the cluster's DNS answers after 2 s at most, for 10 minutes or until we are back"
    if not _is_service(address):
        return False, "no answer until we are back: our nft table has no fallback for it"
    if found.kube_proxy != "none":
        return (
            True,
            f"kube-proxy ({found.kube_proxy}) translates it as soon as the address goes, after 2 s at most",
        )
    return False, "unknown: no kube-proxy is here, and what translates the address otherwise is not known"


def _is_service(address: str) -> bool:
    return not is_link_local(address)


def _left_overs(found: Survey, addresses: tuple[str, ...]) -> Iterator[str]:
    for one in found.filters:
        rules = [rule for rule in one.rules(addresses) if rule.table == "raw" and not rule.local]
        if rules:
            yield (
                f"{len(rules)} NOTRACK rules of node-cache in IPv{one.version} {one.backend}:"
                " they outlive the address, and keep kube-proxy from it"
            )
    for held in found.held:
        if held.permanent and held.address not in found.served:
            yield f"{held.address} on {held.interface}, without a lifetime and with nobody behind it"
