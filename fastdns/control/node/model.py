# SPDX-License-Identifier: Apache-2.0
"""What is to be done on the node, and what has been: plain values, without a look at the machine."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from fastdns.control.addresses import DNS_PORT
from fastdns.errors import FastDNSError

HEALTH_PORT = 8080
TABLE = "fastdns"  #: our nft tables, `ip fastdns` and `ip6 fastdns`
LINGER_S = (
    600  #: of the fallback, past the last renewal: bridges an upgrade and a crash's back-off of 5 minutes
)
FALLBACK_ZONE = 53  #: conntrack zone of the first rewritten address; the others follow


class Mode(StrEnum):
    """Who writes the rules that keep DNS out of conntrack."""

    AUTO = "auto"  #: one nft table of our own; iptables where the kernel or the image has no nft
    IPTABLES = "iptables"  #: node-cache's rules, tied to the address; no fallback of the link-local address
    NONE = "none"  #: nobody: -setupiptables=false


class Phase(Enum):
    """What the rules are for."""

    SERVE = "serve"
    DRAIN = "drain"  #: new questions go to the cluster's DNS already, pending ones are answered
    LINGER = "linger"  #: nobody serves: the fallback alone stays


class ErrorType(StrEnum):
    """node-cache's label of coredns_nodecache_setup_errors_total (corefile.md, 3)."""

    IPTABLES = "iptables"
    IPTABLES_LOCK = "iptables_lock"
    INTERFACE_ADD = "interface_add"
    INTERFACE_CHECK = "interface_check"


class NodeError(FastDNSError):
    """Something that could not be done to the node's network. It is counted, logged and tried again."""

    def __init__(self, kind: ErrorType, text: str) -> None:
        super().__init__(text)
        self.kind = kind

    def __reduce__(self) -> tuple[type["NodeError"], tuple[ErrorType, str]]:
        return NodeError, (self.kind, str(self))  # it comes from a short-lived child


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What node-cache's flags and the ``fastdns`` block ask for.

    addresses: -localip, canonical text. cluster_dns: the service behind which CoreDNS is
    (-upstreamsvc), of either family; empty: unknown.
    """

    addresses: tuple[str, ...]
    cluster_dns: tuple[str, ...] = ()
    port: int = DNS_PORT
    health_port: int = HEALTH_PORT
    interface: str = "nodelocaldns"
    setup_interface: bool = True
    mode: Mode = Mode.AUTO
    skip_teardown: bool = False
    linger_s: int = LINGER_S

    def of_family(self, version: int) -> tuple[str, ...]:
        return tuple(one for one in self.addresses if family_of(one) == version)

    @property
    def touches_nothing(self) -> bool:
        """The flags of a Cilium local redirect policy: no interface, no rules."""
        return not self.setup_interface and self.mode is Mode.NONE

    def fallbacks(self) -> tuple["Fallback", ...]:
        """The addresses that only this node knows, each with the service that answers in its place.

        Such an address is link-local, or the first of its family in -localip (the Kubernetes manual's
        order); the service is another address of -localip, else -upstreamsvc.
        """
        found: list[Fallback] = []
        for version in (4, 6):
            own = self.of_family(version)
            local = [one for one in own if is_link_local(one)] or list(own[:1])
            services = [one for one in own if one not in local]
            services += [one for one in self.cluster_dns if family_of(one) == version and one not in local]
            if services:
                found += [Fallback(one, services[0], FALLBACK_ZONE + n) for n, one in enumerate(local)]
        return tuple(found)

    def in_order(self) -> tuple[str, ...]:
        """The addresses as they are put on the node: what only the node knows first, the services last."""
        first = self.known_here() or self.addresses[:1]
        return (*first, *(one for one in self.addresses if one not in first))

    def known_here(self) -> tuple[str, ...]:
        """The addresses that only this node knows: dead without us, unless there is a fallback."""
        link_local = [one for one in self.addresses if is_link_local(one)]
        return tuple(dict.fromkeys([*(one.address for one in self.fallbacks()), *link_local]))


@dataclass(frozen=True, slots=True)
class Fallback:
    """Questions to ``address`` go to ``service`` while the address is not on the node."""

    address: str
    service: str
    zone: int  #: of conntrack, for the rewritten flows alone


@dataclass(frozen=True, slots=True)
class Link:
    """An interface."""

    index: int
    name: str
    kind: str  #: "" for one that was there
    created: bool


@dataclass(frozen=True, slots=True)
class Held:
    """One of our addresses that is on the node already."""

    address: str
    interface: str
    permanent: bool  #: without a lifetime: node-cache's, or by hand


@dataclass(frozen=True, slots=True)
class Standing:
    """What is in the kernel now, as far as it is ours."""

    mode: Mode = Mode.NONE  #: who keeps DNS out of conntrack: AUTO stands for the nft table
    fallback: bool = False
    listing: str | None = ""  #: the nft tables as they were when they went in; None: not to be believed
    added: tuple[str, ...] = ()  #: iptables rules, as node-cache's log has them
    removed: int = 0  #: left-overs
    restored: bool = False  #: something of ours was missing
    trouble: tuple[str, ...] = ()  #: what could not be had, in words

    def lacks_of(self, plan: NodePlan) -> bool:
        """Whether nft gave less than the plan asks for."""
        if plan.mode is not Mode.AUTO:
            return False
        return self.mode is not Mode.AUTO or self.fallback != bool(plan.fallbacks())


@dataclass(slots=True)
class NodeState:
    """What is known of the node's network; for metrics, /ready and the log."""

    errors: dict[str, int] = field(default_factory=lambda: {one.value: 0 for one in ErrorType})
    fallback: bool = False  #: questions to the link-local address find the cluster's DNS when we are gone
    rules: str = "none"  #: nft, iptables or none
    serving: tuple[str, ...] = ()  #: addresses that the keeper renews


def family_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def is_link_local(address: str) -> bool:
    """169.254.0.0/16 (RFC 3927 s2.1), fe80::/10 (RFC 4291 s2.4)."""
    if family_of(address) == 4:
        return address.startswith("169.254.")
    octets = socket.inet_pton(socket.AF_INET6, address)
    return octets[0] == 0xFE and octets[1] & 0xC0 == 0x80


def canonical(addresses: Sequence[str]) -> tuple[str, ...]:
    """Addresses in the one form in which they are compared. Raises OSError."""
    families = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in addresses]
    pairs = zip(families, addresses, strict=True)
    return tuple(socket.inet_ntop(family, socket.inet_pton(family, one)) for family, one in pairs)
