# SPDX-License-Identifier: Apache-2.0
"""A parsed Corefile without its classes.

Control keeps what its Corefile says, for /metrics, the log and the node's network. The classes that it is
parsed to take 3 MiB with all that declares their options; so the process that parses it hands over the same
attributes in objects of one class.
"""

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from fastdns.control.addresses import Endpoint

if TYPE_CHECKING:
    from fastdns.control.config.model import Corefile

_PARSED = "fastdns.control.config."  # the classes that stay behind


class StandIn:
    """The attributes of an object of the parser."""


class BlockStandIn(StandIn):
    """Those of a server block, with what it computes of them."""

    zones: tuple[str, ...]
    by_port: dict[int, tuple[Endpoint, ...]]

    def endpoints(self, key: Any) -> tuple[Endpoint, ...]:
        """Where the block listens for a key."""
        return self.by_port[key.port]


def stand_in(corefile: "Corefile") -> "Corefile":
    """The same to read, of classes that control has anyway."""
    found: Corefile = _plain(corefile)
    for block, original in zip(found.blocks, corefile.blocks, strict=True):
        assert isinstance(block, BlockStandIn)
        block.zones = original.zones
        block.by_port = {key.port: original.endpoints(key) for key in original.keys}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if not is_dataclass(value) or not type(value).__module__.startswith(_PARSED):
        return value
    found = BlockStandIn() if type(value).__name__ == "ServerBlock" else StandIn()
    for one in fields(value):
        setattr(found, one.name, _plain(getattr(value, one.name)))
    return found
