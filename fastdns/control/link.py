# SPDX-License-Identifier: Apache-2.0
"""Control's end of the channel to the keeper."""

import errno
import os
import select
import socket
import time

from fastdns import protocol
from fastdns.errors import KeeperError
from fastdns.protocol import Geometry, Kind, Message

_ANSWER_S = 10.0  # an allocation touches memory; nothing else takes the keeper long
_BEAT_S = 2.0  # the keeper waits 15 s for one


class ChannelClosedError(KeeperError):
    """The keeper wants us to leave, or is dead."""


class KeeperLink:
    """Requests, one at a time. Each raises KeeperError when the keeper refuses or is gone."""

    def __init__(self, descriptor: int) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.settimeout(_ANSWER_S)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._beat_due = 0.0

    def state(self) -> tuple[int, ...]:
        """Descriptors of config, board, post and regions, for reading; empty before the start."""
        return self._ask(Message(Kind.HELLO), Kind.STATE).descriptors

    def allocate(self, geometry: Geometry) -> None:
        self._ask(Message(Kind.ALLOCATE, geometry.words()))

    def add_listener(self, number: int, descriptors: tuple[int, ...]) -> None:
        self._ask(Message(Kind.LISTENER, (number,), descriptors))

    def set_config(self, descriptor: int) -> None:
        self._ask(Message(Kind.CONFIG, (), (descriptor,)))

    def start(self) -> None:
        self._ask(Message(Kind.START))

    def use_program(self, listener: int, use: bool) -> None:
        """Whether our program chooses among a listener's sockets, or the kernel."""
        self._ask(Message(Kind.PROGRAM, (listener, int(use))))

    def pause(self, seconds: float) -> None:
        """Let time pass, showing the keeper that we are alive. Raises ChannelClosedError."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now >= self._beat_due:
                self._beat_due = now + _BEAT_S
                self._beat()
            if now >= until:
                return
            if self._poll.poll(max(1.0, (min(until, self._beat_due) - now) * 1000)):
                self._look()

    def _beat(self) -> None:
        try:
            protocol.send(self._channel, Message(Kind.BEAT))
        except OSError as error:
            raise _broken(error) from None

    def _look(self) -> None:
        # Between requests the keeper says nothing: what can be read is the end.
        try:
            data = self._channel.recv(1, socket.MSG_PEEK)
        except OSError as error:
            raise _broken(error) from None
        if data:
            raise KeeperError("the keeper sent what was not asked for")
        raise ChannelClosedError("the keeper has closed the channel")

    def _ask(self, message: Message, expected: Kind = Kind.OK) -> Message:
        try:
            protocol.send(self._channel, message)
            answer = protocol.receive(self._channel)
        except OSError as error:
            raise _broken(error) from None
        if answer is None:
            raise ChannelClosedError("the keeper has closed the channel")
        if answer.kind == Kind.ERROR:
            raise KeeperError(f"the keeper refused {message.kind.name}: {os.strerror(answer.words[0])}")
        if answer.kind != expected:
            raise KeeperError(f"the keeper answered {message.kind.name} with {answer.kind.name}")
        return answer


def _broken(error: OSError) -> KeeperError:
    if error.errno in (errno.EPIPE, errno.ECONNRESET):
        return ChannelClosedError("the keeper has closed the channel")
    return KeeperError(f"the channel to the keeper: {os.strerror(error.errno or errno.EPIPE)}")
