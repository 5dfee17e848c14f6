# SPDX-License-Identifier: Apache-2.0
"""The coordinator's process: from the keeper's fork to the loop, and out of it."""

import os
import traceback
from typing import NoReturn

from fastdns import log
from fastdns._segments import identities
from fastdns.child import begin
from fastdns.coordinator._coordinator import Coordinator, needs_thread
from fastdns.handles import CoordinatorHandles


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
        begin("fastdns: coordinator", handles.descriptors(), uid, gid)
        run(handles)
        status = 0
    except (OSError, RuntimeError, MemoryError) as error:
        log.error(f"coordinator: {error}")
    except BaseException:  # whatever it was: the keeper's frames above us in this fork must not see it
        log.error(f"coordinator: {traceback.format_exc()}")
    finally:
        os._exit(status)


def run(handles: CoordinatorHandles) -> None:
    """Attach to the segments and serve until the stop word is set."""
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
    coordinator.run()


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
