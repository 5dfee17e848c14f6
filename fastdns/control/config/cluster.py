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


def lie_below(block: ServerBlock, zones: tuple[str, ...]) -> bool:
    """Whether all zones of a block are among these or below them."""
    return all(any(is_below(zone, one) for one in zones) for zone in block.zones)


def _servers(corefile: Corefile, zone: str) -> frozenset[Endpoint]:
    return frozenset().union(*(_asked(one) for one in corefile.blocks if zone in one.zones))


def _asked(block: ServerBlock) -> frozenset[Endpoint]:
    return frozenset(end for one in block.forward for to in one.to for end in to.endpoints)
