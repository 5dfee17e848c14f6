# SPDX-License-Identifier: Apache-2.0
"""The Corefile, typed: one dataclass a plugin, its options declared once (``declare``).

Times are in seconds. Names are absolute and lower case, with the dot at the end. Others import all of it from
here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from fastdns.control.addresses import Endpoint
from fastdns.control.config import kinds as k
from fastdns.control.config.cache import Cache, CacheClass, CacheDisable, Prefetch, ServeStale
from fastdns.control.config.declare import Option, Plugin, Position, Several
from fastdns.control.config.forward import Forward, HealthCheck, Tls, To
from fastdns.control.config.plugins import (
    Bind,
    BindAddress,
    Bufsize,
    Consolidate,
    Debug,
    Dns64,
    Errors,
    ExtendedError,
    Health,
    Hosts,
    HostsLine,
    Loadbalance,
    Log,
    Loop,
    Pprof,
    Prometheus,
    Ready,
    Reload,
    Rewrite,
    Template,
    Timeouts,
    Trace,
    Whoami,
)
from fastdns.control.config.rewrite import (
    AnswerRule,
    ClassRule,
    CnameRule,
    EdnsLocalRule,
    EdnsNsidRule,
    EdnsSubnetRule,
    NameRule,
    RcodeRule,
    Rule,
    TtlRule,
    TypeRule,
)

__all__ = [
    "WILDCARDS",
    "AnswerRule",
    "Bind",
    "BindAddress",
    "Bufsize",
    "Cache",
    "CacheClass",
    "CacheDisable",
    "ClassRule",
    "CnameRule",
    "Consolidate",
    "Corefile",
    "Debug",
    "Dns64",
    "EdnsLocalRule",
    "EdnsNsidRule",
    "EdnsSubnetRule",
    "Errors",
    "ExtendedError",
    "Forward",
    "Health",
    "HealthCheck",
    "Hosts",
    "HostsLine",
    "Key",
    "Loadbalance",
    "Log",
    "Loop",
    "NameRule",
    "Plugin",
    "Position",
    "Pprof",
    "Prefetch",
    "Prometheus",
    "RcodeRule",
    "Ready",
    "Reload",
    "Rewrite",
    "Rule",
    "ServeStale",
    "ServerBlock",
    "Settings",
    "Template",
    "Timeouts",
    "Tls",
    "To",
    "Trace",
    "TtlRule",
    "TypeRule",
    "Whoami",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What node-cache has no words for. The block `fastdns { ... }` stands beside the server blocks; a zone
    of that name is written `fastdns.`. node-cache refuses a file with this block: take it out before you go
    back to it.
    """

    workers: Annotated[
        int, Option("workers", k.Int(1, 16), "processes that answer; 0 (not said): 2, or 1 on one core")
    ] = 0
    memory: Annotated[
        int, Option("memory", k.Size(8 * 2**20), "cache and tables, octets; 0 (not said): 16M")
    ] = 0
    fallback_linger_s: Annotated[
        float,
        Option(
            "fallback_linger",
            k.Duration(0, 86400),
            "how long the link-local address leads to the cluster DNS after we are gone",
        ),
    ] = 600.0
    packet_filter: Annotated[
        str,
        Option(
            "packet_filter",
            k.Choice(("auto", "iptables", "none")),
            "rules by nft, by iptables only, or none at all",
        ),
    ] = "auto"
    stale_s: Annotated[
        float,
        Option(
            "stale",
            k.Duration(),
            "how long after its end an answer is of use where upstream has none, outside the cluster's zones;"
            " 0: not at all",
        ),
    ] = 3600.0
    stale_wait_s: Annotated[
        float,
        Option("stale_wait", k.Duration(0, 4), "upstream's time before a client gets the expired answer"),
    ] = 0.2
    cluster_zones: Annotated[
        tuple[str, ...] | None,
        Option(
            "cluster_zones",
            Several(k.Zones(), least=0),
            "zones of the cluster; not said: all but `.` that are forwarded to the servers of `cluster.local`"
            " or of a reverse zone of their own",
        ),
    ] = None
    no_aaaa: Annotated[
        tuple[str, ...],
        Option(
            "no_aaaa", Several(k.Zones()), "zones in which AAAA is answered NODATA: the network has no IPv6"
        ),
    ] = ()
    no_a: Annotated[
        tuple[str, ...],
        Option("no_a", Several(k.Zones()), "zones in which A is answered NODATA: the network has no IPv4"),
    ] = ()
    both_families: Annotated[
        tuple[str, ...],
        Option("both_families", Several(k.Zones()), "names at or below these have A and AAAA all the same"),
    ] = ()
    nxdomain_cut: Annotated[
        tuple[str, ...] | None,
        Option(
            "nxdomain_cut",
            Several(k.Zones(), least=0),
            "zones in which nothing exists below a name that does not (RFC 8020); not said: the cluster's"
            " domain; no zone: nowhere",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Key:
    """What a block serves: the zone, and the port it is asked on."""

    zone: str
    port: int = 53
    scheme: str = "dns"  #: no other is served

    def __str__(self) -> str:
        return f"{self.scheme}://{self.zone}:{self.port}"


#: What an unbound block listens on.
WILDCARDS: Final = (BindAddress("0.0.0.0"), BindAddress("::"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBlock:
    """A block: its keys, and a field for each plugin, None or () where it is absent."""

    keys: tuple[Key, ...]
    where: Position
    timeouts: Timeouts | None = None
    reload: Reload | None = None
    bufsize: Bufsize | None = None
    bind: Bind | None = None
    debug: Debug | None = None
    trace: Trace | None = None
    ready: Ready | None = None
    health: Health | None = None
    pprof: Pprof | None = None
    prometheus: Prometheus | None = None
    errors: Errors | None = None
    log: tuple[Log, ...] = ()
    dns64: Dns64 | None = None
    loadbalance: Loadbalance | None = None
    cache: Cache | None = None
    rewrite: tuple[Rewrite, ...] = ()
    template: tuple[Template, ...] = ()
    hosts: Hosts | None = None
    loop: Loop | None = None
    forward: tuple[Forward, ...] = ()
    whoami: Whoami | None = None

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of the keys, each once."""
        return tuple(dict.fromkeys(key.zone for key in self.keys))

    def endpoints(self, key: Key) -> tuple[Endpoint, ...]:
        """Where the block listens for a key."""
        addresses = WILDCARDS if self.bind is None else self.bind.addresses
        return tuple(address.at(key.port) for address in addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corefile:
    """A whole file, with what it imports."""

    path: str
    blocks: tuple[ServerBlock, ...]
    settings: Settings
    files: tuple[Path, ...] = ()  #: imported
    digest: str = ""  #: SHA-512 of the tokens, as node-cache's reload takes it
    warnings: tuple[str, ...] = ()
