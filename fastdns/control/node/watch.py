# SPDX-License-Identifier: Apache-2.0
"""nftables' change notifications: `nft flush ruleset` takes our table along with all others.

kube-proxy and CNI plugins change rules all the time, so the messages are looked through for what concerns us:
anything of our own tables, the chains INPUT and OUTPUT of iptables' filter table, and a table that is younger
than ours (``nft.are_youngest``). A table of ours that is simply gone is told apart, since nothing has to be
looked at before it is put back.
"""

import contextlib
import socket
from enum import IntEnum
from pathlib import Path

from fastdns.control.node import nfnetlink
from fastdns.control.node.model import TABLE

_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_NFNLGRP_NFTABLES = 7

# linux/netfilter/nf_tables.h: message -> attribute of the table's name, attribute of the chain's name
_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = nfnetlink.NEWTABLE, 2, 3, 5, 6, 8
_DELSET, _NEWSETELEM, _DELSETELEM, _NEWGEN = 11, 12, 14, 15
_NAMES = {
    _NEWTABLE: (1, 0),
    _DELTABLE: (1, 0),
    _NEWCHAIN: (1, 3),
    _DELCHAIN: (1, 3),
    _NEWRULE: (1, 2),
    _DELRULE: (1, 2),
    _DELSET: (1, 0),
    _NEWSETELEM: (1, 0),
    _DELSETELEM: (1, 0),
}
_NEW = frozenset({_NEWTABLE, _NEWCHAIN, _NEWRULE})
_CHAINS = frozenset({b"INPUT", b"OUTPUT"})
_OURS = TABLE.encode()
_READ = 1 << 16


def legacy_in_use(proc: Path = Path("/proc/net")) -> bool:
    """Whether iptables' legacy back end has tables here. It notifies nobody of changes."""
    for name in ("ip_tables_names", "ip6_tables_names"):
        with contextlib.suppress(OSError):
            if (proc / name).read_bytes():
                return True
    return False


class Change(IntEnum):
    """What notifications say; the greater includes the lesser."""

    NONE = 0
    SOME = 1  #: something that we need may have changed
    OURS = 2  #: a part of our tables has been taken away, or may have been
    GONE = 3  #: a table of ours is not there any more


class Messages:
    """Datagrams of notifications, one after another: the kernel cuts a transaction into several."""

    def __init__(self) -> None:
        # What the transaction that is being told took from our tables, by family.
        self._lost: dict[int, Change] = {}
        self._elements: set[int] = set()  # families with an element of a set taken out
        self._made: set[int] = set()  # families that had no table before it

    def have_gap(self) -> None:
        """Some were lost."""
        self._forget()

    def judge(self, data: bytes) -> Change:
        """What the messages in a datagram say."""
        found = Change.NONE
        try:
            for kind, _, body in nfnetlink.messages(data):
                if kind >> 8 == nfnetlink.SUBSYSTEM:
                    found = max(found, self._judge(kind & 0xFF, body))
        except ValueError:
            return max(found, Change.SOME)
        return found

    def _judge(self, message: int, body: bytes) -> Change:
        if message == _NEWGEN:  # the end of a transaction
            found = max(self._lost.values(), default=Change.NONE)
            if self._elements:
                found = max(found, Change.OURS)
            self._forget()
            return found
        if message not in _NAMES:
            return Change.NONE
        names = _names(message, body)
        if names is None:
            return Change.SOME
        table, chain = names
        if table == _OURS:
            self._note(message, body[0])
        elif message == _NEWTABLE or (table == b"filter" and (chain in _CHAINS or message == _DELTABLE)):
            return Change.SOME
        return Change.NONE

    def _note(self, message: int, family: int) -> None:
        if message == _NEWTABLE:
            if self._lost.get(family) is not Change.GONE:
                self._made.add(family)
            self._lost.pop(family, None)  # put in the place of what it was: our own doing
            self._elements.discard(family)
        elif message == _DELTABLE and family in self._made:
            self._made.discard(family)  # made to be deleted, as each load of ours begins: nothing was there
        elif message == _DELTABLE:
            self._lost[family] = Change.GONE
        elif message == _DELSETELEM:
            self._elements.add(family)
        elif message == _NEWSETELEM:
            self._elements.discard(family)  # out and in again is how a timeout is renewed
        elif message not in _NEW:
            self._lost.setdefault(family, Change.OURS)

    def _forget(self) -> None:
        self._lost.clear()
        self._elements.clear()
        self._made.clear()


class Notifications:
    """A socket that can be read when nftables' rules of this network namespace change."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._messages = Messages()
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, nfnetlink.NETLINK_NETFILTER
        )
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> Change:
        """What all that has come says."""
        found = Change.NONE
        while True:
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: there was more than the socket could hold, of anybody's
                self._messages.have_gap()
                return max(found, Change.OURS)
            if not data:
                return found
            found = max(found, self._messages.judge(data))


def _names(message: int, body: bytes) -> tuple[bytes, bytes] | None:
    """The table and the chain that a message is about; None for one that can't be read."""
    try:
        found = dict(nfnetlink.attributes(body))
    except ValueError:
        return None
    table, chain = _NAMES[message]
    return found.get(table, b""), found.get(chain, b"")
