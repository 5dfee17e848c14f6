# SPDX-License-Identifier: Apache-2.0
"""What is on this node that decides whether queries reach us: facts, without a judgement.

It reads, and changes nothing. It blocks, and runs in a short-lived child or in `fastdns check --node`.
"""

import contextlib
import json
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastdns.control.cgroup import memory_limit
from fastdns.control.node import interface, iptables, listening, nfnetlink, nft
from fastdns.control.node.iptables import Backend, Chain, Rule
from fastdns.control.node.model import TABLE, Held, NodeError, family_of

# Tables that iptables-nft, kube-proxy and we make; what they drop is known from elsewhere, or meant.
_KNOWN_TABLES = frozenset({"filter", "nat", "raw", "mangle", "security", "kube-proxy", TABLE})
_HOOKS = frozenset({"prerouting", "input", "output"})
_DROPS = frozenset({"drop", "drop;", "reject"})

# An interface's name -> who carries pods' packets. The first match counts.
_CNI = (
    ("bpfin.cali", "calico-ebpf"),
    ("bpfnatin", "calico-ebpf"),
    ("cilium_", "cilium"),
    ("cali", "calico"),
    ("flannel", "flannel"),
    ("cni", "bridge"),
    ("weave", "weave"),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """iptables' chains of one back end and family."""

    backend: str
    version: int
    chains: tuple[Chain, ...]
    is_host: bool  #: the kubelet's hint is in it
    has_services: bool  #: kube-proxy's chain KUBE-SERVICES is

    def chain(self, name: str) -> Chain:
        return next(one for one in self.chains if (one.table, one.name) == ("filter", name))

    def rules(self, addresses: Iterable[str]) -> list[Rule]:
        return [rule for one in self.chains for rule in one.ours() if rule.address in addresses]


@dataclass(frozen=True, slots=True)
class Survey:
    """All of it."""

    kube_proxy: str  #: iptables-nft, iptables-legacy, nft, ipvs, or none
    cni: str  #: of _CNI, or unknown
    filters: tuple[Filter, ...]
    droppers: tuple[str, ...]  #: foreign nft chains that may drop, as "family table chain"
    held: tuple[Held, ...]
    served: frozenset[str]  #: addresses with a socket on the port
    fallbacks: frozenset[str]  #: addresses that our nft table rewrites when they are away
    has_table: bool
    memory: str
    trouble: tuple[str, ...]  #: what could not be looked at


def addresses_here(interface_name: str, port: int) -> tuple[str, ...]:
    """The addresses of a node cache, of now or before: on its interface, in our table, in its rules."""
    found: dict[str, None] = {}
    with contextlib.suppress(NodeError):
        found.update(dict.fromkeys(interface.addresses_on(interface_name)))
    found.update(dict.fromkeys(_elements("served")))
    with contextlib.suppress(NodeError):
        for one in _filters():
            for chain in one.chains:
                found.update((rule.address, None) for rule in chain.ours() if rule.port == port)
    return tuple(
        sorted(found, key=lambda one: (family_of(one), not one.startswith(("169.254.", "fe80:")), one))
    )


def survey(addresses: Sequence[str], port: int, proc: Path = Path("/proc")) -> Survey:
    """Look at the node."""
    trouble: list[str] = []
    filters: tuple[Filter, ...] = ()
    held: tuple[Held, ...] = ()
    try:
        filters = _filters()
    except NodeError as error:
        trouble.append(str(error))
    try:
        held = tuple(interface.held(tuple(addresses)))
    except NodeError as error:
        trouble.append(str(error))
    tables, droppers = _nft_tables(trouble)
    limit = memory_limit()
    return Survey(
        kube_proxy=_kube_proxy(filters, tables, proc),
        cni=_cni([name for _, name in socket.if_nameindex()]),
        filters=filters,
        droppers=droppers,
        held=held,
        served=listening.foreign_listeners(addresses, port, (), proc),
        fallbacks=frozenset(_elements("fallback")),
        has_table=any(name == TABLE for _, name in tables),
        memory=f"{limit.octets // 2**20} MiB ({limit.where})" if limit else "none",
        trouble=tuple(trouble),
    )


def _filters() -> tuple[Filter, ...]:
    found = []
    backends = iptables.find_backends((4, 6))
    for one in backends:
        if one.tables():
            chains = tuple(one.read(table, chain) for table, chain in iptables.CHAINS)
            services = one.has_chain("nat", "KUBE-SERVICES")
            found.append(Filter(one.name, one.version, chains, _is_host(one), services))
    return tuple(found)


def _is_host(backend: Backend) -> bool:
    return any(backend.has_chain("mangle", hint) for hint in iptables.HINTS)


def _kube_proxy(filters: Iterable[Filter], tables: Iterable[tuple[str, str]], proc: Path) -> str:
    if any(name == "kube-proxy" for _, name in tables):
        return "nft"
    with contextlib.suppress(OSError):
        if len((proc / "net/ip_vs").read_text(encoding="ascii").splitlines()) > 3:  # below its heading
            return "ipvs"
    return next((f"iptables-{one.backend}" for one in filters if one.has_services), "none")


def _cni(interfaces: Sequence[str]) -> str:
    return next(
        (kind for start, kind in _CNI if any(name.startswith(start) for name in interfaces)), "unknown"
    )


def _nft_tables(trouble: list[str]) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """All nft tables, and the foreign chains among them that may drop what is for us."""
    try:
        tables = nfnetlink.tables()
        droppers = [
            chain for family, name in tables if name not in _KNOWN_TABLES for chain in _droppers(family, name)
        ]
    except (NodeError, OSError, ValueError) as error:
        trouble.append(f"nft tables: {error}")
        return [], ()
    return tables, tuple(droppers)


def _droppers(family: str, table: str) -> list[str]:
    """Base chains of a table on the way of our packets, where it drops or rejects anything."""
    if family not in ("ip", "ip6", "inet"):
        return []
    text = nft.run(["-s", "list", "table", family, table])
    if _DROPS.isdisjoint(text.split()):
        return []
    found = []
    name = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["chain"]:
            name = words[1]
        if words[:2] == ["type", "filter"] and words[3] in _HOOKS:
            found.append(f"{family} {table} {name}")
    return found


def _elements(name: str) -> list[str]:
    """The elements of one of our sets, of both families."""
    found: list[str] = []
    for family in ("ip", "ip6"):
        with contextlib.suppress(NodeError, ValueError, KeyError):
            for one in json.loads(nft.run(["-j", "list", "set", family, TABLE, name]))["nftables"]:
                elements = one.get("set", {}).get("elem", [])
                found += [each if isinstance(each, str) else each["elem"]["val"] for each in elements]
    return found
