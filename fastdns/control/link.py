# SPDX-License-Identifier: Apache-2.0
"""Control's end of the channel to the keeper."""

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable

from fastdns import protocol
from fastdns.errors import KeeperError
from fastdns.protocol import Address, Geometry, Kind, Message, State

_ANSWER_S = 10.0  # an allocation touches memory; nothing else takes the keeper long
_EVENTS = (Kind.RELOAD, Kind.ROLLED, Kind.STOPPING, Kind.FAILED)

BEAT_S = 2.0  #: between two heartbeats; the keeper waits 15 s for one


class ChannelClosedError(KeeperError):
    """The keeper wants us to leave, or is dead."""


class KeeperLink:
    """Requests, one at a time, and what the keeper says unasked.

    A request waits for its answer, which the keeper gives at once. Each raises KeeperError when the keeper
    refuses or is gone.
    """

    def __init__(self, descriptor: int) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.settimeout(_ANSWER_S)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._events: deque[Message] = deque()
        #: Is told of an event that came before the answer to a request: nothing is readable for it any more.
        self.on_overtaken: Callable[[], object] = lambda: None

    def fileno(self) -> int:
        """What becomes readable when there are events."""
        return self._channel.fileno()

    def state(self) -> tuple[State, tuple[int, ...]]:
        """How far the keeper is, and descriptors of its segments; none before the start."""
        answer = self._ask(Message(Kind.HELLO), Kind.STATE)
        return State.of(answer.words), answer.descriptors

    def allocate(self, geometry: Geometry) -> None:
        self._ask(Message(Kind.ALLOCATE, geometry.words()))

    def add_listener(self, number: int, descriptors: tuple[int, ...]) -> None:
        self._ask(Message(Kind.LISTENER, (number,), descriptors))

    def remove_listener(self, number: int) -> None:
        """Close a listener with the next rolling restart; children that start from now on don't get it."""
        self._ask(Message(Kind.REMOVE, (number,)))

    def restore_listener(self, number: int) -> None:
        """Take a removal back that no rolling restart has followed to its end."""
        self._ask(Message(Kind.RESTORE, (number,)))

    def set_config(self, descriptor: int) -> None:
        """What children that start from now on are to read."""
        self._ask(Message(Kind.CONFIG, (), (descriptor,)))

    def hold_http(self, number: int, descriptor: int) -> None:
        """Have a listening socket of ours held for our successor."""
        self._ask(Message(Kind.HTTP, (number,), (descriptor,)))

    def release_http(self, number: int) -> None:
        """Have it held no more."""
        self._ask(Message(Kind.HTTP, (number,)))

    def start(self, config: int) -> None:
        """Start the coordinator and the workers with the configuration of this number."""
        self._ask(Message(Kind.START, (config,)))

    def roll(self, config: int) -> None:
        """Restart them one by one for the configuration of this number; an event says how it ended."""
        self._ask(Message(Kind.ROLL, (config,)))

    def stop(self, ready_s: float = 0.0, code: int = 0) -> None:
        """Say when control will be ready for the end; 0: now."""
        self._ask(Message(Kind.STOP, (int(ready_s * 1000), code)))

    def reloaded(self, serial: int) -> None:
        """The RELOAD of this number is dealt with; until then a successor would be told of it."""
        self._ask(Message(Kind.RELOADED, (serial,)))

    def use_program(self, listener: int, use: bool) -> None:
        """Whether our program chooses among a listener's sockets, or the kernel."""
        self._ask(Message(Kind.PROGRAM, (listener, int(use))))

    async def keep_address(self, address: Address) -> None:
        """Put an address on the node, and have it renewed while a worker moves."""
        self._ask(Message(Kind.ADDRESS, address.words()))

    async def forget_address(self, address: Address, leave: bool = False) -> None:
        """Renew it no more, and take it from the node unless ``leave``."""
        self._ask(Message(Kind.FORGET, (*address.words(), int(leave))))

    async def exit_after(self, milliseconds: int) -> None:
        """Have the server leave when no worker has moved for so long; 0: it stays."""
        self._ask(Message(Kind.EXIT_AFTER, (milliseconds,)))

    def beat(self) -> None:
        """Show the keeper that we are alive."""
        try:
            protocol.send(self._channel, Message(Kind.BEAT))
        except OSError as error:
            raise _broken(error) from None

    def events(self) -> list[Message]:
        """What the keeper has said unasked since the last call. Raises ChannelClosedError."""
        while self._poll.poll(0):
            message = self._receive()
            if message.kind not in _EVENTS:
                raise KeeperError(f"the keeper sent {message.kind.name}, which was not asked for")
            self._events.append(message)
        found = list(self._events)
        self._events.clear()
        return found

    def _receive(self) -> Message:
        try:
            message = protocol.receive(self._channel)
        except OSError as error:
            raise _broken(error) from None
        except ValueError as error:
            raise KeeperError(f"the keeper sent what is no message: {error}") from None
        if message is None:
            raise ChannelClosedError("the keeper has closed the channel")
        return message

    def _ask(self, message: Message, expected: Kind = Kind.OK) -> Message:
        try:
            protocol.send(self._channel, message)
        except OSError as error:
            raise _broken(error) from None
        answer = self._receive()
        while answer.kind in _EVENTS:
            self._events.append(answer)
            self.on_overtaken()
            answer = self._receive()
        if answer.kind == Kind.ERROR:
            raise KeeperError(f"the keeper refused {message.kind.name}: {os.strerror(answer.words[0])}")
        if answer.kind != expected:
            raise KeeperError(f"the keeper answered {message.kind.name} with {answer.kind.name}")
        return answer


def _broken(error: OSError) -> KeeperError:
    if error.errno in (errno.EPIPE, errno.ECONNRESET):
        return ChannelClosedError("the keeper has closed the channel")
    return KeeperError(f"the channel to the keeper: {os.strerror(error.errno or errno.EPIPE)}")
