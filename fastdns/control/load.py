# SPDX-License-Identifier: Apache-2.0
"""From options to a whole configuration. With a Corefile this is done in a process of its own (``apart``)."""

import math
import os
import pickle
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastdns import log
from fastdns.control._tables import MAX_FORWARD_UPSTREAMS, MAX_LISTENERS
from fastdns.control.addresses import Endpoint
from fastdns.control.apart import run_apart
from fastdns.control.identity import choose_identity
from fastdns.control.model import MIB, Config, Limits, Options, Upstream, plain_config
from fastdns.control.resolvconf import RESOLV_CONF, nameservers
from fastdns.control.sockets import is_local
from fastdns.control.standin import stand_in
from fastdns.errors import UsageError

if TYPE_CHECKING:  # only where a Corefile is read: control keeps no parser
    from fastdns.control.config.model import Corefile

_RESOLV_CONF_S = 2.0  # node-cache reads it at a reload only; DHCP and VPN clients write it when they like
_CERTIFICATE_S = 30.0  # certificates for `tls` are renewed hours before they expire
_CONF_MAX = 16 * 2**20  # octets, as for the files that it imports
_FRESH_NS = 5 * 10**9
_DESCRIPTORS_BESIDE = 128  # what a worker has open beside client connections


@dataclass(frozen=True, slots=True)
class Watched:
    """A file that the configuration was made of, beside the Corefile."""

    path: str
    every_s: float  #: how often it is looked at
    stamp: tuple[int, ...]  #: as it was when it was read

    @property
    def is_fresh(self) -> bool:
        """Whether it was written a moment ago."""
        return bool(self.stamp) and abs(time.time_ns() - self.stamp[0]) < _FRESH_NS


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
    banner: str = ""  #: what is said of it at the start
    memory: int = 0  #: octets, the budget that the file named at the start; 0: it had no word on it

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


class Source(Protocol):
    """Where the Corefile's text comes from; ``config.nodecache.CorefileSource`` makes one of a template."""

    def first(self) -> str: ...
    def read(self) -> str: ...
    def poll(self) -> str | None: ...
    def without_kubedns(self, error: UsageError) -> str | None: ...


class FileSource:
    """A Corefile that nobody makes."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> str:
        """The Corefile as it is now. Raises UsageError."""
        try:
            with Path(self._path).open("rb") as opened:
                data = opened.read(_CONF_MAX + 1)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self._path}: {_reason(error)}; expected a Corefile") from None
        if len(data) > _CONF_MAX:
            raise UsageError(f"{self._path}: more than {_CONF_MAX // 2**20} MiB, expected a Corefile")
        return data.decode(errors="replace")  # as in Go

    first = read

    def poll(self) -> str | None:
        return None

    def without_kubedns(self, error: UsageError) -> str | None:  # noqa: ARG002 - as Source has it
        return None


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def corefile_source(options: Options, count_error: Callable[[], None] = lambda: None) -> "Source | None":
    """Where the Corefile's text comes from; None where the options say it all."""
    if not options.has_corefile:
        return None
    if options.node is None and options.conf_text is None:
        return FileSource(options.conf)
    from fastdns.control.config.nodecache import CorefileSource

    return CorefileSource(options, os.environ, count_error)


def first_load(options: Options, source: "Source | None") -> Loaded:
    """What a server begins with. Raises UsageError."""
    if source is None:
        return Loaded(make_config(options))
    text = source.first()
    try:
        return run_apart(load_corefile, options, text, None)
    except UsageError as error:
        other = source.without_kubedns(error)
        if other is None:
            raise
        return run_apart(load_corefile, options, other, None)


def load_corefile(options: Options, text: str, running: Loaded | None) -> Loaded:
    """What a Corefile means; numbers are those of ``running`` where they are for the same. Raises UsageError.

    For a process of its own: it imports the parser.
    """
    from fastdns.control.config.banner import banner
    from fastdns.control.config.compile import compile_corefile
    from fastdns.control.config.load import parse_corefile
    from fastdns.control.config.numbering import Numbers

    corefile = parse_corefile(text, options.conf, default_port=options.dns_port)
    watched = _watched(corefile)
    if any(one.is_fresh for one in watched):  # or it might have changed between its reading and the stamp
        corefile = parse_corefile(text, options.conf, default_port=options.dns_port)
    numbers = Numbers.read(running.config.notes if running is not None else b"")
    compiled = compile_corefile(
        _with_addresses(corefile),
        numbers,
        worker_count=running.config.worker_count
        if running is not None
        else worker_count(options.workers or corefile.settings.workers),
        limits=limits(),
        identity=running.config.identity if running is not None else choose_identity(),
    )
    fixed = () if running is None else _fixed(options, corefile, running)
    for line in (*corefile.warnings, *compiled.warnings, *fixed):
        log.warning(line)
    reloads = [one.reload for one in corefile.blocks if one.reload is not None]
    return Loaded(
        config=compiled.config,
        text=text,
        digest=corefile.digest,
        corefile=stand_in(corefile),
        files=tuple(map(str, corefile.files)),
        watched=watched,
        reload=Period(reloads[-1].interval_s, reloads[-1].jitter_s) if reloads else None,
        memory=corefile.settings.memory if running is None else running.memory,
        banner="" if options.quiet else banner(corefile),
    )


def _fixed(options: Options, corefile: "Corefile", running: Loaded) -> list[str]:
    """What the file says otherwise than the running server was started with, and no reload can change."""
    changed = []
    workers = worker_count(options.workers or corefile.settings.workers)
    if workers != running.config.worker_count:
        changed.append(f"workers {workers} (now {running.config.worker_count})")
    memory, now = (one or options.memory for one in (corefile.settings.memory, running.memory))
    if memory != now:
        changed.append(f"memory {memory / MIB:.4g}M (now {now / MIB:.4g}M)")
    return [f"{options.conf}: {', '.join(changed)}: takes a restart of the server"] if changed else []


def load_former(former: Loaded, failed: Loaded) -> Loaded:
    """The configuration before one that was given up, numbered after that one. For a process of its own.

    The files that it names are looked at as they were for the failed one: only a later change is tried.
    """
    from fastdns.control.config.numbering import Numbers

    numbers = Numbers.read(failed.config.notes).after_failure(Numbers.read(former.config.notes))
    stamps = {one.path: one.stamp for one in failed.watched}
    return replace(
        former,
        config=replace(former.config, number=numbers.generation, notes=numbers.dump()),
        watched=tuple(replace(one, stamp=stamps.get(one.path, one.stamp)) for one in former.watched),
    )


def _with_addresses(corefile: "Corefile") -> "Corefile":
    """Asks for the addresses of hosts that are upstreams, where there can be any. Raises CorefileError."""
    if not any(forward.resolver for block in corefile.blocks for forward in block.forward):
        return corefile
    from fastdns.control.config.hostnames import with_addresses

    return with_addresses(corefile)


def _watched(corefile: "Corefile") -> tuple[Watched, ...]:
    """The files beside the Corefile that say what is answered, as they are now."""
    found: dict[str, float] = {}
    for block in corefile.blocks:
        for forward in block.forward:
            found |= {str(to.file): _RESOLV_CONF_S for to in forward.to if to.file is not None}
            found |= {str(path): _CERTIFICATE_S for path in (forward.tls.files if forward.tls else ())}
        if block.hosts is not None and block.hosts.reload_s > 0:
            path = str(block.hosts.file)
            found[path] = min(found.get(path, math.inf), block.hosts.reload_s)
    return tuple(Watched(path, every_s, stamp_of(path)) for path, every_s in found.items())


def stamp_of(path: str) -> tuple[int, ...]:
    """What changes with a file's contents; () where it isn't there."""
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


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
