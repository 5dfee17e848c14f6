# SPDX-License-Identifier: Apache-2.0
"""Which rules there should be on the node, and what makes those that there are the same."""

import shlex
from pathlib import Path

import pytest

from fastdns.control.node import iptables, nft
from fastdns.control.node.iptables import Backend, Chain, Found, Rule
from fastdns.control.node.model import Fallback, Mode, NodePlan, Phase, canonical
from fastdns.protocol import Address

LOCAL, SERVICE, LOCAL6, SERVICE6 = "169.254.20.10", "10.43.0.10", "fd53::10", "fd43::a"
RKE2 = NodePlan((LOCAL, SERVICE), cluster_dns=("10.43.77.1",))
DUAL = NodePlan((LOCAL, SERVICE, LOCAL6, SERVICE6))

# What `iptables -S` prints for a rule that node-cache has made (both back ends print the same).
LISTED = (
    f"-d {LOCAL}/32 -p udp -m udp --dport 53"
    ' -m comment --comment "NodeLocal DNS Cache: allow DNS traffic" -j ACCEPT'
)


def chain(*listed: str, name: str = "INPUT", table: str = "filter", policy: str = "ACCEPT") -> Chain:
    words = [shlex.split(one) for one in listed]
    return Chain(
        table, name, policy, tuple(Found(tuple(one), iptables.parse(table, name, one)) for one in words)
    )


def listed(rule: Rule) -> str:
    """The rule as `-S` prints it."""
    bits = 128 if ":" in rule.address else 32
    local = "-m addrtype --dst-type LOCAL " if rule.local and rule.direction == "d" else ""
    local = local or ("-m addrtype --src-type LOCAL " if rule.local else "")
    return (
        f"-{rule.direction} {rule.address}/{bits} -p {rule.protocol} -m {rule.protocol}"
        f' --{rule.direction}port {rule.port} {local}-m comment --comment "{rule.comment}" -j {rule.target}'
    )


# ---- which address falls back to which service


def test_the_link_local_address_falls_back_to_the_service_beside_it() -> None:
    assert RKE2.fallbacks() == (Fallback(LOCAL, SERVICE, 53),)
    assert DUAL.fallbacks() == (Fallback(LOCAL, SERVICE, 53), Fallback(LOCAL6, SERVICE6, 53))


def test_alone_it_falls_back_to_the_upstream_service() -> None:
    assert NodePlan((LOCAL,), ("fd43::b", "10.43.77.1")).fallbacks() == (Fallback(LOCAL, "10.43.77.1", 53),)


def test_without_any_service_there_is_no_fallback() -> None:
    assert NodePlan((LOCAL,)).fallbacks() == ()
    assert NodePlan((LOCAL,), ("fd43::b",)).fallbacks() == (), "of the other family"


def test_the_order_does_not_matter_for_a_link_local_address() -> None:
    plan = NodePlan((SERVICE, LOCAL))
    assert plan.fallbacks() == (Fallback(LOCAL, SERVICE, 53),)
    assert plan.in_order() == (LOCAL, SERVICE)


def test_each_link_local_address_has_a_zone() -> None:
    plan = NodePlan((LOCAL, "169.254.20.11", SERVICE))
    assert plan.fallbacks() == (Fallback(LOCAL, SERVICE, 53), Fallback("169.254.20.11", SERVICE, 54))


def test_services_come_last() -> None:
    assert DUAL.in_order() == (LOCAL, LOCAL6, SERVICE, SERVICE6)
    assert NodePlan((LOCAL,)).in_order() == (LOCAL,)
    assert NodePlan((SERVICE,)).in_order() == (SERVICE,)


def test_addresses_have_one_form() -> None:
    assert canonical(["FD53:0::10", LOCAL]) == (LOCAL6, LOCAL)
    with pytest.raises(OSError):
        canonical(["localhost"])


# ---- the nft table


def test_every_notrack_rule_asks_whether_the_address_is_local() -> None:
    text = nft.ruleset(DUAL, Phase.SERVE, with_fallback=True)
    rules = [line.strip() for line in text.splitlines() if "notrack" in line and "chain" not in line]
    assert len(rules) == 2 * 8
    assert all(
        "fib daddr type local notrack" in rule or "fib saddr type local notrack" in rule for rule in rules
    )


def test_a_drain_tracks_questions_and_no_answers() -> None:
    text = nft.ruleset(RKE2, Phase.DRAIN, with_fallback=True)
    rules = [line.strip() for line in text.splitlines() if line.endswith("notrack")]
    assert rules == [
        f"ip saddr @served {one} sport 53 fib saddr type local notrack" for one in ("udp", "tcp")
    ]
    assert (
        f"ip daddr {LOCAL} udp dport 53 ip daddr @draining ct original zone set 53 ip daddr set {SERVICE}"
        in text
    )


def test_nothing_lingers_but_the_fallback() -> None:
    text = nft.ruleset(RKE2, Phase.LINGER, with_fallback=True)
    assert "notrack" not in text
    assert text.count("fib daddr type != local") == 4
    assert "table ip6 fastdns {" not in text


def test_the_tables_are_replaced_not_added_to() -> None:
    for phase in Phase:
        text = nft.ruleset(RKE2, phase, with_fallback=False)
        for family in ("ip", "ip6"):
            assert f"add table {family} fastdns\ndelete table {family} fastdns\n" in text


def test_other_ports_are_served_too() -> None:
    text = nft.ruleset(NodePlan((LOCAL, SERVICE), port=5353, health_port=9999), Phase.SERVE, True)
    assert "port 53 " not in text
    assert "tcp dport 9999" in text


# ---- iptables


def test_node_caches_arguments_to_the_letter() -> None:
    texts = [str(rule) for rule in iptables.accept_rules(NodePlan((LOCAL,)), 4)]
    comment = "-m comment --comment NodeLocal DNS Cache: allow DNS traffic"
    assert texts == [
        f"{{filter INPUT [-p tcp -d {LOCAL} --dport 53 -j ACCEPT {comment}]}}",
        f"{{filter INPUT [-p udp -d {LOCAL} --dport 53 -j ACCEPT {comment}]}}",
        f"{{filter OUTPUT [-p tcp -s {LOCAL} --sport 53 -j ACCEPT {comment}]}}",
        f"{{filter OUTPUT [-p udp -s {LOCAL} --sport 53 -j ACCEPT {comment}]}}",
    ]


def test_a_listed_rule_is_known_by_its_comment() -> None:
    assert iptables.parse("filter", "INPUT", shlex.split(LISTED)) == iptables.accept_rules(RKE2, 4)[1]
    assert iptables.parse("filter", "INPUT", shlex.split(LISTED.replace("NodeLocal", "Other"))) is None
    assert iptables.parse("filter", "INPUT", shlex.split(LISTED.replace("/32", "/16"))) is None
    assert iptables.parse("filter", "INPUT", shlex.split("-j KUBE-FIREWALL")) is None
    assert iptables.parse("filter", "INPUT", ["--comment", iptables.ALLOW]) is None
    notrack = f'-p tcp -s {LOCAL6}/128 --sport 53 -m comment --comment "{iptables.SKIP}" -j CT --notrack'
    found = iptables.parse("raw", "OUTPUT", shlex.split(notrack))
    assert found == Rule("raw", "OUTPUT", "tcp", "s", LOCAL6, 53, "NOTRACK", iptables.SKIP)


@pytest.mark.parametrize("version", [4, 6])
def test_what_we_write_is_what_we_read(version: int) -> None:
    for rule in iptables.accept_rules(DUAL, version) + iptables.notrack_rules(DUAL, version):
        assert iptables.parse(rule.table, rule.chain, rule.arguments()) == rule
        assert iptables.parse(rule.table, rule.chain, shlex.split(listed(rule))) == rule


def test_accept_rules_stand_where_something_could_drop() -> None:
    quiet = [chain(), chain(name="OUTPUT")]
    assert iptables.wanted(RKE2, Mode.AUTO, Phase.SERVE, 4, True, quiet) == []
    for busy in (chain(policy="DROP"), chain("-j cali-INPUT"), chain("-j DROP", name="OUTPUT")):
        assert iptables.wanted(
            RKE2, Mode.AUTO, Phase.SERVE, 4, False, [*quiet, busy]
        ) == iptables.accept_rules(RKE2, 4)
    # Our own rules alone are no reason to stay.
    assert iptables.wanted(RKE2, Mode.AUTO, Phase.SERVE, 4, True, [chain(LISTED)]) == []
    assert iptables.wanted(RKE2, Mode.NONE, Phase.SERVE, 4, True, [chain(policy="DROP")]) == []


def test_forced_iptables_rules_are_tied_to_the_address() -> None:
    rules = iptables.wanted(RKE2, Mode.IPTABLES, Phase.SERVE, 4, True, [chain()])
    assert len(rules) == 16
    assert all(rule.local and "addrtype" in rule.arguments() for rule in rules)
    assert iptables.wanted(RKE2, Mode.IPTABLES, Phase.SERVE, 4, False, [chain()]) == [], (
        "in the host's back end only"
    )


def test_a_drain_keeps_answers_untracked_and_a_removal_nothing() -> None:
    rules = iptables.wanted(RKE2, Mode.IPTABLES, Phase.DRAIN, 4, True, [chain()])
    assert {(rule.direction, rule.port, rule.chain) for rule in rules} == {("s", 53, "OUTPUT")}
    assert iptables.wanted(RKE2, Mode.IPTABLES, Phase.LINGER, 4, True, [chain(policy="DROP")]) == []


def test_nothing_changes_where_all_is_there() -> None:
    rules = iptables.accept_rules(RKE2, 4)
    chains = [
        chain(*(listed(rule) for rule in rules if rule.chain == name), "-j cali", name=name)
        for name in ("INPUT", "OUTPUT")
    ]
    assert iptables.changes(RKE2, chains, rules, frozenset()) == ({}, [], 0)


def test_left_overs_and_duplicates_go_and_what_is_missing_comes_first() -> None:
    rules = iptables.accept_rules(NodePlan((LOCAL,)), 4)
    raw = f'-d {LOCAL}/32 -p udp -m udp --dport 53 -m comment --comment "{iptables.SKIP}" -j NOTRACK'
    chains = [chain(LISTED, LISTED, "-j cali"), chain(raw, "-j other", name="PREROUTING", table="raw")]
    lines, added, removed = iptables.changes(RKE2, chains, rules, frozenset())
    assert removed == 2
    assert added == [rules[0], *rules[2:]]
    assert [line.split()[0] for line in lines["filter"]] == ["-I"] * 3 + ["-D"]
    assert lines["raw"] == [f"-D PREROUTING {raw}"]


def test_the_rules_of_addresses_that_others_serve_stay() -> None:
    elsewhere = LISTED.replace(LOCAL, "169.254.20.11")
    assert iptables.changes(RKE2, [chain(elsewhere)], [], frozenset()) == ({}, [], 0)
    assert iptables.changes(RKE2, [chain(LISTED)], [], frozenset({LOCAL})) == ({}, [], 0)


def test_programs_are_found_by_back_end(tmp_path: Path) -> None:
    both = {"iptables-nft", "iptables-legacy", "ip6tables-nft", "iptables", "ip6tables"}
    found = iptables.find_backends((4, 6), lambda name: name if name in both else None)
    assert [(one.name, one.version) for one in found] == [("nft", 4), ("legacy", 4), ("nft", 6)]
    assert iptables.find_backends((4,), lambda name: None) == []


def test_legacy_tables_are_not_made_by_looking(tmp_path: Path) -> None:
    backend = Backend("legacy", 4, "iptables-legacy")
    assert backend.tables(tmp_path) == frozenset()
    (tmp_path / "ip_tables_names").write_text("filter\nnat\n")
    assert backend.tables(tmp_path) == {"filter", "nat"}


# ---- the keeper's addresses


@pytest.mark.parametrize("address", [LOCAL, LOCAL6, "255.255.255.255", "::1"])
def test_addresses_go_through_the_channel(address: str) -> None:
    one = Address(address, 4711, 2)
    assert Address.of((*one.words(), 0, 0, 0)) == one


def test_an_address_of_no_family_is_refused() -> None:
    with pytest.raises(ValueError):
        Address.of((99, 1, 2, 0, 0, 0, 0, 0))
