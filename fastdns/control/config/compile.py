# SPDX-License-Identifier: Apache-2.0
"""From the typed Corefile to the configuration of the data plane (``control.model.Config``).

Listeners on which the same zones and blocks serve are a group; a zone is there once for each group. Numbers
come from a register that outlives reloads (``numbering``).
"""

import contextlib
import hashlib
import math
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from fastdns.control._tables import (
    MAX_BLOCKS,
    MAX_FORWARD_UPSTREAMS,
    MAX_LISTENERS,
    MAX_PREFERRED,
    MAX_SERIES,
    MAX_UPSTREAMS,
    MAX_ZONES,
)
from fastdns.control.addresses import Endpoint
from fastdns.control.config.cluster import cluster_blocks, domain_blocks, lie_below
from fastdns.control.config.forward import To
from fastdns.control.config.model import Corefile, Forward, Key, ServerBlock, Settings
from fastdns.control.config.numbering import Numbers
from fastdns.control.config.stale import stale_of
from fastdns.control.config.steps import is_refused, needs_client, steps_of
from fastdns.control.model import (
    CONNECTION_AGE_S,
    TLS_CONNECTION_AGE_S,
    Block,
    Config,
    HostsStep,
    Identity,
    Limits,
    Listener,
    Tls,
    Upstream,
    Zone,
)
from fastdns.control.model import Forward as ForwardStep
from fastdns.control.sockets import is_local
from fastdns.errors import CorefileError

T = TypeVar("T")

_MAX_GROUPS: Final = 65536
_CAPACITY_MIN: Final = 1024  #: entries: 4 in each of node-cache's 256 parts
_HITS_MAX: Final = 255  #: that make a name popular, as far as the coordinator counts
_SLOW_LIMIT: Final = 64  #: questions of a block that may wait for the Python thread


@dataclass(frozen=True, slots=True)
class Compiled:
    """A configuration, and what there is to say about it."""

    config: Config
    numbers: Numbers  #: as ``config.notes`` has them
    warnings: tuple[str, ...] = ()
    hosts_files: tuple[tuple[Path, float], ...] = ()  #: to be looked at every so many seconds; 0: never


@dataclass(frozen=True, slots=True)
class _Served:
    """A zone on an address."""

    endpoint: Endpoint
    key: Key
    block: int  #: place in the file


def compile_corefile(
    corefile: Corefile,
    numbers: Numbers,
    *,
    worker_count: int,
    limits: Limits | None = None,
    identity: Identity | None = None,
) -> Compiled:
    """The configuration of a Corefile.

    numbers: the register of the configuration before, which is left as it is. Raises CorefileError, with the
    place in the file, where there is too much of something.
    """
    return _Compiler(corefile, numbers.begin()).compile(
        worker_count, limits or Limits(), identity or Identity()
    )


class _Compiler:
    def __init__(self, corefile: Corefile, numbers: Numbers) -> None:
        self.corefile = corefile
        self.blocks = corefile.blocks
        self.numbers = numbers
        self.warnings: list[str] = []
        self.served = list(self._served())
        self.cluster = cluster_blocks(corefile)
        self.domain = domain_blocks(corefile)
        self.endpoints = tuple(dict.fromkeys(one.endpoint for one in self.served))
        self.upstream_numbers: dict[str, int] = {}
        self.found_by: dict[str, str] = {}  # upstreams of files and hosts: what the text calls them

    def _served(self) -> Iterator[_Served]:
        with_ipv6 = _has_ipv6()
        for number, block in enumerate(self.blocks):
            for key in block.keys:
                for endpoint in block.endpoints(key):
                    if with_ipv6 or block.bind is not None or endpoint.family != socket.AF_INET6:
                        yield _Served(endpoint, key, number)

    def compile(self, worker_count: int, limits: Limits, identity: Identity) -> Compiled:
        """The whole."""
        upstreams = self._upstreams()
        listeners = self._numbers_of(
            "listeners", [(str(one.endpoint), one.block) for one in self.served], MAX_LISTENERS, "addresses"
        )
        groups = self._groups()
        block_numbers = self._numbers_of(
            "blocks", [(self._block_key(one), place) for place, one in enumerate(self.blocks)], MAX_BLOCKS
        )
        compiled = {
            block_numbers[self._block_key(block)]: self._block(place, block, upstreams)
            for place, block in enumerate(self.blocks)
        }
        zone_numbers = self._numbers_of(
            "zones", [(f"{groups[one.endpoint]} {one.key.zone}", one.block) for one in self.served], MAX_ZONES
        )
        zones: dict[int, Zone] = {}
        for one in self.served:
            group = groups[one.endpoint]
            block = self.blocks[one.block]
            zones[zone_numbers[f"{group} {one.key.zone}"]] = _zone(
                one.key.zone, group, block_numbers[self._block_key(block)], block
            )
        config = Config(
            listeners=_placed(
                {listeners[str(end)]: self._listener(end, groups[end]) for end in self.endpoints}
            ),
            upstreams=_placed(upstreams),
            zones=_placed(zones),
            blocks=_placed(compiled),
            worker_count=worker_count,
            series=self._series(listeners, zone_numbers, groups),
            number=self.numbers.generation,
            limits=limits,
            identity=identity,
            notes=self.numbers.dump(),
        )
        files = {one.hosts.file: one.hosts.reload_s for one in self.blocks if one.hosts is not None}
        return Compiled(config, self.numbers, tuple(self.warnings), tuple(files.items()))

    # ---- numbers ----

    def _numbers_of(
        self, kind: str, keys: list[tuple[str, int]], most: int, what: str = ""
    ) -> dict[str, int]:
        """A number for each key; the block's place beside it is for the message where there are too many."""
        given = self.numbers.give(kind, (key for key, _ in keys), most)
        for key, place in keys:
            if key not in given:
                raise CorefileError(
                    f"{self.blocks[place].where}: found more {what or kind} than {most}, expected fewer"
                )
        return given

    def _groups(self) -> dict[Endpoint, int]:
        """The group of each address: addresses on which the same zones lead to the same blocks."""
        serving: dict[Endpoint, list[tuple[str, int]]] = {}
        for one in self.served:
            serving.setdefault(one.endpoint, []).append((one.key.zone, one.block))
        alike: dict[tuple[tuple[str, int], ...], list[Endpoint]] = {}
        for endpoint, zones in serving.items():
            alike.setdefault(tuple(sorted(zones)), []).append(endpoint)
        keys = {" ".join(sorted(map(str, group))): group for group in alike.values()}
        given = self.numbers.give("groups", keys, _MAX_GROUPS, again=False)
        if len(given) < len(keys):
            raise CorefileError(
                f"{self.corefile.path}: reloads used up all {_MAX_GROUPS} numbers for sets of addresses,"
                " expected a restart"
            )
        return {endpoint: given[key] for key, group in keys.items() for endpoint in group}

    def _block_key(self, block: ServerBlock) -> str:
        """What makes a block the same one after a reload: what it serves, and where."""
        places = (f"{key.zone}@{end}" for key in block.keys for end in block.endpoints(key))
        return " ".join(sorted(places))

    def _series(
        self, listeners: dict[str, int], zones: dict[str, int], groups: dict[Endpoint, int]
    ) -> tuple[tuple[int, int | None, int], ...]:
        """What is counted: what no zone of an address took, and its zones whose block has `prometheus`, or
        `cache` or `dns64` (whose figures are counted without `prometheus`, too).

        A number is never given to another pair: counters go on for as long as the server lives.
        """
        wanted: dict[str, tuple[int, int | None]] = {
            f"{end} dropped": (listeners[str(end)], None) for end in self.endpoints
        }
        for one in self.served:
            block = self.blocks[one.block]
            if block.prometheus is not None or block.cache is not None or block.dns64 is not None:
                zone = zones[f"{groups[one.endpoint]} {one.key.zone}"]
                wanted[f"{one.endpoint} {one.key.zone}"] = (listeners[str(one.endpoint)], zone)
        given = self.numbers.give("series", wanted, MAX_SERIES, again=False)
        if len(given) < len(wanted):
            self.warnings.append(
                f"{self.corefile.path}: found {len(wanted) - len(given)} pairs of address and zone for which"
                f" the {MAX_SERIES} series do not suffice; they are not counted"
            )
        return tuple((*wanted[key], number) for key, number in given.items())

    # ---- listeners, upstreams ----

    def _listener(self, endpoint: Endpoint, group: int) -> Listener:
        blocks = [self.blocks[one.block] for one in self.served if one.endpoint == endpoint]
        listener = Listener(
            endpoint,
            group,
            any_class=any(block.forward for block in blocks),
            by_family=any(block.dns64 is not None for block in blocks),
        )
        # Of the blocks on an address the last one that says so, as in node-cache.
        asked = [block.timeouts for block in blocks if block.timeouts is not None]
        if not asked:
            return listener
        return replace(
            listener,
            tcp_first_ms=math.ceil(asked[-1].read_s * 1000),
            tcp_idle_ms=math.ceil(asked[-1].idle_s * 1000),
            tcp_queries=max(asked[-1].maxtcpqueries, 0),
        )

    def _upstreams(self) -> dict[int, Upstream]:
        """The upstreams of all blocks, by number."""
        found: dict[str, Upstream] = {}
        keys: list[tuple[str, int]] = []
        for place, block in enumerate(self.blocks):
            for forward in block.forward:
                for one in self._asked(forward):
                    found[str(one)] = one.stricter(found.get(str(one), one))
                    keys.append((str(one), place))
                for to in forward.to:
                    if _is_found(to):
                        self.found_by |= {str(end): f"a server of {to.text}" for end in to.endpoints}
        self.upstream_numbers = self._numbers_of("upstreams", keys, MAX_UPSTREAMS)
        return {self.upstream_numbers[key]: one for key, one in found.items()}

    def _asked(self, forward: Forward) -> tuple[Upstream, ...]:
        """The upstreams of a `forward` that can be asked, each once."""
        found: list[Upstream] = []
        for to in forward.to:
            if to.scheme == "https":
                self._warn(f"{forward.where}: forward: {to.text} is not asked: DNS over HTTPS is not spoken")
                continue
            for endpoint in to.endpoints:
                if _is_found(to) and self._is_ourselves(endpoint):
                    self._warn(
                        f"{forward.where}: forward: {endpoint} of {to.text} is left out:"
                        " it is an address of this server, questions would go round"
                    )
                else:
                    found.append(_upstream(endpoint, forward, _tls(to, forward)))
        left = tuple(dict.fromkeys(found))
        if not left:
            self._warn(f"{forward.where}: forward: no upstream is left, its names fail with SERVFAIL")
        return left[:MAX_FORWARD_UPSTREAMS]

    def _is_ourselves(self, upstream: Endpoint) -> bool:
        """Whether a question to this address would come back to us."""
        if upstream in self.endpoints:
            return True
        taken = {(one.family, one.port) for one in self.endpoints if one.wildcard}
        return (upstream.family, upstream.port) in taken and is_local(upstream)

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)

    # ---- blocks, limits ----

    def _block(self, place: int, block: ServerBlock, upstreams: dict[int, Upstream]) -> Block:
        steps = steps_of(
            block,
            self.corefile.settings,
            lambda forward: tuple(self.upstream_numbers[str(one)] for one in self._asked(forward)),
            self._warn,
        )
        made = replace(
            _caching(block, self.corefile.settings, place in self.cluster),
            steps=steps,
            preferred=self._preferred(block),
            errors=block.errors is not None,
            loop=block.loop is not None,
            slow_limit=_SLOW_LIMIT,
            cut=self._cuts(place, block),
            cut_learn=self._cuts(place, block) and place in self.cluster,
        )
        return replace(made, text=_text(made, upstreams, self.found_by, needs_client(block)))

    def _cuts(self, place: int, block: ServerBlock) -> bool:
        """Whether an NXDOMAIN is one for all that lies below the name, too (RFC 8020).

        All names of the block have to come from the same servers; and it needs a cache to know.
        """
        if block.cache is None or len(block.forward) != 1 or block.forward[0].except_:
            return False
        zones = self.corefile.settings.nxdomain_cut
        return place in self.domain if zones is None else lie_below(block, zones)

    def _preferred(self, block: ServerBlock) -> tuple[str, ...]:
        networks = block.loadbalance.prefer if block.loadbalance is not None else ()
        if len(networks) > MAX_PREFERRED:
            raise CorefileError(
                f"{block.where}: loadbalance: found {len(networks)} networks of 'prefer', expected"
                f" {MAX_PREFERRED} at most"
            )
        return networks


def _is_found(to: To) -> bool:
    """Whether its addresses are said by a file or a resolver, and not by the Corefile."""
    return to.file is not None or to.host != ""


def _upstream(endpoint: Endpoint, forward: Forward, tls: Tls | None) -> Upstream:
    """A server of a `forward`. Without a max_age it is ours: see docs/upstream.md."""
    source = forward.source_address
    return Upstream(
        endpoint,
        forward.force_tcp or tls is not None,
        expire_s=forward.expire_s,
        max_age_s=forward.max_age_s or (CONNECTION_AGE_S if tls is None else TLS_CONNECTION_AGE_S),
        max_idle=forward.max_idle_conns,
        tls=tls,
        source=Endpoint(source, 0, endpoint.scope_id) if source else None,
    )


def _tls(to: To, forward: Forward) -> Tls | None:
    """How an upstream's connections are encrypted; None: they are not."""
    if to.scheme != "tls":
        return None
    name = to.server_name or forward.tls_servername
    files = forward.tls
    if files is None or not files.files:
        return Tls(name)
    digest = hashlib.blake2b(digest_size=16)
    for path in files.files:
        with contextlib.suppress(OSError):  # gone since it was checked: the coordinator will say so
            digest.update(path.read_bytes())
    cert, key = files.own or ("", "")
    return Tls(name, str(files.ca or ""), str(cert), str(key), digest.hexdigest())


def _zone(name: str, group: int, number: int, block: ServerBlock) -> Zone:
    return Zone(
        name,
        group,
        number,
        refused=is_refused(block),
        by_family=block.dns64 is not None and not block.dns64.allow_ipv4,
        by_client=needs_client(block),
        rotate=block.loadbalance is not None and block.loadbalance.policy == "round_robin",
        log=bool(block.log),
        metrics=block.prometheus is not None,
        edns_max=block.bufsize.size if block.bufsize is not None else 0,
    )


def _caching(block: ServerBlock, settings: Settings, cluster: bool) -> Block:
    """What a block's `cache` says, or what it means that it has none (design "TTLs and flags")."""
    cache = block.cache
    if cache is None:
        return Block(caching=False, failure_s=0, stale_s=0)
    stale = stale_of(cache, settings, cluster)
    disabled = {one.what: one.zones or (".",) for one in cache.disable}
    return Block(
        caching=True,
        uniform_ttl=True,
        ttl_min_s=cache.success.ttl_min_s,
        ttl_max_s=cache.success.ttl_max_s,
        negative_min_s=cache.denial.ttl_min_s,
        negative_max_s=cache.denial.ttl_max_s,
        failure_s=math.ceil(cache.servfail_s),
        stale_s=stale.stale_s,
        stale_wait_ms=stale.stale_wait_ms,
        stale_ttl_s=stale.stale_ttl_s,
        recheck_ms=stale.recheck_ms,
        prefer_positive=cache.serve_stale_policy == "prefer_positive",
        capacity=(_capacity(cache.success.capacity), _capacity(cache.denial.capacity)),
        cached=() if not cache.zones else cache.zones,
        disabled=(disabled.get("success", ()), disabled.get("denial", ())),
        keep_ttl=cache.keepttl,
        prefetch_hits=min(cache.prefetch.amount, _HITS_MAX),
        prefetch_percent=cache.prefetch.percent,
    )


def _capacity(entries: int) -> int:
    """Entries that node-cache keeps: so many in each of 256 parts, and at least 4 there."""
    return max(entries // 256 * 256, _CAPACITY_MIN)


def _text(block: Block, upstreams: dict[int, Upstream], found_by: dict[str, str], by_client: bool) -> str:
    """What tells the answers of a block's text from another's: all that shapes them, and no numbers.

    What hosts files say is no part of it: the sweep looks at each name (``_sweep.pyx``). The servers of a
    resolv.conf, or of a name, are not, either: a node that has moved to another network keeps what it knows.
    """
    steps = []
    for step in block.steps:
        if isinstance(step, HostsStep):
            steps.append(f"HostsStep({step.zones}, {step.through}, {step.ttl_s})")
        elif isinstance(step, ForwardStep):
            asked = " ".join(dict.fromkeys(_asked(upstreams[number], found_by) for number in step.upstreams))
            on = (step.next_rcodes, step.next_on_nodata, step.failover_rcodes)
            steps.append(f"Forward({asked!r}, {step.zone!r}, {step.except_}, {on})")
        else:
            steps.append(repr(step))
    plain = replace(
        block,
        steps=(),
        errors=False,
        loop=False,
        capacity=(0, 0),
        slow_limit=0,
        prefetch_hits=0,
        prefetch_percent=0,
    )
    return f"{plain} {by_client} {steps}"


def _asked(upstream: Upstream, found_by: dict[str, str]) -> str:
    """A server, and the address that it may choose its answers by."""
    server = found_by.get(str(upstream.endpoint), str(upstream.endpoint))
    return f"{server} from {upstream.source.host}" if upstream.source is not None else server


def _placed(numbered: Mapping[int, T]) -> tuple[T | None, ...]:
    """By number, None where there is none."""
    return tuple(numbered.get(number) for number in range(max(numbered, default=-1) + 1))


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True
