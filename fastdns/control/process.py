# SPDX-License-Identifier: Apache-2.0
"""Control: it decides what is to be there, asks the keeper for it, and looks after it.

Its first life plans the memory, opens the sockets and starts the server; what it can't serve it
says in one line and leaves with exit code 2, and so does the keeper. A later life finds
everything running and disturbs nothing.
"""

import os
import resource
from typing import NoReturn

from fastdns import child, log
from fastdns._stats import read_config
from fastdns._version import __version__
from fastdns.control._tables import MAX_FORWARD_UPSTREAMS, MAX_LISTENERS, create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.budget import Plan, make_plan
from fastdns.control.cgroup import memory_limit
from fastdns.control.identity import choose_identity
from fastdns.control.link import ChannelClosedError, KeeperLink
from fastdns.control.model import MIB, Config, Limits, Options, Upstream, plain_config
from fastdns.control.probe import ShareWatch
from fastdns.control.resolvconf import RESOLV_CONF, nameservers
from fastdns.control.segments import Segments
from fastdns.control.sockets import is_local, open_listener
from fastdns.errors import FastDNSError, KeeperError, UsageError

_DESCRIPTORS_BESIDE = 128  # what a worker has open beside client connections


def main(channel: int, options: Options) -> NoReturn:
    """Control's entry: ``channel`` is its end of the pair with the keeper."""
    child.begin("fastdns: control", {channel}, 0, 0)
    code = 0
    try:
        serve(KeeperLink(channel), options)
    except ChannelClosedError:
        pass
    except KeeperError as error:
        log.error(f"control: {error}")
        code = 1
    except FastDNSError as error:
        log.error(f"{options.program}: {error}")
        code = error.exit_code
    os._exit(code)


def serve(link: KeeperLink, options: Options) -> NoReturn:
    """A life of control. Raises ChannelClosedError when the keeper wants it to end, else FastDNSError."""
    descriptors = link.state()
    if not descriptors:
        set_up(link, options)
        descriptors = link.state()
    segments = Segments.of(descriptors)
    listeners = [Endpoint(*one) for one in read_config(segments.config)["listeners"]]
    watch = ShareWatch(link, listeners, segments.regions)
    while True:
        link.pause(watch.check())


def set_up(link: KeeperLink, options: Options) -> None:
    """Plan, open, hand over, start. Raises FastDNSError; nothing has been started then."""
    config = make_config(options)
    listeners = [one.endpoint for one in config.listeners if one is not None]
    plan = make_plan(options.memory, config.worker_count, len(listeners), memory_limit(), len(config.series))
    link.allocate(plan.geometry)
    queue = plan.rcvbuf
    for number, endpoint in enumerate(listeners):
        with open_listener(endpoint, config.worker_count, plan.rcvbuf) as opened:
            link.add_listener(number, opened.descriptors())
            queue = min(queue, opened.rcvbuf)
    descriptor = create_config(config)
    link.set_config(descriptor)
    os.close(descriptor)
    link.start()
    _report(config, plan, queue)


def make_config(options: Options) -> Config:
    """The configuration that the options mean on this machine. Raises UsageError."""
    listeners = options.listen
    if len(set(listeners)) != len(listeners):
        twice = next(one for one in listeners if listeners.count(one) > 1)
        raise UsageError(f"--listen {twice}: given twice")
    if not 1 <= len(listeners) <= MAX_LISTENERS:
        raise UsageError(f"{len(listeners)} addresses to listen on: expected at most {MAX_LISTENERS}")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = Limits()
    connections = max(16, min(limits.tcp_connections, soft - _DESCRIPTORS_BESIDE))
    return plain_config(
        listeners,
        _upstreams(options),
        worker_count=options.workers or (2 if len(os.sched_getaffinity(0)) > 1 else 1),
        limits=Limits(tcp_connections=connections),
        identity=choose_identity(),
    )


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


def _report(config: Config, plan: Plan, queue: int) -> None:
    listen = " ".join(str(one.endpoint) for one in config.listeners if one is not None)
    upstream = " ".join(str(one) for one in config.upstreams if one is not None)
    log.info(
        f"fastdns {__version__}: listening on {listen}; upstream {upstream}; {config.worker_count} workers;"
        f" memory {plan.memory / MIB:.4g}M, cache {plan.geometry.cache / MIB:.4g}M"
    )
    if queue < plan.rcvbuf:
        log.warning(
            f"UDP receive queues hold {queue // 1024} KiB, not {plan.rcvbuf // 1024}:"
            " raise net.core.rmem_max or grant CAP_NET_ADMIN"
        )
