# SPDX-License-Identifier: Apache-2.0
"""Control's end of the channel to the keeper."""

import errno
import os
import socket

from fastdns import protocol
from fastdns.errors import KeeperError
from fastdns.protocol import Geometry, Kind, Message

_ANSWER_S = 10.0  # an allocation touches memory; nothing else takes the keeper long


class KeeperLink:
    """Requests, one at a time. Each raises KeeperError when the keeper refuses or is gone."""

    def __init__(self, descriptor: int) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.settimeout(_ANSWER_S)

    def fileno(self) -> int:
        return self._channel.fileno()

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

    def beat(self) -> None:
        """Show the keeper that we are alive; it does not answer."""
        try:
            protocol.send(self._channel, Message(Kind.BEAT))
        except OSError as error:
            raise _broken(error) from None

    def at_end(self) -> bool:
        """Whether the keeper has closed its end; asked when the channel is readable between requests."""
        self._channel.settimeout(0)
        try:
            return not self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._channel.settimeout(_ANSWER_S)

    def _ask(self, message: Message, expected: Kind = Kind.OK) -> Message:
        try:
            protocol.send(self._channel, message)
            answer = protocol.receive(self._channel)
        except OSError as error:
            raise _broken(error) from None
        if answer is None:
            raise KeeperError("the keeper has closed the channel")
        if answer.kind == Kind.ERROR:
            raise KeeperError(f"the keeper refused {message.kind.name}: {os.strerror(answer.words[0])}")
        if answer.kind != expected:
            raise KeeperError(f"the keeper answered {message.kind.name} with {answer.kind.name}")
        return answer


def _broken(error: OSError) -> KeeperError:
    return KeeperError(f"the channel to the keeper: {os.strerror(error.errno or errno.EPIPE)}")
