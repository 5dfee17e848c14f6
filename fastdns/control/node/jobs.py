# SPDX-License-Identifier: Apache-2.0
"""What NodeNetwork has done in short-lived children, by modules that only those import.

Each of these blocks, and raises NodeError. docs/development.md says why memory is counted so closely.
"""

from collections.abc import Sequence

from fastdns.control.addresses import Endpoint
from fastdns.control.node.model import Held, Link, NodePlan, Phase, Standing


def establish(plan: NodePlan, foreign: frozenset[str]) -> Standing:
    """All rules, and none of what others left."""
    from fastdns.control.node import rules

    return rules.establish(plan, foreign)


def restore_tables(plan: NodePlan, fallback: bool) -> None:
    """Our nft tables alone, as they were; faster than a look at everything."""
    from fastdns.control.node import nft

    nft.load(plan, Phase.SERVE, fallback)


def check_rules(plan: NodePlan, standing: Standing, foreign: frozenset[str], left_overs: bool) -> Standing:
    """What is missing of them is put back, and what others have left meanwhile removed."""
    from fastdns.control.node import rules

    return rules.check(plan, standing, foreign, left_overs)


def drain_rules(plan: NodePlan, standing: Standing) -> None:
    """New questions go elsewhere from now on."""
    from fastdns.control.node import rules

    rules.drain(plan, standing)


def remove_all(plan: NodePlan, standing: Standing, foreign: frozenset[str]) -> None:
    """Rules and interface; one that somebody else serves on stays."""
    from fastdns.control.node import interface, rules

    try:
        rules.remove(plan, standing, foreign)
    finally:
        if plan.setup_interface and not foreign:
            interface.remove_link(plan.interface)


def renew_fallback(plan: NodePlan) -> None:
    """The fallback's timeout starts anew."""
    from fastdns.control.node import nft

    nft.renew(plan)


def ensure_link(name: str) -> Link:
    """The interface, made where there is none."""
    from fastdns.control.node import interface

    return interface.ensure_link(name)


def held(addresses: tuple[str, ...]) -> list[Held]:
    """Which of these addresses are on the node."""
    from fastdns.control.node import interface

    return interface.held(addresses)


def foreign_listeners(addresses: tuple[str, ...], port: int, processes: tuple[int, ...]) -> frozenset[str]:
    """On which of these addresses others listen."""
    from fastdns.control.node import listening

    return listening.foreign_listeners(addresses, port, processes)


def self_test(endpoint: Endpoint, regions: Sequence[int], within_s: float) -> str:
    """What is wrong with the answers on an address; "" for nothing."""
    from fastdns.control.node import selftest

    return selftest.failure(endpoint, regions, within_s)


def examine(plan: NodePlan) -> str:
    """One line about the node."""
    from fastdns.control.node import check
    from fastdns.control.node.survey import survey

    return check.summary(check.judge(survey(plan.addresses, plan.port), plan.addresses))
