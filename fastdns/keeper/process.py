# SPDX-License-Identifier: Apache-2.0
"""The keeper: PID 1. It holds sockets and memory, starts the others, and starts them again.

The process that runs ``fastdns serve`` becomes it. Everything that happens while the server
runs is in ``_loop``; this file is what needs Python: forking, joining, control's set-up.
"""

import contextlib
import errno
import gc
import os
import resource
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from setproctitle import setproctitle

from fastdns import log, protocol
from fastdns._process import become_subreaper, trim_memory
from fastdns.forking import multiprocess
from fastdns.handles import CoordinatorHandles, WorkerHandles
from fastdns.keeper._loop import FAILED, FORK, JOIN, MESSAGE, ROLLED, Loop
from fastdns.keeper.holdings import Holdings
from fastdns.protocol import Address, Geometry, Kind, Message, State

CONTROL, COORDINATOR, FIRST_WORKER = 0, 1, 2  # children's numbers, as in _loop

_NOFILE = 65536  # descriptors: sockets here, connections in workers
_OF_A_FORK = 8  # descriptors that it takes at most: control's pair, and two pipes of multiprocess


@dataclass(frozen=True, slots=True)
class Entries:
    """What a child runs. Each makes itself a process of its own with child.begin, and does not return."""

    control: Callable[[int], object]  #: its end of the channel to the keeper
    coordinator: Callable[[CoordinatorHandles], object]
    worker: Callable[[WorkerHandles], object]


def run(entries: Entries) -> int:
    """Be the keeper. Returns the exit code of the server.

    All that the children need must have been imported: they share those pages.
    """
    _open_standard_streams()
    sys.stdin = None  # multiprocess would open another one in every child: 40 pages each
    setproctitle("fastdns: keeper")
    become_subreaper()
    _raise_descriptor_limit()
    keeper = Keeper(entries)
    gc.collect()
    trim_memory()  # of what the imports had in hand: children would have it, too
    gc.freeze()  # what is there now is never looked at by a collection, so it stays shared
    return keeper.run()


def _open_standard_streams() -> None:
    # Were one of them closed, the next segment would take its number, and a log line its contents.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = _NOFILE if hard == resource.RLIM_INFINITY else min(hard, _NOFILE)
    with contextlib.suppress(OSError, ValueError):  # control counts with what there is
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def take_priority() -> None:
    """Run before others, so that a node short of CPU time still renews its addresses.

    Real time costs it nothing else, as it works some microseconds a tick, and no cgroup's share of the CPU
    bounds it. Where that is not granted (CAP_SYS_NICE), the highest nice value. Children have neither.
    """
    for policy, priority in ((os.SCHED_RR, 1), (os.SCHED_OTHER, 0)):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
            if policy == os.SCHED_RR:
                return
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)


def _descriptors() -> set[int]:
    """All open descriptors, without the one that lists them. Raises OSError."""
    listed = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return {one for one in listed if _is_open(one)}


def _is_open(descriptor: int) -> bool:
    try:
        os.get_inheritable(descriptor)
    except OSError:
        return False
    return True


def _close_others(before: set[int]) -> None:
    """Close what a failed fork has opened, and left behind (multiprocess its pipes).

    Where it failed for want of descriptors there is none to list them with. The kernel gives the
    lowest free number, so the few new ones lie below this bound.
    """
    for descriptor in set(range(len(before) + _OF_A_FORK)) - before:
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Keeper:
    """The Python side of the loop: one object, for the life of the process."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._context = multiprocess.get_context("fork")
        self._loop = Loop()
        self._processes: dict[int, Any] = {}
        self._channel: socket.socket | None = None
        self._holdings = Holdings()
        self._started = False
        self._rolled = 0  # configurations' numbers, as in protocol.State
        self._rolling = 0

    def run(self) -> int:
        while True:
            action, number = self._loop.wait()
            if action == FORK:
                self._fork(number)
            elif action == JOIN:
                self._join(number)
            elif action == MESSAGE:
                self._on_message()
            elif action == ROLLED:
                self._has_rolled()
            elif action == FAILED:
                self._roll_failed()
            else:
                return number

    # ---- children

    def _fork(self, child: int) -> None:
        far_end = -1
        before: set[int] | None = None
        try:
            before = _descriptors()
            if child == CONTROL:
                far_end = self._open_channel()
            self._loop.starting(child)
            process = self._context.Process(target=self._be_child, args=(child, far_end))
            process.start()
        except (OSError, MemoryError) as error:
            if child == CONTROL:
                self._close_channel()
            if before is not None:
                _close_others(before)
            number = error.errno if isinstance(error, OSError) else errno.ENOMEM
            self._loop.has_not_started(child, number or errno.EAGAIN)
            return
        if far_end >= 0:
            os.close(far_end)
        # Or the next start() would reap it before the loop has seen it die. We join it ourselves.
        multiprocess.process._children.discard(process)
        self._processes[child] = process
        self._loop.has_started(child, process.pid)

    def _be_child(self, child: int, channel: int) -> NoReturn:
        """In the child: run its entry, and leave without unwinding the keeper's frames."""
        code = 1
        try:
            if child == CONTROL:
                self._entries.control(channel)
            elif child == COORDINATOR:
                self._entries.coordinator(self._holdings.coordinator_handles())
            else:
                self._entries.worker(self._holdings.worker_handles(child - FIRST_WORKER))
            code = 0
        except BaseException:  # nothing of a child may go on in the keeper's code
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _join(self, child: int) -> None:
        process = self._processes.pop(child)
        process.join()
        with contextlib.suppress(ValueError):  # it was reaped by somebody else, and has no exit code
            process.close()
        if child == CONTROL:
            self._close_channel()
            if not self._started:
                self._holdings.close()
        self._loop.has_joined(child)

    # ---- control

    def _open_channel(self) -> int:
        """A new pair. Returns control's end, to be closed here after the fork."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.setblocking(False)
        self._channel = near
        self._loop.set_channel(near.fileno())
        return far.detach()

    def _close_channel(self) -> None:
        self._loop.drop_channel()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _on_message(self) -> None:
        if self._channel is None:
            return
        try:
            message = protocol.receive(self._channel)
            if message is None:
                return
            self._reply(self._obey(message))
        except BlockingIOError:
            return
        except OSError as error:
            self._reply(Message(Kind.ERROR, (error.errno or errno.EIO,)))
        except (ValueError, OverflowError) as error:
            log.error(f"keeper: a request was refused: {error}")
            self._reply(Message(Kind.ERROR, (errno.EINVAL,)))

    def _obey(self, message: Message) -> Message:
        """Do what a request of control asks. Raises OSError, ValueError."""
        held, words = self._holdings, message.words
        if message.kind == Kind.HELLO:
            http = sum(1 << number for number in held.http)
            state = State(self._started, self._rolled, self._rolling, held.slots(), held.former >= 0, http)
            self._loop.listens()
            return Message(Kind.STATE, state.words(), tuple(held.readers()) if self._started else ())
        if self._obey_at_once(message):
            return Message(Kind.OK)
        if message.kind == Kind.ADDRESS:
            self._keep_address(Address.of(words))
        elif message.kind == Kind.FORGET:
            address = Address.of(words)
            self._loop.forget_address(address.family, address.octets, bool(words[5]))
        elif message.kind == Kind.LISTENER:
            held.add_listener(words[0], message.descriptors)
            self._loop.set_groups(held.groups())
        elif message.kind == Kind.HTTP:
            held.hold_http(words[0], message.descriptors)
        elif message.kind == Kind.CONFIG:
            held.set_config(message.descriptors)
        elif self._started:
            self._obey_running(message)
        elif message.kind == Kind.ALLOCATE:
            held.allocate(Geometry.of(words))
        elif message.kind == Kind.START:
            self._start(words[0])
        else:
            raise ValueError(f"{message.kind.name} is not for the keeper, or not before the start")
        return Message(Kind.OK)

    def _keep_address(self, address: Address) -> None:
        take_priority()
        self._loop.keep_address(address.family, address.interface, address.octets, address.lifetime_s)

    def _obey_at_once(self, message: Message) -> bool:
        """What is the loop's alone. Returns False for what is not. Raises ValueError."""
        words = message.words
        if message.kind == Kind.PROGRAM:
            self._loop.leave_to_kernel(words[0], not words[1])
        elif message.kind == Kind.EXIT_AFTER:
            self._loop.exit_after(words[0])
        elif message.kind == Kind.RELOADED:
            self._loop.reload_done(words[0])
        elif message.kind == Kind.STOP:
            self._loop.stop_in(words[0], words[1] & 0xFF)
        else:
            return False
        return True

    def _obey_running(self, message: Message) -> None:
        """What has a meaning only once all are started. Raises ValueError."""
        if message.kind == Kind.REMOVE:
            self._holdings.retire_listener(message.words[0])
        elif message.kind == Kind.RESTORE:
            self._holdings.restore_listener(message.words[0])
        elif message.kind == Kind.ROLL:
            self._rolling = message.words[0]
            self._loop.begin_roll(self._rolling)
        else:
            protocol.close_all(message.descriptors)
            raise ValueError(f"{message.kind.name} is not for the keeper, or not after the start")

    def _start(self, config: int) -> None:
        held = self._holdings
        if not held.complete():
            raise ValueError("START before everything is there")
        self._loop.start(held.board, held.post, held.regions, held.wakes, held.groups())
        held.settle()
        self._started = True
        self._rolled = config

    def _has_rolled(self) -> None:
        """All children are of the new configuration: what only the one before had is closed."""
        self._holdings.settle()
        self._loop.set_groups(self._holdings.groups())
        self._rolled, self._rolling = self._rolling, 0
        self._loop.tell_rolled(self._rolled)

    def _roll_failed(self) -> None:
        """Children die on the new configuration; control has the one before, as long as none is settled."""
        number, self._rolling = self._rolling, 0
        self._loop.tell_failed(number)

    def _reply(self, message: Message) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # a control that does not read finds out by itself
                protocol.send(self._channel, message)
        protocol.close_all(message.descriptors)
