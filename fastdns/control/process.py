# SPDX-License-Identifier: Apache-2.0
"""Control: it decides what is to be there, asks the keeper for it, and looks after it.

Its first life plans the memory, opens the sockets and starts the server; what it can't serve it
says in one line and leaves with exit code 2, and so does the keeper. A later life finds
everything running and disturbs nothing: what it must know lies in the configuration's segment.
"""

import os
from typing import NoReturn

from fastdns import child, log
from fastdns._process import become_subreaper
from fastdns._stats import Ledger, read_notes
from fastdns.control.link import ChannelClosedError, KeeperLink
from fastdns.control.load import corefile_source, first_load, recall
from fastdns.control.model import Options
from fastdns.control.segments import Inheritance
from fastdns.control.setup import set_up
from fastdns.errors import FastDNSError, KeeperError


def main(channel: int, options: Options) -> NoReturn:
    """Control's entry: ``channel`` is its end of the pair with the keeper."""
    child.begin("fastdns: control", {channel}, 0, 0)
    become_subreaper()  # of what the short-lived processes leave: see apart
    code = 0
    try:
        code = serve(KeeperLink(channel), options)
    except ChannelClosedError:
        pass
    except KeeperError as error:
        log.error(f"control: {error}")
        code = 1
    except FastDNSError as error:
        log.error(f"{options.program}: {error}")
        code = error.exit_code
    os._exit(code)


def serve(link: KeeperLink, options: Options) -> int:
    """A life of control. Returns its exit code; raises FastDNSError.

    All is set up before the loop begins: the first answer doesn't wait for it.
    """
    state, descriptors = link.state()
    errors = ErrorCount("setup_errors_configmap")
    source = corefile_source(options, errors)
    former = None
    if state.started:
        found = Inheritance.of(state, descriptors)
        loaded = recall(read_notes(found.segments.config))
        if state.former:
            former = recall(read_notes(found.former))
            os.close(found.former)
    else:
        loaded = first_load(options, source)
        set_up(link, options, loaded)
        state, descriptors = link.state()
        found = Inheritance.of(state, descriptors)
    errors.attach(Ledger(found.segments.ledger))
    from fastdns.control.life import live

    return live(link, options, source, state, found, loaded, former)


class ErrorCount:
    """Errors of a kind; they are in the ledger as soon as there is one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._early = 0
        self._ledger: Ledger | None = None

    def __call__(self) -> None:
        if self._ledger is None:
            self._early += 1
        else:
            self._ledger.add(self._name)

    def attach(self, ledger: Ledger) -> None:
        """From now on they are counted there, those that have been, too."""
        self._ledger = ledger
        ledger.add(self._name, self._early)
