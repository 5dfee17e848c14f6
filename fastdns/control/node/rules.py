# SPDX-License-Identifier: Apache-2.0
"""The node's rules as a whole: our nft table, the ACCEPT rules beside it, and what others have left.

These functions block, and run in short-lived children; NodeNetwork calls them and keeps their results.
"""

from dataclasses import replace

from fastdns.control.node import iptables, nft
from fastdns.control.node.model import ErrorType, Mode, NodeError, NodePlan, Phase, Standing
from fastdns.control.node.nft import UnavailableError


def establish(plan: NodePlan, foreign: frozenset[str]) -> Standing:
    """Put all rules in place, and remove what others left once ours are. Raises NodeError."""
    if plan.mode is Mode.NONE:
        return Standing()
    standing = _load_table(plan) if plan.mode is Mode.AUTO else Standing(Mode.IPTABLES)
    if plan.mode is Mode.IPTABLES:
        _remove_tables()
    return _with_iptables(plan, standing, foreign, True)


def check(plan: NodePlan, standing: Standing, foreign: frozenset[str], left_overs: bool) -> Standing:
    """Put back what is missing; remove what others have left meanwhile, too. Raises NodeError."""
    restored = False
    if standing.mode is Mode.AUTO:
        found = nft.listing(plan)
        if found != standing.listing or not nft.are_youngest(plan):
            standing = _load_table(plan)
            restored = found != standing.listing  # where nobody believed the former listing, it may be none
    after = _with_iptables(plan, standing, foreign, left_overs)
    return replace(after, restored=restored or bool(after.added))


def drain(plan: NodePlan, standing: Standing) -> None:
    """Lead new questions to the cluster's DNS, while those under way are answered. Raises NodeError."""
    if standing.mode is Mode.AUTO:
        nft.load(plan, Phase.DRAIN, standing.fallback)
    elif standing.mode is Mode.IPTABLES:
        iptables.synchronise(plan, standing.mode, Phase.DRAIN)


def remove(plan: NodePlan, standing: Standing, foreign: frozenset[str]) -> None:
    """Take away all rules; the fallback lingers where it should. Raises NodeError."""
    if standing.mode is Mode.NONE:
        return
    try:
        if standing.mode is Mode.AUTO:
            _leave_fallback(plan, standing)
    finally:
        iptables.synchronise(plan, standing.mode, Phase.LINGER, foreign)


def _leave_fallback(plan: NodePlan, standing: Standing) -> None:
    if plan.linger_s and standing.fallback:
        try:
            nft.load(plan, Phase.LINGER, True)
        except UnavailableError:
            nft.remove()  # at the least
            raise
    else:
        nft.remove()


def _load_table(plan: NodePlan) -> Standing:
    """Our table; without the fallback where the kernel can't, and none where it can't even that."""
    trouble: list[str] = []
    fallbacks = bool(plan.fallbacks())
    if not fallbacks:
        trouble.append("no fallback: no address of the cluster's DNS service is known")
    for with_fallback in (True, False) if fallbacks else (False,):
        try:
            nft.load(plan, Phase.SERVE, with_fallback)
        except UnavailableError as error:
            trouble.append(f"{'no fallback' if with_fallback else 'iptables in place of nft'}: {error}")
            continue
        return Standing(Mode.AUTO, with_fallback, nft.listing(plan), trouble=tuple(trouble))
    return Standing(Mode.IPTABLES, trouble=tuple(trouble))


def _with_iptables(plan: NodePlan, standing: Standing, foreign: frozenset[str], left_overs: bool) -> Standing:
    backends = iptables.find_backends((4, 6))
    if not backends and standing.mode is Mode.AUTO:
        return replace(
            standing, trouble=(*standing.trouble, "no iptables here: nobody looks for chains that drop")
        )
    if not backends:
        raise NodeError(ErrorType.IPTABLES, "neither nft nor iptables can be used here")
    outcome = iptables.synchronise(plan, standing.mode, Phase.SERVE, foreign, left_overs)
    return replace(standing, added=outcome.added, removed=outcome.removed)


def _remove_tables() -> None:
    """An earlier instance may have used nft; its table would go on beside iptables' rules."""
    try:
        nft.remove()
    except UnavailableError:
        return  # then there is none
