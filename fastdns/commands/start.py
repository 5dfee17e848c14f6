# SPDX-License-Identifier: Apache-2.0
"""From options to a server, whichever command line they came from."""

from pathlib import Path

from fastdns.control import pidfile
from fastdns.control.model import Options


def start(options: Options) -> int:
    """Become the keeper of a server with these options. Returns its exit code once it has stopped."""
    # What the children need is imported before they are forked: they share these pages, and an import
    # touches many others.
    import fastdns.control.life
    import fastdns.control.process
    import fastdns.coordinator.process
    import fastdns.worker.process
    from fastdns.keeper.process import Entries, run

    if options.has_corefile:
        import fastdns.control.observe.log
    if options.node is not None:
        import fastdns.control.config.nodecache
        import fastdns.control.onnode

    try:
        return run(
            Entries(
                control=lambda channel: fastdns.control.process.main(channel, options),
                coordinator=fastdns.coordinator.process.main,
                worker=fastdns.worker.process.main,
            )
        )
    finally:
        if options.pidfile:
            pidfile.remove(Path(options.pidfile))
