# SPDX-License-Identifier: Apache-2.0
"""Which server blocks serve the cluster's own names, and which the rest of the world's."""

from typing import Final

from fastdns.control.addresses import Endpoint
from fastdns.control.config.model import Corefile, ServerBlock
from fastdns.control.config.names import is_below

#: Zones whose servers are the cluster DNS: the domain that clusters have where nobody chose another, and
#: the reverse zone, which node-cache's templates send there.
_DOMAIN: Final = "cluster.local."
_REVERSE: Final = "in-addr.arpa."
_ARPA: Final = "arpa."  #: above all reverse zones


def cluster_blocks(corefile: Corefile) -> frozenset[int]:
    """Places in the file of the cluster's blocks: those of the zones that the option ``cluster_zones`` names,
    or, where it isn't said, those that are not of the root and forward to nobody but the cluster DNS.
    """
    zones = corefile.settings.cluster_zones
    if zones is not None:
        return frozenset(place for place, one in enumerate(corefile.blocks) if lie_below(one, zones))
    servers = _servers(corefile, _DOMAIN) | (_servers(corefile, _REVERSE) - _servers(corefile, "."))
    return frozenset(
        place
        for place, one in enumerate(corefile.blocks)
        if "." not in one.zones and one.forward and _asked(one) <= servers
    )


def domain_blocks(corefile: Corefile) -> frozenset[int]:
    """Of these, the blocks of the cluster's own domain: what CoreDNS answers of its own knowledge.

    A zone that it sends on to other servers is none. Nor is a reverse zone, though it is the cluster's: of an
    address's name CoreDNS knows the whole alone, and denies what lies above (``43.10.in-addr.arpa``).
    """
    places = cluster_blocks(corefile)
    if corefile.settings.cluster_zones is None:
        known = frozenset(place for place in places if lie_below(corefile.blocks[place], (_DOMAIN,)))
        if known:
            return known
    return frozenset(
        place for place in places if not any(is_below(zone, _ARPA) for zone in corefile.blocks[place].zones)
    )


def lie_below(block: ServerBlock, zones: tuple[str, ...]) -> bool:
    """Whether all zones of a block are among these or below them."""
    return all(any(is_below(zone, one) for one in zones) for zone in block.zones)


def _servers(corefile: Corefile, zone: str) -> frozenset[Endpoint]:
    return frozenset().union(*(_asked(one) for one in corefile.blocks if zone in one.zones))


def _asked(block: ServerBlock) -> frozenset[Endpoint]:
    return frozenset(end for one in block.forward for to in one.to for end in to.endpoints)
