# SPDX-License-Identifier: Apache-2.0
"""A worker process: its first acts, its predecessor's work, then the loop."""

import os
from typing import NoReturn

from fastdns import log
from fastdns._segments import identities
from fastdns.child import begin
from fastdns.handles import WorkerHandles
from fastdns.worker._loop import Worker

#: Octets of what is given up that the log line shows.
POISON_SHOWN = 512


def main(handles: WorkerHandles) -> NoReturn:
    """Serve until the stop word is set in the worker's region; never returns.

    Exit code 0 after a stop word, 1 when a segment or descriptor can't be used.
    """
    uid, _, gid = identities(handles.config)
    begin(f"fastdns: worker {handles.index}", handles.descriptors(), uid, gid)
    try:
        worker = Worker(handles)
        taken, poison = worker.recover()
    except (OSError, RuntimeError, MemoryError) as error:
        log.error(f"worker {handles.index}: {error}")
        os._exit(1)
    if taken:
        log.info(f"worker {handles.index}: took over {taken} received packets")
    if poison is not None:
        shown = poison[:POISON_SHOWN].hex() or "an answer"
        log.error(f"worker {handles.index}: two workers died on it, refused for 60 s: {shown}")
    worker.run()
    os._exit(0)
