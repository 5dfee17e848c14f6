# SPDX-License-Identifier: Apache-2.0
"""A keeper with stand-ins for its children: `python -m tests.unit.keeper_stand_in SCENARIO`.

The keeper takes over signals and reaps everything, so it can't run inside pytest's own process.
"""

import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import multiprocess

from fastdns import protocol
from fastdns.control._tables import create_config
from fastdns.control.addresses import Endpoint
from fastdns.control.link import KeeperLink
from fastdns.control.model import Upstream, plain_config
from fastdns.control.sockets import open_listener
from fastdns.errors import KeeperError
from fastdns.keeper.process import CONTROL, Entries, Keeper, _descriptors
from fastdns.protocol import Geometry, Kind, Message, State
from tests.counts import count
from tests.peers.run import free_port

GEOMETRY = Geometry(
    workers=2,
    cache=400 * 1024,
    questions=16384,
    answers=262144,
    pending=64,
    clients=64,
    tcp=4096,
    series=4,
    log=16384,
)


def leave(_: object) -> NoReturn:
    os._exit(0)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def many_deaths() -> None:
    """Many lives of a child: nothing of them is left."""
    keeper = Keeper(Entries(control=leave, coordinator=leave, worker=leave))

    def live(times: int) -> None:
        for _ in range(times):
            keeper._fork(CONTROL)
            os.waitid(os.P_PID, keeper._processes[CONTROL].pid, os.WEXITED | os.WNOWAIT)
            keeper._join(CONTROL)

    live(50)
    before, peak = descriptors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    live(count("keeper_restarts"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    report(
        descriptors=descriptors() - before,
        zombies=count_zombies(os.getpid()),
        known=len(multiprocess.active_children()),
        grown_kib=grown,
    )


def failing_forks() -> None:
    """Forks that fail leave nothing open, and are followed by one that does not."""
    failures = 5
    real = os.fork
    before = 0

    def fork() -> int:
        nonlocal failures
        if failures:
            failures -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        report(descriptors=descriptors() - before)
        return real()

    os.fork = fork
    keeper = Keeper(Entries(control=lambda _: os._exit(2), coordinator=leave, worker=leave))
    before = descriptors() + 6  # of the fork that succeeds: control's pair, and multiprocess's two pipes
    sys.exit(keeper.run())


def few_descriptors() -> None:
    """A fork that runs out of descriptors at any point is tried again, and leaves nothing open."""
    keeper = Keeper(Entries(control=leave, coordinator=leave, worker=leave))
    before = _descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = []
    for free in range(6):  # the fork takes six: a pair, and two pipes
        limit = next(n for n in range(1, soft) if n - sum(one < n for one in before) == free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        keeper._fork(CONTROL)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        left.append(sorted(_descriptors() ^ before))
    report(left=left, forked=len(keeper._processes))


def end_at_once(keeper: int) -> NoReturn:
    """In a child: have the keeper kill its children and leave; a first signal only asks them.

    Two of one kind could fall together.
    """
    os.kill(keeper, signal.SIGTERM)
    os.kill(keeper, signal.SIGINT)
    os._exit(0)


def set_up(link: KeeperLink, port: int) -> None:
    link.allocate(GEOMETRY)
    with open_listener(Endpoint("127.0.0.1", port), 2, 65536) as opened:
        link.add_listener(0, opened.descriptors())
    upstream = Upstream(Endpoint("127.0.0.1", 9))
    config = create_config(plain_config((Endpoint("127.0.0.1", port),), (upstream,), 2))
    link.set_config(config)
    os.close(config)


def hostile_messages() -> None:
    """What makes no sense is refused, and the keeper goes on: it even starts afterwards."""
    port = free_port()

    def control(channel: int) -> NoReturn:
        link = KeeperLink(channel)
        refused = []

        def attempt(what: Callable[[], object]) -> None:
            try:
                what()
            except KeeperError as error:
                refused.append(str(error))

        def raw(data: bytes, count: int) -> None:
            socket.send_fds(link._channel, [data], [0] * count)
            answer = protocol.receive(link._channel)
            assert answer is not None
            if answer.kind == Kind.ERROR:
                raise KeeperError(f"raw {len(data)} {count}")

        if link.state()[0].started:
            raise AssertionError("started before the start")
        attempt(lambda: link.start(1))
        attempt(lambda: raw(b"x", 0))
        attempt(lambda: raw(b"\xff" * protocol.MESSAGE_LEN, 3))
        attempt(lambda: raw(b"\0" * (protocol.MESSAGE_LEN + 8), 0))
        attempt(lambda: raw(b"\0" * protocol.MESSAGE_LEN, 100))
        attempt(lambda: link.add_listener(0, (0, 0, 0)))
        attempt(lambda: link.add_listener(5, (0,) * 4))
        attempt(lambda: link._ask(Message(Kind.CONFIG)))
        attempt(lambda: link._ask(Message(Kind.OK)))
        attempt(lambda: link.use_program(0, True))
        attempt(lambda: link.allocate(Geometry(0, 0, 0, 0, 0, 0, 0, 0, 0)))
        set_up(link, port)
        attempt(lambda: link.allocate(GEOMETRY))
        link.start(1)
        attempt(lambda: link.start(1))
        attempt(lambda: link.add_listener(0, (0,) * 4))  # the slot is taken
        attempt(lambda: link.add_listener(32, (0,) * 4))  # there is no such slot
        attempt(lambda: link.remove_listener(1))
        attempt(lambda: link.use_program(1, True))
        link.use_program(0, False)
        link.use_program(0, True)
        state, held = link.state()
        assert state == State(True, 1, 0, 1)
        report(refused=refused, held=len(held))
        os._exit(0)

    keeper_pid = os.getpid()
    keeper = Watched(control, lambda _: end_at_once(keeper_pid))
    before = descriptors()
    code = keeper.run()
    keeper._holdings.close()
    report(code=code, leaked=descriptors() - before)


def idle(_: object) -> NoReturn:
    """A worker or coordinator that does nothing at all, until it is killed."""
    while True:
        time.sleep(60)


def died_in_set_up() -> None:
    """Control dies between two requests, twice; the third one starts from nothing and gets through."""
    port = free_port()

    def control(channel: int) -> NoReturn:
        link = KeeperLink(channel)
        if link.state()[0].started:
            raise AssertionError("started by a control that died")
        link.allocate(GEOMETRY)
        if keeper.lives < 2:
            with open_listener(Endpoint("127.0.0.1", port), 2, 65536) as opened:
                link.add_listener(0, opened.descriptors())
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(2)

    keeper = Watched(control, control, control)
    before = descriptors()
    code = keeper.run()
    report(lives=keeper.lives, leaked=descriptors() - before)
    sys.exit(code)


def died_at_the_start() -> None:
    """Control dies while the keeper forks the others, and comes back all the same."""
    port = free_port()

    def first(channel: int) -> NoReturn:
        link = KeeperLink(channel)
        set_up(link, port)
        link.start(1)
        os._exit(1)

    def second(channel: int) -> NoReturn:
        report(held=len(KeeperLink(channel).state()[1]))
        end_at_once(keeper_pid)

    keeper_pid = os.getpid()
    sys.exit(Watched(first, second).run())


def reaped_elsewhere() -> None:
    """Somebody else reaps a child; the keeper sees that it has gone."""

    class Robbed(Watched):
        def _fork(self, child: int) -> None:
            super()._fork(child)
            if self.lives == 0:
                os.waitpid(self._processes[CONTROL].pid, 0)

    def second(_: int) -> NoReturn:
        report(lives=2)
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)

    sys.exit(Robbed(leave, second).run())


def orphans() -> None:
    """A grandchild whose parent died is reaped by the keeper."""

    def control(_: int) -> NoReturn:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        if os.fork() == 0:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(0.4)
            report(zombies_of_keeper=count_zombies(keeper_pid))
            end_at_once(keeper_pid)
        time.sleep(60)
        os._exit(1)

    keeper_pid = os.getpid()
    sys.exit(Watched(control, idle).run())


def count_zombies(parent: int) -> int:
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                found += fields[0] == "Z" and int(fields[1]) == parent
    return found


class Watched(Keeper):
    """A keeper whose control is another function in each of its lives, the last one for good."""

    def __init__(self, *controls: Callable[[int], object]) -> None:
        super().__init__(Entries(control=self.be_control, coordinator=idle, worker=idle))
        self.controls = controls
        self.lives = 0

    def be_control(self, channel: int) -> object:
        return self.controls[min(self.lives, len(self.controls) - 1)](channel)

    def _join(self, child: int) -> None:
        self.lives += child == CONTROL
        super()._join(child)


def report(**facts: object) -> None:
    os.write(1, (json.dumps(facts) + "\n").encode())


SCENARIOS = {
    one.__name__: one
    for one in (
        many_deaths,
        failing_forks,
        few_descriptors,
        hostile_messages,
        died_in_set_up,
        died_at_the_start,
        reaped_elsewhere,
        orphans,
    )
}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]]()
