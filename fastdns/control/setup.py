# SPDX-License-Identifier: Apache-2.0
"""What control hands to the keeper: memory and sockets at the start, sockets and configurations later."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from fastdns import log
from fastdns._version import __version__
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.budget import Plan, make_plan
from fastdns.control.cgroup import memory_limit
from fastdns.control.link import KeeperLink
from fastdns.control.load import Loaded, keep
from fastdns.control.model import MIB, Config, Options
from fastdns.control.observe.held import HeldSockets
from fastdns.control.observe.listen import open_needed
from fastdns.control.sockets import ListenerSockets, open_listener


def set_up(link: KeeperLink, options: Options, loaded: Loaded) -> None:
    """Plan, open, hand over, start. Raises FastDNSError; nothing has been started then."""
    config = loaded.config
    plan = plan_for(options, config, loaded.memory)
    http = open_needed(
        loaded.corefile, frozenset() if options.node is None else frozenset(options.node.local_ips)
    )
    link.allocate(plan.geometry)
    opened = open_listeners(options, endpoints(config), config.worker_count, plan.rcvbuf)
    queue = min((one.rcvbuf for one in opened.values()), default=plan.rcvbuf)
    hand_over(link, opened)
    HeldSockets(link.hold_http, link.release_http, {}).keep(http)
    for sock in http:
        sock.close()
    put_config(link, loaded)
    link.start(config.number)
    _report(config, plan, queue)
    if loaded.banner and sys.stdout is not None:
        print(loaded.banner, flush=True)
    if loaded.reload is not None:
        log.info(f"plugin/reload: Running configuration SHA512 = {loaded.digest}")


def plan_for(options: Options, config: Config, memory: int = 0) -> Plan:
    """The sizes of everything. Raises UsageError, MemoryLimitError.

    memory: octets, the file's word on it; 0: none.
    """
    budget = memory or options.memory
    log_queries = any(zone is not None and zone.log for zone in config.zones)
    listeners = len(endpoints(config))
    return make_plan(budget, config.worker_count, listeners, memory_limit(), len(config.series), log_queries)


def endpoints(config: Config) -> dict[int, Endpoint]:
    """The addresses to listen on, by slot."""
    return {number: one.endpoint for number, one in enumerate(config.listeners) if one is not None}


def open_listeners(
    options: Options, wanted: Mapping[int, Endpoint], workers: int, rcvbuf: int
) -> dict[int, ListenerSockets]:
    """Bind addresses for all workers. Raises ListenError; nothing stays open then.

    In node-cache's place an address may be one that is put on the node later.
    """
    opened: dict[int, ListenerSockets] = {}
    try:
        for number, endpoint in wanted.items():
            opened[number] = open_listener(endpoint, workers, rcvbuf, freebind=options.node is not None)
    except BaseException:
        for one in opened.values():
            one.close()
        raise
    return opened


def hand_over(link: KeeperLink, opened: Mapping[int, ListenerSockets]) -> None:
    """Give sockets to the keeper, by slot. Raises KeeperError."""
    for number, one in opened.items():
        with one:
            link.add_listener(number, one.descriptors())


def put_config(link: KeeperLink, loaded: Loaded) -> None:
    """Give children that start from now on this configuration. Raises KeeperError."""
    descriptor = create_config(replace(loaded.config, notes=keep(loaded)))
    try:
        link.set_config(descriptor)
    finally:
        os.close(descriptor)


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
