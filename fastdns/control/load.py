# SPDX-License-Identifier: Apache-2.0
"""From options to a whole configuration. With a Corefile this is done in a process of its own (``apart``)."""

import os
import pickle
import resource
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastdns.control._tables import MAX_FORWARD_UPSTREAMS, MAX_LISTENERS
from fastdns.control.addresses import Endpoint
from fastdns.control.identity import choose_identity
from fastdns.control.model import Config, Limits, Options, Upstream, plain_config
from fastdns.control.resolvconf import RESOLV_CONF, nameservers
from fastdns.control.sockets import is_local
from fastdns.errors import UsageError

if TYPE_CHECKING:  # only where a Corefile is read: control keeps no parser
    from fastdns.control.config.model import Corefile

_DESCRIPTORS_BESIDE = 128  # what a worker has open beside client connections


@dataclass(frozen=True, slots=True)
class Watched:
    """A file that the configuration was made of, beside the Corefile."""

    path: str
    every_s: float  #: how often it is looked at
    stamp: tuple[int, ...]  #: as it was when it was read


@dataclass(frozen=True, slots=True)
class Period:
    """How often the Corefile is looked at."""

    interval_s: float
    jitter_s: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that was checked, and what it was made of."""

    config: Config
    text: str = ""  #: of the Corefile
    digest: str = ""  #: of its tokens
    corefile: "Corefile | None" = None
    files: tuple[str, ...] = ()  #: that the Corefile imports
    watched: tuple[Watched, ...] = ()  #: other files that it names
    reload: Period | None = None  #: None: the Corefile is read again only when a signal asks for it
    memory: int = 0  #: octets, the budget where the file has a word on it; it counts at the start only

    def outdates(self, old: "Loaded") -> bool:
        """Whether children that have the old one are to be restarted."""
        return replace(self.config, number=0, notes=b"") != replace(old.config, number=0, notes=b"")


def keep(loaded: Loaded) -> bytes:
    """What a later life of control needs, for the notes of the configuration's segment."""
    return pickle.dumps(loaded)


def recall(notes: bytes) -> Loaded:
    """What ``keep`` made. The segment is sealed, and only control writes one."""
    found: Loaded = pickle.loads(notes)
    return found


def load(options: Options) -> Loaded:
    """What ``serve --listen --upstream`` means on this machine. Raises UsageError."""
    return Loaded(make_config(options))


def load_corefile_text(options: Options, text: str, running: Loaded | None) -> Loaded:
    """What a Corefile means; numbers are those of ``running`` where they are for the same. Raises UsageError."""
    raise UsageError("no Corefile")


def make_config(options: Options) -> Config:
    """The configuration of options without a Corefile. Raises UsageError."""
    listeners = options.listen
    if len(set(listeners)) != len(listeners):
        twice = next(one for one in listeners if listeners.count(one) > 1)
        raise UsageError(f"--listen {twice}: given twice")
    if not 1 <= len(listeners) <= MAX_LISTENERS:
        raise UsageError(f"{len(listeners)} addresses to listen on: expected at most {MAX_LISTENERS}")
    return plain_config(
        listeners,
        _upstreams(options),
        worker_count=worker_count(options.workers),
        limits=limits(),
        identity=choose_identity(),
    )


def worker_count(wanted: int) -> int:
    """How many workers there are; 0: two, or one on a machine with one core."""
    return wanted or (2 if len(os.sched_getaffinity(0)) > 1 else 1)


def limits() -> Limits:
    """The data plane's bounds, with as many TCP connections as there are descriptors for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits(tcp_connections=max(16, min(Limits().tcp_connections, soft - _DESCRIPTORS_BESIDE)))


def _upstreams(options: Options) -> tuple[Upstream, ...]:
    if not options.upstreams:
        found = [one for one in nameservers() if not _is_ourselves(one, options.listen)]
        if not found:
            raise UsageError(f"no --upstream, and {RESOLV_CONF} names no other server: expected one")
        return tuple(Upstream(one) for one in found[:MAX_FORWARD_UPSTREAMS])
    for one in options.upstreams:
        if _is_ourselves(one.endpoint, options.listen):
            raise UsageError(f"--upstream {one}: that is an address to listen on, questions would go round")
        if one.endpoint.wildcard:
            raise UsageError(f"--upstream {one}: expected the address of a server")
    if len(set(options.upstreams)) != len(options.upstreams):
        raise UsageError("--upstream: the same server is given twice")
    if len(options.upstreams) > MAX_FORWARD_UPSTREAMS:
        raise UsageError(f"{len(options.upstreams)} upstreams: expected at most {MAX_FORWARD_UPSTREAMS}")
    return options.upstreams


def _is_ourselves(upstream: Endpoint, listen: tuple[Endpoint, ...]) -> bool:
    """Whether a question to this address would come back to us."""
    if upstream in listen:
        return True
    taken = {(one.family, one.port) for one in listen if one.wildcard}
    return (upstream.family, upstream.port) in taken and is_local(upstream)
