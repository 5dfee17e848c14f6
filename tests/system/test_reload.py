# SPDX-License-Identifier: Apache-2.0
"""A Corefile that changes under a running server: nothing is lost, nothing is answered from before."""

import contextlib
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from fastdns.loadgen.process import finish_process, start_process
from fastdns.loadgen.spec import LoadSpec
from tests.counts import count
from tests.mock_upstream import MockUpstream, Question, Reply, answer, mock_upstream
from tests.peers.run import free_port
from tests.system.clients import TCP, UDP, Client
from tests.system.server import LOOPBACK, STOP_S, Server, serve

OLD, NEW = "192.0.2.1", "192.0.2.2"
RATE = 1_000  # queries a second: not about speed, and the upstream is Python
ROLLED_S = 20.0  # a reload, on a machine that compiles something else
COMPLETE = "Reloading complete"


def upstream_of(
    address: str, host: str = LOOPBACK, port: int = 0
) -> "contextlib.AbstractContextManager[MockUpstream]":
    def reply(question: Question) -> list[Reply]:
        return [Reply(answer(question, address))]

    return mock_upstream(reply, host, port)


@pytest.fixture
def old() -> Iterator[MockUpstream]:
    with upstream_of(OLD) as running:
        yield running


@pytest.fixture
def new() -> Iterator[MockUpstream]:
    with upstream_of(NEW) as running:
        yield running


class Conf:
    """A Corefile with a block for `.` and one for `moving.`, which can be written anew."""

    def __init__(self, file: Path, upstream: MockUpstream) -> None:
        self.file = file
        self.port = free_port()
        self.upstream = upstream
        self.write(upstream)

    def write(self, moving: MockUpstream, extra: str = "", reload: str = "", bind: str = LOOPBACK) -> None:
        """Whom `moving.` asks; more text at the end; words of the plugin reload in the first block."""
        plugin = f"    reload {reload}\n" if reload else ""
        beside = self.file.with_suffix(".new")
        beside.write_text(
            f".:{self.port} {{\n    bind {bind}\n    errors\n    cache 300\n{plugin}"
            f"    forward . {LOOPBACK}:{self.upstream.server[1]}\n}}\n"
            f"moving.:{self.port} {{\n    bind {bind}\n    cache 300\n"
            f"    forward . {LOOPBACK}:{moving.server[1]}\n}}\n{extra}",
            encoding="ascii",
        )
        beside.replace(self.file)


@pytest.fixture
def conf(tmp_path: Path, old: MockUpstream) -> Conf:
    return Conf(tmp_path / "Corefile", old)


@contextlib.contextmanager
def serving(conf: Conf) -> Iterator[Server]:
    with serve([], listen=[(LOOPBACK, conf.port)], conf=conf.file) as server:
        yield server


def reload(server: Server, wanted: int = 1) -> None:
    """Ask for a reload; it is done when this returns. wanted: how many the server has said it completed."""
    os.kill(server.keeper, signal.SIGHUP)
    wait_for(lambda: server.said().count(COMPLETE) >= wanted, server, f"reload {wanted}")


def wait_for(condition: Callable[[], bool], server: Server, what: str, timeout_s: float = ROLLED_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s\n{server.said()}"
        time.sleep(0.01)


def address_of(client: Client, name: str) -> str:
    response = client.ask(name, "A", UDP)
    assert response.rcode() == dns.rcode.NOERROR
    return str(response.answer[0][0])


def test_a_changed_block_is_answered_anew_and_the_others_still_hit(
    conf: Conf, old: MockUpstream, new: MockUpstream
) -> None:
    with serving(conf) as server, Client(server.endpoint) as client:
        stays = [f"n{number}.stays." for number in range(50)]
        moves = [f"n{number}.moving." for number in range(50)]
        assert {address_of(client, name) for name in stays + moves} == {OLD}
        before = server.stats()
        conf.write(new)
        reload(server)
        assert {address_of(client, name) for name in moves} == {NEW}
        asked = len(old.questions)
        assert {address_of(client, name) for name in stays} == {OLD}
        assert len(old.questions) == asked, "what did not change was asked again"
        after = server.stats()
        assert after.counter("hits") - before.counter("hits") == len(stays)
        assert after.counter("outdated") == len(moves)
        assert not after.restarts, "a rolling restart is no death"
        for role, index in (("coordinator", 0), ("worker", 0), ("worker", 1)):
            assert after.child(role, index)["pid"] != before.child(role, index)["pid"]
        assert after.child("control")["pid"] == before.child("control")["pid"]
        assert "[WARNING]" not in server.said()


def test_a_new_block_takes_its_names_from_the_old_one(conf: Conf, new: MockUpstream) -> None:
    with serving(conf) as server, Client(server.endpoint) as client:
        assert address_of(client, "a.fresh.") == OLD
        conf.write(
            conf.upstream,
            f"fresh.:{conf.port} {{\n    bind {LOOPBACK}\n    forward . {LOOPBACK}:{new.server[1]}\n}}\n",
        )
        reload(server)
        assert address_of(client, "a.fresh.") == NEW


def test_an_unchanged_file_disturbs_nobody(conf: Conf) -> None:
    with serving(conf) as server:
        before = server.stats()
        reload(server)
        after = server.stats()
        assert [one["pid"] for one in after.children] == [one["pid"] for one in before.children]


@pytest.mark.parametrize("text", [".:53 {\n    forward\n}\n", "x {\n  nonsense\n}\n", "a {\n"])
def test_a_broken_file_changes_nothing(conf: Conf, text: str) -> None:
    with serving(conf) as server, Client(server.endpoint) as client:
        assert address_of(client, "a.moving.") == OLD
        before = server.stats()
        conf.file.write_text(text, encoding="ascii")
        os.kill(server.keeper, signal.SIGUSR1)
        wait_for(lambda: f"[ERROR] SIGUSR1: {conf.file}" in server.said(), server, "the error")
        assert address_of(client, "a.moving.") == OLD
        after = server.stats()
        assert [one["pid"] for one in after.children] == [one["pid"] for one in before.children]


def test_the_plugin_reload_sees_the_file_change(conf: Conf, new: MockUpstream) -> None:
    conf.write(conf.upstream, reload="2s 1s")
    with serving(conf) as server, Client(server.endpoint) as client:
        assert address_of(client, "a.moving.") == OLD
        conf.write(new, reload="2s 1s")
        wait_for(lambda: COMPLETE in server.said(), server, "the reload")
        assert address_of(client, "a.moving.") == NEW
        assert "[INFO] plugin/reload: Running configuration SHA512 = " in server.said()
        conf.file.write_text("x {\n", encoding="ascii")
        wait_for(lambda: "plugin/reload: Corefile parse failed: " in server.said(), server, "the failure")
        assert address_of(client, "a.moving.") == NEW


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process holds, by inode."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            found.add(str(link.readlink()))
    return {one for one in found if one.startswith("socket:")}


def test_listeners_come_and_go(conf: Conf) -> None:
    """An address is added, served over UDP and TCP, and removed: its sockets are closed then."""
    port = free_port()
    more = f".:{port} {{\n    bind {LOOPBACK}\n    forward . {LOOPBACK}:{conf.upstream.server[1]}\n}}\n"
    with serving(conf) as server:
        held = sockets_of(server.keeper)
        for round_number in range(3):
            conf.write(conf.upstream, more)
            reload(server, 2 * round_number + 1)
            with Client((LOOPBACK, port)) as client:
                for number in range(8):
                    assert client.ask(f"u{number}.test.", "A", UDP).rcode() == dns.rcode.NOERROR
                assert client.ask("t.test.", "A", TCP).rcode() == dns.rcode.NOERROR
            conf.write(conf.upstream)
            reload(server, 2 * round_number + 2)
            assert sockets_of(server.keeper) == held
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.bind((LOOPBACK, port))  # nobody has it any more


def test_a_reload_that_was_asked_for_while_control_was_dead(conf: Conf, new: MockUpstream) -> None:
    with serving(conf) as server, Client(server.endpoint) as client:
        assert address_of(client, "a.moving.") == OLD
        conf.write(new)
        os.kill(server.pid("control"), signal.SIGKILL)
        reload(server)
        assert address_of(client, "a.moving.") == NEW
        os.kill(server.pid("control"), signal.SIGKILL)  # its successor knows what runs
        before = server.stats()
        reload(server, 2)
        assert [one["pid"] for one in server.stats().children[1:]] == [
            one["pid"] for one in before.children[1:]
        ]


@pytest.mark.parametrize("role", ["control", "coordinator", "worker"])
def test_a_roll_goes_on_when_children_are_killed(conf: Conf, new: MockUpstream, role: str) -> None:
    with serving(conf) as server, Client(server.endpoint) as client:
        before = server.stats()
        assert address_of(client, "a.moving.") == OLD
        conf.write(new)
        os.kill(server.keeper, signal.SIGHUP)
        old_pid = before.child("coordinator")["pid"]
        server.wait_for(
            lambda stats: stats.child("coordinator")["pid"] != old_pid, "the roll's begin", ROLLED_S
        )
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid(role, 1 if role == "worker" else 0), signal.SIGKILL)
        server.wait_for(
            lambda stats: all(
                stats.child("worker", index)["pid"] not in (0, before.child("worker", index)["pid"])
                and stats.workers[index]["serving"]
                for index in (0, 1)
            ),
            "all workers replaced",
            ROLLED_S,
        )
        wait_for(lambda: address_of(client, "a.moving.") == NEW, server, "the new answer")


class Executioner(threading.Thread):
    """Kills children of a keeper as soon as they are there: they die at their start, whatever they run."""

    def __init__(self, keeper: int, spare: int, deaths: int) -> None:
        """spare: how many new children live before it begins; deaths: how many die."""
        super().__init__()
        self._list = Path(f"/proc/{keeper}/task/{keeper}/children")
        self._known = set(self._list.read_text().split())
        self._spare, self._deaths = spare, deaths
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + ROLLED_S
        while self._deaths and time.monotonic() < deadline:
            for pid in self._list.read_text().split():
                if pid in self._known:
                    continue
                self._known.add(pid)
                if self._spare:
                    self._spare -= 1
                elif self._deaths:
                    self._deaths -= 1
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.001)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("role", "spare"), [("coordinator", 0), pytest.param("worker", 1, marks=pytest.mark.stress)]
)
def test_a_configuration_that_kills_is_given_up(
    conf: Conf, old: MockUpstream, new: MockUpstream, role: str, spare: int
) -> None:
    """It has passed the check, and its processes die: the one before is served, and no query is lost."""
    port = free_port()
    more = f".:{port} {{\n    bind {LOOPBACK}\n    forward . {LOOPBACK}:{old.server[1]}\n}}\n"
    metrics = free_port()
    seen = f"seen.:{conf.port} {{\n    bind {LOOPBACK}\n    prometheus {LOOPBACK}:{metrics}\n    whoami\n}}\n"
    conf.write(old, seen, reload="2s 1s")
    with serving(conf) as server, Client(server.endpoint) as client:
        assert address_of(client, "a.moving.") == OLD
        held = sockets_of(server.keeper)
        names = [(f"n{number}.stays.", "A") for number in range(200)]
        load = LoadSpec(
            server.endpoint, names=names, order="random", seconds=8.0, rate=RATE, window=5 * RATE,
            timeout_s=4.4,
        )  # fmt: skip
        running = start_process(load)
        executioner = Executioner(server.keeper, spare, 3)
        conf.write(new, seen + more, reload="2s 1s")
        wait_for(lambda: "[ERROR] Restart failed: " in server.said(), server, "the way back")
        executioner.join()
        assert server.said().count("the configuration before is served again") == 2
        assert address_of(client, "b.moving.") == OLD
        assert sockets_of(server.keeper) == held, "the new listener is gone"
        assert server.stats().restarts == {f"{role} 0": 3}
        with urllib.request.urlopen(f"http://{LOOPBACK}:{metrics}/metrics", timeout=ROLLED_S) as scraped:
            text = scraped.read().decode()
        assert "\nfastdns_reloads_total 1.0\n" in text
        assert "\ncoredns_reload_failed_total 1.0\n" in text
        time.sleep(3.0)  # more than the plugin's period
        assert server.said().count("[INFO] Reloading\n") == 1, "it is not tried again as it is"
        result = finish_process(running, 60.0)
        assert (result.timeouts, set(result.rcodes), result.refused) == (0, {"NOERROR"}, 0), result
        conf.write(new, seen + more + "# mended\n", reload="2s 1s")
        reload(server)
        assert address_of(client, "b.moving.") == NEW
        with Client((LOOPBACK, port)) as other:
            assert address_of(other, "a.fresh.") == OLD


@pytest.mark.fault
@pytest.mark.parametrize("moment_s", [0.0, 0.1, 0.3])
def test_control_dies_on_the_way_back(
    conf: Conf, old: MockUpstream, new: MockUpstream, moment_s: float
) -> None:
    """Its successor brings one or the other configuration to all, whole: nothing of both is left."""
    port = free_port()
    more = f".:{port} {{\n    bind {LOOPBACK}\n    forward . {LOOPBACK}:{old.server[1]}\n}}\n"
    with serving(conf) as server, Client(server.endpoint) as client:
        held = len(sockets_of(server.keeper))  # control's channel is another one afterwards
        executioner = Executioner(server.keeper, 0, 3)
        conf.write(new, more)
        os.kill(server.keeper, signal.SIGHUP)
        executioner.join()
        conf.write(old)
        time.sleep(moment_s)
        server.kill_child("control")
        reload(server)
        wait_for(lambda: address_of(client, "a.moving.") == OLD, server, "the answer from before")
        assert len(sockets_of(server.keeper)) == held
        assert len(configurations(server.keeper)) == 1, "the one that was given up is still held"


def configurations(pid: int) -> list[int]:
    """The configurations' segments that a process holds."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            if "fastdns-config" in str(link.readlink()):
                found.append(int(link.name))
    return found


@pytest.mark.timeout(1800)
def test_reloads_under_load_lose_nothing(conf: Conf, old: MockUpstream, new: MockUpstream) -> None:
    """Again and again under load: each question is answered in time, and no counter goes back."""
    rounds = count("reloads")
    names = [(f"n{number}.{zone}", "A") for number in range(200) for zone in ("stays.", "moving.")]
    with serving(conf) as server:
        load = LoadSpec(
            server.endpoint, names=names, order="random", seconds=rounds * 1.2 + 2, rate=RATE,
            window=5 * RATE, timeout_s=4.4,
        )  # fmt: skip
        running = start_process(load)
        server.wait_for(
            lambda stats: stats.counter("udp_queries") > 500, "the load's first queries", ROLLED_S
        )
        seen = server.stats().counter("udp_queries")
        for number in range(rounds):
            conf.write(new if number % 2 == 0 else old)
            reload(server, number + 1)
            now = server.stats()
            assert now.counter("udp_queries") >= seen, "a counter went back"
            seen = now.counter("udp_queries")
        result = finish_process(running, 60.0 + (load.seconds or 0.0))
        assert result.timeouts == 0, result
        assert set(result.rcodes) == {"NOERROR"}, result
        assert result.refused == 0, result
        assert not server.stats().restarts


def ask_slowly(endpoint: tuple[str, int], count: int) -> tuple[socket.socket, socket.socket, set[int]]:
    """Questions that upstream takes its time for, over UDP and TCP; the sockets, and the IDs that wait."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(STOP_S)
    udp.connect(endpoint)
    queries = [dns.message.make_query(f"slow-{os.urandom(4).hex()}.test.", "A") for _ in range(count)]
    for number, query in enumerate(queries):
        query.id = number
        udp.send(query.to_wire())
    tcp = socket.create_connection(endpoint, STOP_S)
    wire = queries[0].to_wire()
    tcp.sendall(len(wire).to_bytes(2, "big") + wire)
    return udp, tcp, set(range(count))


def has_asked(upstream: MockUpstream, count: int) -> Callable[[], bool]:
    """Whether so many slow names have reached upstream."""
    return lambda: len({one.name for one in upstream.questions if one.name.startswith("slow-")}) >= count


@pytest.mark.stress
def test_listeners_come_and_go_under_load(conf: Conf) -> None:
    """The other listener loses no query; the one that goes answers what it was asked before."""

    def reply(question: Question) -> list[Reply]:
        return [Reply(answer(question, OLD), delay_s=1.0 if question.name.startswith("slow-") else 0.0)]

    rounds, port = 4, free_port()
    with mock_upstream(reply) as upstream:
        conf.upstream = upstream
        more = f".:{port} {{\n    bind {LOOPBACK}\n    forward . {LOOPBACK}:{upstream.server[1]}\n}}\n"
        conf.write(upstream, more)
        with serve([], listen=[(LOOPBACK, conf.port)], conf=conf.file) as server:
            load = LoadSpec(
                server.endpoint, names=[(f"n{number}.stays.", "A") for number in range(200)], order="random",
                seconds=rounds * 5.0, rate=RATE, window=5 * RATE, timeout_s=4.4,
            )  # fmt: skip
            running = start_process(load)
            for number in range(rounds):
                udp, tcp, waiting = ask_slowly((LOOPBACK, port), 20)
                with udp, tcp:
                    wait_for(has_asked(upstream, 20 * (number + 1)), server, "the slow questions")
                    conf.write(upstream)
                    reload(server, 2 * number + 1)
                    while waiting:
                        waiting.discard(dns.message.from_wire(udp.recv(4096)).id)
                    assert len(tcp.recv(4096)) > 2
                    assert tcp.recv(4096) == b"", "the connection is closed in order"
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((LOOPBACK, port), STOP_S)
                conf.write(upstream, more)
                reload(server, 2 * number + 2)
            result = finish_process(running, 60.0)
            assert (result.timeouts, set(result.rcodes), result.refused) == (0, {"NOERROR"}, 0), result


@pytest.mark.stress
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for port 53: a resolv.conf names no other")
def test_a_resolv_conf_that_changes_is_followed_under_load(tmp_path: Path, conf: Conf) -> None:
    """The node's resolvers are others now, as after a DHCP lease: they are asked from then on."""
    hosts = [f"127.91.{os.getpid() % 250 + 1}.{last}" for last in (1, 2)]
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {hosts[0]}\n", encoding="ascii")
    conf.write(
        conf.upstream,
        f"node.:{conf.port} {{\n    bind {LOOPBACK}\n    cache 1\n    forward . {file}\n}}\n",
    )
    names = [(f"n{number}.node.", "A") for number in range(50)]  # each is asked anew every second
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(contextlib.ExitStack())
        before.enter_context(upstream_of(OLD, hosts[0], 53))
        resolver = stack.enter_context(upstream_of(NEW, hosts[1], 53))
        server = stack.enter_context(serving(conf))
        client = stack.enter_context(Client(server.endpoint))
        assert address_of(client, "before.node.") == OLD
        load = LoadSpec(
            server.endpoint, names=names, order="random", seconds=10.0, rate=RATE, window=5 * RATE,
            timeout_s=4.4,
        )  # fmt: skip
        running = start_process(load)
        file.write_text(f"nameserver {hosts[1]}\n", encoding="ascii")
        config = server.stats().coordinator["swept"]
        server.wait_for(
            lambda stats: (
                stats.coordinator["swept"] > config
                and all(one["serving"] for one in stats.workers)
                and bool(resolver.questions)
            ),
            "the change",
            ROLLED_S,
        )
        wait_for(
            lambda: address_of(client, f"{os.urandom(4).hex()}.node.") == NEW, server, "the new resolver"
        )
        before.close()  # nobody needs it any more
        result = finish_process(running, 60.0)
        assert (result.timeouts, set(result.rcodes), result.refused) == (0, {"NOERROR"}, 0), result
        assert len(resolver.questions) > len(names)
        assert not server.stats().restarts


def test_a_hosts_file_that_changes_is_followed(tmp_path: Path, conf: Conf, old: MockUpstream) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.7 seven.hosted\n", encoding="ascii")
    conf.write(
        old,
        f"hosted.:{conf.port} {{\n    bind {LOOPBACK}\n    cache 300\n    hosts {hosts} {{\n"
        f"        reload 1s\n        fallthrough\n    }}\n    forward . {LOOPBACK}:{old.server[1]}\n}}\n",
    )
    with serving(conf) as server, Client(server.endpoint) as client:
        assert address_of(client, "seven.hosted.") == "192.0.2.7"
        assert address_of(client, "a.stays.") == OLD
        assert address_of(client, "eight.hosted.") == OLD
        assert address_of(client, "other.hosted.") == OLD
        hosts.write_text("192.0.2.9 seven.hosted\n192.0.2.8 eight.hosted\n", encoding="ascii")
        wait_for(
            lambda: address_of(client, "seven.hosted.") == "192.0.2.9", server, "the hosts file's change"
        )
        assert address_of(client, "eight.hosted.") == "192.0.2.8", "answered from before"
        before = server.stats().counter("hits")
        assert address_of(client, "a.stays.") == OLD
        assert address_of(client, "other.hosted.") == OLD, "in the same block, and in neither file"
        assert server.stats().counter("hits") == before + 2


def test_a_stop_is_lame_for_a_while_and_answers(conf: Conf) -> None:
    """SIGTERM with `lameduck`: all is served for that long, then it is over, with exit code 0."""
    port = free_port()
    conf.write(
        conf.upstream,
        f"lame.:{conf.port} {{\n    bind {LOOPBACK}\n    health {LOOPBACK}:{port} {{\n"
        f"        lameduck 1s\n    }}\n    whoami\n}}\n",
    )
    with serving(conf) as server, Client(server.endpoint) as client:
        began = time.monotonic()
        os.kill(server.keeper, signal.SIGTERM)
        wait_for(lambda: "Going into lameduck mode for 1s" in server.said(), server, "lameduck")
        assert address_of(client, "late.stays.") == OLD
        assert server.process.wait(STOP_S + 1.0) == 0
        assert time.monotonic() - began > 1.0


def test_a_second_signal_waits_for_nothing(conf: Conf) -> None:
    port = free_port()
    conf.write(
        conf.upstream,
        f"lame.:{conf.port} {{\n    bind {LOOPBACK}\n    health {LOOPBACK}:{port} {{\n"
        f"        lameduck 60s\n    }}\n    whoami\n}}\n",
    )
    with serving(conf) as server:
        os.kill(server.keeper, signal.SIGTERM)
        wait_for(lambda: "Going into lameduck mode" in server.said(), server, "lameduck")
        os.kill(server.keeper, signal.SIGTERM)
        assert server.process.wait(STOP_S) == 0
