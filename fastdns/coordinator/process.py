# SPDX-License-Identifier: Apache-2.0
"""The coordinator's process: from the keeper's fork to the loop, and out of it."""

import json
import os
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from fastdns import log
from fastdns._segments import identities
from fastdns.child import begin
from fastdns.coordinator._coordinator import Coordinator, needs_thread, tls_upstreams
from fastdns.handles import CoordinatorHandles

if TYPE_CHECKING:
    from fastdns.coordinator.tls import Server


def main(handles: CoordinatorHandles) -> NoReturn:
    """Be the coordinator. Called in a child that the keeper just forked; never returns.

    Exits with 0 when told to stop, with 1 and a line in the log when it can't start.
    """
    status = 1
    try:
        _, uid, gid = identities(handles.config)
        # Python's own files may be readable to us only now, with the keeper's uid.
        if needs_thread(handles.config):
            preload()
        servers = read_servers(handles.config)
        begin("fastdns: coordinator", handles.descriptors(), uid, gid)
        run(handles, servers)
        status = 0
    except (OSError, RuntimeError, MemoryError) as error:
        log.error(f"coordinator: {error}")
    except BaseException:  # whatever it was: the keeper's frames above us in this fork must not see it
        log.error(f"coordinator: {traceback.format_exc()}")
    finally:
        os._exit(status)


def run(handles: CoordinatorHandles, servers: "Mapping[int, Server]") -> None:
    """Attach to the segments and serve until the stop word is set. servers: the upstreams with TLS."""
    coordinator = Coordinator(
        handles.config,
        handles.cache,
        handles.post,
        handles.wake,
        handles.log,
        handles.regions,
        handles.wake_workers,
    )
    for verdict, key_hash, qname in coordinator.recover():
        name = f"qname {qname.hex()} ({readable(qname)})"
        line = f"coordinator: one died with key {key_hash:#018x} in hand, {name}"
        if verdict == "quarantined":
            log.error(f"{line}: the second on this key, refused for 60 s")
        else:
            log.warning(f"{line}: tried once more")
    programs = coordinator.programs()
    if programs:
        # dnspython and RE2 are 5 MiB: only for configurations that need them.
        from fastdns.coordinator.slow.thread import start

        start(coordinator.open_queue(), programs)
    if servers:
        from fastdns.coordinator.tls import TlsThread

        TlsThread(coordinator.open_tls(), servers).start()
    coordinator.run()


def read_servers(config: int) -> "Mapping[int, Server]":
    """The upstreams of a configuration with TLS, by number; keys are read with the rights we have now."""
    upstreams = tls_upstreams(config)
    if not upstreams:
        return {}
    # OpenSSL and a connection are 5 MiB: only for configurations that need it.
    from fastdns.coordinator.tls import Server

    return {number: Server(**json.loads(spec)) for number, spec in upstreams}


def preload() -> None:
    """Import what the Python thread works with; dnspython would load its record types one by one, later."""
    import dns.rdata

    import fastdns.coordinator.slow.thread  # noqa: F401

    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]


def readable(qname: bytes) -> str:
    """A name on the wire as text for a log line: whatever stands in it, one printable line."""
    labels = []
    while qname and 0 < qname[0] < len(qname):
        labels.append(qname[1 : qname[0] + 1])
        qname = qname[qname[0] + 1 :]
    return "".join(f"{label!r}"[2:-1] + "." for label in labels) or "."
