# SPDX-License-Identifier: Apache-2.0
"""What the numbers in shared memory are called in metrics and log lines: CoreDNS's label values.

A number keeps its meaning while the server lives, so names that a reload leaves without use are kept:
their counters still stand there, and totals never go back.
"""

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastdns.control.addresses import Endpoint
from fastdns.control.model import HostsStep

if TYPE_CHECKING:  # control reads its configuration in another process: no parser is loaded here
    from fastdns.control.config.model import Corefile, ServerBlock
    from fastdns.control.model import Config

DROPPED = "dropped"  #: CoreDNS's zone label of what no zone took

# CoreDNS's plugins that handle queries, of those that a block can have; the others aren't shown as enabled.
_HANDLERS = (
    "bufsize", "cache", "dns64", "errors", "forward", "hosts", "loadbalance", "log", "loop", "prometheus",
    "rewrite", "template", "trace", "whoami",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SeriesName:
    """A pair of listener and zone."""

    server: str
    zone: str
    family: str  #: 1 IPv4, 2 IPv6
    counted: bool  #: the block has `prometheus`, or nothing took the query
    block: int | None = None
    cached: bool = False  #: the block has `cache`


@dataclass(frozen=True, slots=True)
class BlockName:
    """A server block."""

    servers: tuple[str, ...]
    zone: str  #: the first of its keys
    zones: str  #: what its cache is for, joined by commas
    cached: bool
    templates: tuple[tuple[int, int], ...] = ()  #: class and type of each


@dataclass(frozen=True, slots=True)
class Names:
    """All names of a configuration, and those of earlier ones that it has no other use for."""

    series: dict[int, SeriesName] = field(default_factory=dict)
    blocks: dict[int, BlockName] = field(default_factory=dict)
    upstreams: dict[int, str] = field(default_factory=dict)
    listeners: dict[int, str] = field(default_factory=dict)
    endpoints: dict[int, Endpoint] = field(default_factory=dict)  #: of the listeners there are
    plugins: tuple[tuple[str, str, str], ...] = ()  #: server, zone, plugin
    tls: frozenset[int] = frozenset()  #: upstreams that are asked with TLS

    def after(self, old: "Names") -> "Names":
        """These, with what only ``old`` knows."""
        return Names(
            {**old.series, **self.series},
            {**old.blocks, **self.blocks},
            {**old.upstreams, **self.upstreams},
            {**old.listeners, **self.listeners},
            self.endpoints,
            self.plugins,
            old.tls | self.tls,
        )


@dataclass(slots=True)
class Facts:
    """What no segment says: control's own knowledge of the configuration and the node."""

    digest: str = ""  #: SHA-512 of the Corefile's tokens
    number: int = 0  #: of the configuration
    counted: bool = False  #: some block has `prometheus`
    hosts: dict[str, tuple[int, float]] = field(default_factory=dict)  #: file: entries, time of change (s)
    fallbacks: dict[str, bool] = field(default_factory=dict)  #: address that only the node knows: it has one


def server_label(endpoint: Endpoint, bound: bool = True) -> str:
    """A listener as CoreDNS writes it: ``dns://169.254.20.10:53``; ``dns://:53`` without `bind`."""
    if not bound:
        return f"dns://:{endpoint.port}"
    if endpoint.scope_id:
        try:
            scope = socket.if_indextoname(endpoint.scope_id)
        except OSError:
            scope = str(endpoint.scope_id)
        return f"dns://[{endpoint.host}%{scope}]:{endpoint.port}"
    return f"dns://{endpoint}"


def name_all(config: "Config", corefile: "Corefile | None") -> Names:
    """The names of this configuration. corefile: what it was made from; None: `serve --upstream`."""
    known = owners(corefile)
    unbound = {key.port for block in _blocks(corefile) if block.bind is None for key in block.keys}
    endpoints = {i: one.endpoint for i, one in enumerate(config.listeners) if one is not None}
    listeners = {
        i: server_label(one, not (one.wildcard and one.port in unbound)) for i, one in endpoints.items()
    }
    series: dict[int, SeriesName] = {}
    owner_of: dict[int, ServerBlock] = {}
    servers_of: dict[int, dict[str, None]] = {}
    for listener, zone_number, number in config.series:
        endpoint = endpoints[listener]
        family = "1" if endpoint.family == socket.AF_INET else "2"
        zone = None if zone_number is None else config.zones[zone_number]
        if zone is None:
            series[number] = SeriesName(listeners[listener], DROPPED, family, counted=True)
            continue
        block = config.blocks[zone.block]
        cached = block is not None and block.caching
        series[number] = SeriesName(listeners[listener], zone.name, family, zone.metrics, zone.block, cached)
        servers_of.setdefault(zone.block, {})[listeners[listener]] = None
        owner = known.get((endpoint, zone.name))
        if owner is not None:
            owner_of[zone.block] = owner
    blocks = {
        number: _block_name(owner_of.get(number), tuple(servers), series, number)
        for number, servers in servers_of.items()
    }
    upstreams = {i: str(one.endpoint) for i, one in enumerate(config.upstreams) if one is not None}
    tls = frozenset(i for i, one in enumerate(config.upstreams) if one is not None and one.tls is not None)
    return Names(series, blocks, upstreams, listeners, endpoints, _plugins(owner_of, blocks), tls)


def _blocks(corefile: "Corefile | None") -> "tuple[ServerBlock, ...]":
    return () if corefile is None else corefile.blocks


def owners(corefile: "Corefile | None") -> "dict[tuple[Endpoint, str], ServerBlock]":
    """The server block behind each pair of address and zone."""
    return {
        (endpoint, key.zone): block
        for block in _blocks(corefile)
        for key in block.keys
        for endpoint in block.endpoints(key)
    }


def _block_name(
    block: "ServerBlock | None", servers: tuple[str, ...], series: dict[int, SeriesName], number: int
) -> BlockName:
    if block is None:
        zones = tuple(dict.fromkeys(one.zone for one in series.values() if one.block == number))
        cached = any(one.cached for one in series.values() if one.block == number)
        return BlockName(servers, zones[0], ",".join(zones), cached)
    cached_zones = block.zones if block.cache is None else block.cache.zones or block.zones
    templates = tuple((one.qclass, one.qtype) for one in block.template)
    return BlockName(servers, block.keys[0].zone, ",".join(cached_zones), block.cache is not None, templates)


def _plugins(
    owner_of: "dict[int, ServerBlock]", blocks: dict[int, BlockName]
) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (server, blocks[number].zone, plugin)
        for number, block in owner_of.items()
        if block.prometheus is not None
        for server in blocks[number].servers
        for plugin in _HANDLERS
        if getattr(block, plugin) not in (None, ())
    )


def block_of_zone(config: "Config", corefile: "Corefile | None") -> "dict[int, ServerBlock]":
    """The server block of each zone's number."""
    known = owners(corefile)
    found: dict[int, ServerBlock] = {}
    for listener in config.listeners:
        for number, zone in enumerate(config.zones):
            if listener is not None and zone is not None and zone.group == listener.group:
                block = known.get((listener.endpoint, zone.name))
                if block is not None:
                    found[number] = block
    return found


def hosts_facts(config: "Config", corefile: "Corefile | None") -> dict[str, tuple[int, float]]:
    """Of each hosts file: entries, those in the Corefile and reverse ones included; its time of change, s."""
    found: dict[str, tuple[int, float]] = {}
    for number, owner in block_of_zone(config, corefile).items():
        zone = config.zones[number]
        block = None if zone is None else config.blocks[zone.block]
        if owner.hosts is None or block is None:
            continue
        path = str(owner.hosts.file)
        try:
            changed_s = owner.hosts.file.stat().st_mtime
        except OSError:
            continue  # CoreDNS counts when it has read the file, the Corefile's own lines, too
        entries = sum(_entries(step) for step in block.steps if isinstance(step, HostsStep))
        found[path] = (entries, changed_s)
    return found


def _entries(step: HostsStep) -> int:
    return sum(len(one.inet4) + len(one.inet6) + len(one.pointers) for one in step.names.values())
