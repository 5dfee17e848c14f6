# SPDX-License-Identifier: Apache-2.0
"""What control and the keeper say to each other.

One SOCK_SEQPACKET pair for each life of control. Every message has the same length; descriptors
travel beside it (SCM_RIGHTS). Control asks, the keeper answers OK, ERROR or STATE to each
request, in order; a BEAT is not answered. In between the keeper sends events, which are not
answered. When the keeper closes its end, control leaves.

A new configuration: LISTENER for each address that is new, REMOVE for each that is not served any
more, CONFIG, then ROLL. Children that start in between have any mixture of these, so a child serves
the slots that its configuration and its sockets agree on. After ROLLED nobody has the old ones. After
FAILED the way back is another one of these, with RESTORE for each address that was removed.
"""

import socket
import struct
from dataclasses import astuple, dataclass, fields
from enum import IntEnum


class Kind(IntEnum):
    """First word of a message. The loop knows BEAT and the events by their numbers, too."""

    # control to keeper
    HELLO = 1  #: what is there? answered by STATE
    ALLOCATE = 2  #: Geometry's numbers; the segments are made and touched
    LISTENER = 3  #: number; descriptors: UDP by worker, then TCP by worker, in the order of their binding
    CONFIG = 4  #: descriptor: a sealed fd_config_t, opened read-only
    START = 5  #: the coordinator and the workers; number of the configuration
    PROGRAM = 6  #: number of a listener, 0 or 1: whether its program is to be used
    BEAT = 7  #: control's heartbeat
    REMOVE = 8  #: number of a listener: children get it no more; it is closed at the end of the next ROLL
    ROLL = 9  #: number of the configuration: replace coordinator and workers, one by one
    ADDRESS = 10  #: Address's numbers; it is on the node when the answer is OK, and is renewed from then on
    FORGET = 11  #: Address's numbers, and 1 to leave it on the node; it is renewed no more
    EXIT_AFTER = 12  #: ms without a worker that moves, then the server leaves; 0: it stays
    STOP = 13  #: ms until control is ready for the end, 0: now; exit code
    RELOADED = 14  #: serial number of a RELOAD: it need not be told to a successor
    RESTORE = 15  #: number of a listener: its REMOVE, since the last ROLLED, is taken back
    HTTP = 19  #: number; descriptor: a listening socket of control's, held for its successor; none: no more
    # keeper to control
    OK = 16
    ERROR = 17  #: errno
    STATE = 18  #: State's numbers; once started what Holdings.readers opens
    # keeper to control, unasked
    RELOAD = 24  #: signal number, serial number: somebody wants the configuration read again
    ROLLED = 25  #: number of the configuration: all children have it
    STOPPING = 26  #: signal number: get ready for the end, and say STOP
    FAILED = 27  #: number of the configuration: those that were started for it die, and the ROLL is over


_WORDS = 12
_MESSAGE = struct.Struct(f"=II{_WORDS}Q")  # kind, 0, words
MESSAGE_LEN = _MESSAGE.size
MAX_LISTENERS = 32  # slots; FD_MAX_LISTENERS
MAX_HTTP = 16
MAX_DESCRIPTORS = 64  # two for each worker of a listener, or STATE's; the kernel takes 253


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of the segments: octets for cache, rings and tcp, elements for the tables."""

    workers: int
    cache: int
    questions: int
    answers: int
    pending: int
    clients: int
    tcp: int
    series: int  #: in each region
    log: int  #: octets of each log ring

    def words(self) -> tuple[int, ...]:
        return astuple(self)

    @classmethod
    def of(cls, words: tuple[int, ...]) -> "Geometry":
        return cls(*words[: len(fields(cls))])


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the node, and the interface that it is on."""

    address: str
    interface: int = 0  #: its number
    lifetime_s: int = 0  #: 0: for good

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def octets(self) -> bytes:
        return socket.inet_pton(self.family, self.address)

    def words(self) -> tuple[int, ...]:
        octets = self.octets.rjust(16, b"\0")
        high, low = (int.from_bytes(octets[at : at + 8], "big") for at in (0, 8))
        return (int(self.family), self.interface, self.lifetime_s, high, low)

    @classmethod
    def of(cls, words: tuple[int, ...]) -> "Address":
        """Raises ValueError."""
        family, interface, lifetime_s, high, low = words[:5]
        octets = high.to_bytes(8, "big") + low.to_bytes(8, "big")
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError(f"an address of family {family}")
        length = 4 if family == socket.AF_INET else 16
        return cls(socket.inet_ntop(family, octets[-length:]), interface, lifetime_s)


@dataclass(frozen=True, slots=True)
class State:
    """How far the keeper has come."""

    started: bool
    rolled: int  #: the last configuration that all children had
    rolling: int  #: the one that they are being restarted for, 0: none
    listeners: int  #: bit i: the slot i is held, and not to be closed
    former: bool = False  #: the configuration of ``rolled`` is there, too: not all children have the next one
    http: int = 0  #: bit i: control's listening socket i is held

    def words(self) -> tuple[int, ...]:
        return (int(self.started), self.rolled, self.rolling, self.listeners, int(self.former), self.http)

    @classmethod
    def of(cls, words: tuple[int, ...]) -> "State":
        started, rolled, rolling, listeners, former, http = words[:6]
        return cls(bool(started), rolled, rolling, listeners, bool(former), http)


@dataclass(frozen=True, slots=True)
class Message:
    """What goes over the channel at once."""

    kind: Kind
    words: tuple[int, ...] = ()
    descriptors: tuple[int, ...] = ()


def send(channel: socket.socket, message: Message) -> None:
    """Send a message. The descriptors stay open here. Raises OSError."""
    words = message.words + (0,) * (_WORDS - len(message.words))
    data = _MESSAGE.pack(message.kind, 0, *words)
    socket.send_fds(channel, [data], list(message.descriptors), socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> Message | None:
    """The next message, or None when the other end is closed. The descriptors are the caller's.

    Raises OSError, and ValueError for what is no message.
    """
    data, descriptors, flags, _ = socket.recv_fds(
        channel, MESSAGE_LEN, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    if not data and not descriptors:
        return None
    try:
        if len(data) != MESSAGE_LEN or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError(f"a message of {len(data)} octets, flags {flags:#x}: expected {MESSAGE_LEN}")
        kind, _, *words = _MESSAGE.unpack(data)
        return Message(Kind(kind), tuple(words), tuple(descriptors))
    except ValueError:
        close_all(descriptors)
        raise


def close_all(descriptors: "list[int] | tuple[int, ...]") -> None:
    """Close descriptors that came with a message."""
    for descriptor in descriptors:
        socket.close(descriptor)
