# SPDX-License-Identifier: Apache-2.0
"""What happens to a node while fastdns serves it, and at its end (node-network.md, 1 to 5)."""

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from tests.counts import count
from tests.system.netns import skip_without_network_namespaces
from tests.system.node.lab import (
    DIRECT,
    FASTDNS,
    LINK_LOCAL,
    NOBODY,
    SERVICE,
    UPSTREAM,
    Lab,
    NodeServer,
    execute,
    kube_proxy,
    lab,
    serving,
)

pytestmark = skip_without_network_namespaces

ADDRESSES = (*LINK_LOCAL.values(), *SERVICE.values())
ALLOW = "NodeLocal DNS Cache: allow DNS traffic"
INTERFACE = "nodelocaldns"


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    with lab() as one:
        kube_proxy(one, "iptables-nft")
        yield one


@pytest.fixture
def node(shared: Lab) -> Iterator[Lab]:
    """A node with kube-proxy, on which nothing of fastdns or node-cache is left."""
    yield shared
    shared.run("nft", "flush", "ruleset")
    for program in ("iptables-legacy", "ip6tables-legacy"):
        for table in ("filter", "raw"):
            shared.run(program, "-t", table, "-F")
        shared.run(program, "-P", "INPUT", "ACCEPT")
    with contextlib.suppress(RuntimeError):
        shared.run("ip", "link", "delete", INTERFACE)
    kube_proxy(shared, "iptables-nft")


def until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Seconds until condition() holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"{what}: not within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - began


def harden(node: Lab, backend: str = "iptables-nft") -> None:
    """INPUT drops all but what comes from the node itself or belongs to a connection."""
    for program in (backend, backend.replace("iptables", "ip6tables")):
        node.run(program, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
        node.run(
            program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"
        )
        if "6" in program:
            node.run(program, "-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT")
        node.run(program, "-P", "INPUT", "DROP")


def table(node: Lab, family: str = "ip") -> str:
    try:
        return node.run("nft", "-s", "list", "table", family, "fastdns")
    except RuntimeError:
        return ""


def accepts(node: Lab, program: str = "iptables-nft") -> int:
    return node.run(program, "-S").count(ALLOW)


class Questions:
    """Questions from the pod, one after another with new sockets, for as long as the block lasts."""

    def __init__(self, node: Lab, address: str) -> None:
        self.answers: list[str] = []
        self._node, self._address, self._going = node, address, True
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while self._going:
            self.answers.append(self._node.ask("pod", self._address, timeout_s=2.0))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()


@pytest.mark.slow
def test_all_is_in_place_within_a_second_of_the_start(node: Lab) -> None:
    """Rules of both kinds, then the addresses, on a node whose INPUT drops: the median of some starts."""
    harden(node)
    took = []
    for _ in range(count("starts")):
        with contextlib.closing(NodeServer(node)) as server:
            server.wait_until_serving()
            assert all(node.ask("pod", address) == FASTDNS for address in ADDRESSES)
            took.append(time.monotonic() - server.began)
            assert table(node)
            assert table(node, "ip6")
            assert accepts(node) == accepts(node, "ip6tables-nft") == 8
            server.terminate()
    assert statistics.median(took) <= 1.0, took


def test_flushed_rules_are_back_within_a_second(node: Lab) -> None:
    node.run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP")
    with serving(node) as server:
        before = table(node), table(node, "ip6")
        assert all(before)
        assert accepts(node) == 8
        node.run("nft", "flush", "ruleset")
        until(lambda: (table(node), table(node, "ip6")) == before, 1.0, "our tables")
        server.wait_for_words("rules of ours had gone, and are back")
        # One rule of many, one element of a set: the same, also when it goes just as they have come.
        for _ in range(count("touches")):
            node.run("nft", "flush", "chain", "ip", "fastdns", "notrack-output")
            until(lambda: table(node) == before[0], 2.0, "our chain")
            node.run("nft", "delete", "element", "ip", "fastdns", "fallback", "{", LINK_LOCAL[4], "}")
            until(lambda: table(node) == before[0], 2.0, "our element")


def are_youngest(node: Lab) -> bool:
    """Whether our tables are the last that were made of their families."""
    names = dict(line.split()[1:3] for line in node.run("nft", "list", "tables").splitlines())
    return names["ip"] == names["ip6"] == "fastdns"


def test_no_question_is_lost_in_a_flush() -> None:
    """A flush takes the oldest tables first: ours must be younger than kube-proxy's, also when it is back.

    In a lab of its own: conntrack remembers the flows that kube-proxy translated in earlier tests.
    """
    with lab() as node:
        kube_proxy(node, "iptables-nft")
        with serving(node), contextlib.ExitStack() as stack:
            asking = [stack.enter_context(Questions(node, address)) for address in ADDRESSES]
            for _ in range(count("flushes")):
                assert are_youngest(node)
                node.run("nft", "flush", "ruleset")
                until(lambda: "notrack" in table(node), 2.0, "our tables")
                kube_proxy(node, "iptables-nft")
                until(lambda: are_youngest(node), 2.0, "younger tables")
        for questions in asking:
            assert set(questions.answers) == {FASTDNS}


def test_accept_rules_come_back_where_a_chain_could_drop(node: Lab) -> None:
    with serving(node):
        assert accepts(node) == accepts(node, "iptables-legacy") == 0, "nothing there could drop"
        # A hardened policy that comes later is noticed, and so is the loss of our rules.
        node.run("iptables-nft", "-P", "INPUT", "DROP")
        until(lambda: accepts(node) == 8, 1.0, "ACCEPT rules")
        node.run("iptables-nft", "-F", "INPUT")
        until(lambda: accepts(node) == 8, 1.0, "ACCEPT rules after a flush")
        # The legacy back end tells nobody.
        node.run("iptables-legacy", "-P", "INPUT", "DROP")
        until(lambda: accepts(node, "iptables-legacy") == 8, 8.0, "legacy ACCEPT rules")


def test_they_come_back_as_fast_among_many_rules(node: Lab) -> None:
    """What a node with thousands of services and policies has; nothing of ours may read all of it."""
    chains = range(1000)
    text = "".join(f":KUBE-POLICY-{n} - [0:0]\n" for n in chains)
    text += "".join(f"-A KUBE-POLICY-{n} -s 10.9.8.{k} -j ACCEPT\n" for n in chains for k in range(20))
    for name in ("filter", "nat"):
        node.run("iptables-nft-restore", "--noflush", text=f"*{name}\n{text}COMMIT\n")
    harden(node)
    with serving(node):
        node.run("iptables-nft", "-F", "INPUT")
        until(lambda: node.run("iptables-nft", "-S", "INPUT").count(ALLOW) == 4, 1.0, "ACCEPT rules")


def test_nobody_is_left_without_an_answer_at_the_end(node: Lab) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(node))
        asking = [stack.enter_context(Questions(node, address)) for address in ADDRESSES]
        kept = [node.asker("pod", address) for address in ADDRESSES]
        for one in kept:
            stack.callback(one.close)
            assert one.ask() == FASTDNS
        until(lambda: all(len(one.answers) > 20 for one in asking), 5.0, "questions")
        server.terminate()
        assert [one.ask() for one in kept] == [DIRECT] * 4, "sockets that were kept open"
        time.sleep(0.2)
    for questions in asking:
        assert NOBODY not in questions.answers
        assert (questions.answers[0], questions.answers[-1]) == (FASTDNS, DIRECT)
    assert node.addresses() == []
    assert INTERFACE not in node.run("ip", "link")
    assert accepts(node) == 0
    assert "notrack" not in table(node)
    assert node.run("nft", "list", "table", "ip", "fastdns").count("timeout 10m") == 1, "the fallback lingers"


HOLD = f"""table ip hold {{
    chain input {{
        type filter hook input priority 0
        ip daddr {UPSTREAM[4]} counter drop
    }}
}}
"""


@contextlib.contextmanager
def pending_question(node: Lab) -> Iterator[None]:
    """A question that has no answer before the block ends: so long lasts a drain, but for 5 s at most."""
    with ThreadPoolExecutor(1) as pool:
        execute(node.dns, "nft", "-f", "-", text=HOLD)
        try:
            pending = pool.submit(node.ask, "pod", LINK_LOCAL[4], timeout_s=5.0)
            until(lambda: "packets 0" not in execute(node.dns, "nft", "list", "ruleset"), 2.0, "the question")
            yield
        finally:
            execute(node.dns, "nft", "delete", "table", "ip", "hold")
        assert pending.result() == FASTDNS


def test_new_questions_go_elsewhere_while_pending_ones_finish(node: Lab) -> None:
    """In a drain the addresses are still on the node, and no new question comes to us."""
    with serving(node) as server:
        with pending_question(node):
            os.kill(server.pid("keeper"), signal.SIGTERM)
            server.wait_for_words("Tearing down")
            until(lambda: "draining" in table(node), 2.0, "the drain")
            found = {address: node.ask("pod", address) for address in ADDRESSES}
            assert len(node.addresses()) == 4
            assert found == dict.fromkeys(ADDRESSES, DIRECT)
        assert server.process.wait(10) == 0


def slow_program(directory: Path, name: str) -> tuple[Path, Path]:
    """A program in directory/programs that waits before it works, while a file is there.

    Returns that file, and one that it makes when it begins to wait.
    """
    slow, waits = directory / "slow", directory / "waits"
    script = directory / "programs" / name
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\n[ -e {slow} ] && touch {waits} && sleep 1\nexec {shutil.which(name)} "$@"\n',
        encoding="ascii",
    )
    script.chmod(0o755)
    return slow, waits


def test_nothing_is_put_back_once_the_tear_down_has_begun(node: Lab, tmp_path: Path) -> None:
    """SIGTERM while an nft of ours is about to put a flushed table back: it doesn't live to do it."""
    slow, waits = slow_program(tmp_path, "nft")
    with serving(node, programs=tmp_path / "programs") as server:
        with pending_question(node):
            slow.touch()
            node.run("nft", "flush", "ruleset")
            until(waits.exists, 2.0, "the program that puts them back")
            slow.unlink()
            os.kill(server.pid("keeper"), signal.SIGTERM)
            until(lambda: "draining" in table(node), 2.0, "the drain")
            end = time.monotonic() + 1.2
            while time.monotonic() < end:
                assert "draining" in table(node)
        assert server.process.wait(10) == 0
    assert "notrack" not in table(node)


def test_a_start_that_is_stopped_leaves_no_rules(node: Lab, tmp_path: Path) -> None:
    """SIGTERM while the rules are put in place: some are there, and nobody has said so yet."""
    harden(node)
    slow, waits = slow_program(tmp_path, "ip6tables-nft")
    slow.touch()
    with contextlib.closing(NodeServer(node, programs=tmp_path / "programs")) as server:
        until(waits.exists, 10.0, "rules of IPv6")
        assert "notrack" in table(node)
        assert accepts(node) == 8
        slow.unlink()
        server.terminate()
    assert "notrack" not in table(node) + table(node, "ip6")
    assert accepts(node) == accepts(node, "ip6tables-nft") == 0


@pytest.mark.slow
def test_a_fallback_that_shall_not_linger(node: Lab) -> None:
    with serving(node, linger="0") as server:
        assert "fallback" in table(node), "a crash is bridged all the same"
        server.terminate()
    assert table(node) == table(node, "ip6") == ""
    assert node.ask("pod", LINK_LOCAL[4], timeout_s=0.3) == NOBODY
    assert node.ask("pod", SERVICE[4]) == DIRECT


@pytest.mark.slow
def test_skip_teardown_leaves_everything(node: Lab) -> None:
    harden(node)
    with serving(node, flags=["-skipteardown"]) as server:
        server.terminate()
    assert len(node.addresses()) == 4
    time.sleep(2.5)
    assert len(node.addresses()) == 4, "without a lifetime, as node-cache's"
    assert accepts(node) == 8
    assert "notrack" in table(node)
    with serving(node) as server:  # the next one, without the flag, gives them a lifetime
        assert "has one now" in server.said()
        server.kill()
    until(lambda: node.addresses() == [], 4.0, "addresses gone")


def test_a_keeper_that_is_held_gives_the_addresses_up(node: Lab) -> None:
    with serving(node) as server:
        keeper = server.pid("keeper")
        os.kill(keeper, signal.SIGSTOP)
        until(lambda: node.addresses() == [], 4.0, "addresses gone")
        for address in ADDRESSES:
            assert node.ask("pod", address) == DIRECT
        os.kill(keeper, signal.SIGCONT)
        server.wait_until_serving(60)
        for address in ADDRESSES:
            node.wait_for(FASTDNS, "pod", address)
        server.wait_for_words("the keeper was held")


@pytest.mark.slow
def test_workers_that_are_held_for_a_second_are_no_trip(node: Lab) -> None:
    with serving(node) as server:
        workers = [server.pid(f"worker {index}") for index in (0, 1)]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert len(node.addresses()) == 4
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert len(node.addresses()) == 4
        assert "trip" not in server.said()


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_a_node_without_cpu_time_is_no_trip(node: Lab) -> None:
    """Workers at the least weight that there is, beside busy processes on every core."""
    busy = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(node))
        for title in ("control", "coordinator", "worker 0", "worker 1"):
            os.sched_setscheduler(server.pid(title), os.SCHED_IDLE, os.sched_param(0))
        for _ in range(2 * len(os.sched_getaffinity(0))):
            process = stack.enter_context(subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *busy]))
            stack.callback(process.kill)
        end = time.monotonic() + count("starved_seconds")
        while time.monotonic() < end:
            assert len(node.addresses()) == 4, server.said()
            time.sleep(0.2)
        assert "trip" not in server.said()


def test_the_interface_is_made_again(node: Lab) -> None:
    with serving(node) as server:
        node.run("ip", "link", "delete", INTERFACE)
        until(lambda: len(node.addresses()) == 4, 4.0, "all addresses")
        node.wait_for(FASTDNS, "pod", LINK_LOCAL[4])
        assert server.said().count("Added interface - nodelocaldns") == 2


def test_control_dies_and_nothing_else_changes(node: Lab) -> None:
    with serving(node) as server:
        with Questions(node, SERVICE[4]) as asking:
            os.kill(server.pid("control"), signal.SIGKILL)
            time.sleep(3.0)
            assert len(node.addresses()) == 4
        lost = [number for number, one in enumerate(asking.answers) if one != FASTDNS]
        assert not lost, f"questions {lost} of {len(asking.answers)}"
        node.run("nft", "flush", "ruleset")  # its next life looks after the rules
        until(lambda: "notrack" in table(node), 2.0, "our table")
        assert node.ask("pod", SERVICE[4]) == FASTDNS


@pytest.mark.slow
def test_forced_iptables_rules(node: Lab) -> None:
    with serving(node, mode="iptables") as server:
        assert table(node) == ""
        raw = node.run("iptables-nft", "-t", "raw", "-S")
        assert raw.count("NOTRACK") == raw.count("LOCAL -m comment") == 16
        for address in ADDRESSES:
            assert node.ask("pod", address) == node.ask("host", address, tcp=True) == FASTDNS
        server.kill()
    for address in SERVICE.values():
        node.wait_for(DIRECT, "pod", address)
        node.wait_for(DIRECT, "host", address)
    with serving(node, mode="iptables") as server:
        server.terminate()
    assert "NOTRACK" not in node.run("iptables-nft", "-t", "raw", "-S")


def test_no_rules_at_all(node: Lab) -> None:
    harden(node)
    with serving(node, mode="none"):
        assert table(node) == ""
        assert accepts(node) == 0


@pytest.mark.timeout(3600)  # of the full count
def test_starts_and_kills_leave_one_set_of_rules(node: Lab) -> None:
    harden(node)
    node.run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP")
    found = set()
    for _ in range(count("node_cycles")):
        with serving(node) as server:
            until(lambda: accepts(node) == accepts(node, "iptables-legacy") == 8, 2.0, "ACCEPT rules")
            found.add((table(node), node.run("iptables-nft", "-S"), node.run("iptables-legacy", "-S")))
            server.kill()
    assert len(found) == 1
    with serving(node) as server:
        server.terminate()
    assert accepts(node) == accepts(node, "iptables-legacy") == 0


REDIRECTED = [
    "-skipteardown=true",
    "-setupinterface=false",
    "-setupiptables=false",
]  # corefile.md 7, Cilium's


def test_behind_a_local_redirect_policy_nothing_is_touched(node: Lab) -> None:
    before = node.run("nft", "-s", "list", "ruleset"), node.run("ip", "address")
    server = NodeServer(node, bind="0.0.0.0", flags=REDIRECTED)
    try:
        node.wait_for(FASTDNS, "pod", "10.42.0.1", within_s=30)
        assert (node.run("nft", "-s", "list", "ruleset"), node.run("ip", "address")) == before
        server.terminate()
    finally:
        server.close()


@pytest.mark.slow
def test_a_redirected_server_that_cannot_serve_leaves(node: Lab) -> None:
    """Its exit is what makes the redirect policy fall back."""
    node.run("iptables-nft", "-A", "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP")
    server = NodeServer(node, bind="0.0.0.0", flags=REDIRECTED)
    try:
        assert server.process.wait(40) == 1, server.said()
        assert "self-test: 127.0.0.1:53: worker 0 gives no answer over UDP" in server.said()
    finally:
        server.close()


@pytest.mark.slow
def test_addresses_wait_until_the_workers_answer(node: Lab) -> None:
    node.run("iptables-nft", "-A", "INPUT", "-i", "lo", "-p", "udp", "-j", "DROP")
    server = NodeServer(node)
    try:
        server.wait_for_words("self-test: 169.254.20.10:53: worker 0 gives no answer over UDP", 30)
        until(lambda: node.addresses() == [], 5.0, "addresses taken away again")
        assert node.ask("pod", LINK_LOCAL[4]) == node.ask("pod", SERVICE[4]) == DIRECT
        node.run("iptables-nft", "-D", "INPUT", "-i", "lo", "-p", "udp", "-j", "DROP")
        server.wait_until_serving(40)
        node.wait_for(FASTDNS, "pod", LINK_LOCAL[4])
    finally:
        server.close()


@pytest.mark.slow
def test_somebody_else_serves_there_too(node: Lab) -> None:
    """kubespray's second DaemonSet: its permanent address stays, and is not taken down with us."""
    node.run("ip", "link", "add", INTERFACE, "type", "bridge")
    node.run("ip", "address", "add", f"{LINK_LOCAL[4]}/32", "dev", INTERFACE)
    with node.node.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((LINK_LOCAL[4], 53))
        before = subprocess.run(["ip", "-n", node.node.name, "-4", "address", "show", INTERFACE],
                                capture_output=True, text=True, check=True).stdout  # fmt: skip
        assert "forever" in before
        server = NodeServer(node)
        try:
            until(lambda: "valid_lft forever" in node.run("ip", "-4", "address", "show", INTERFACE), 1, "it")
            server.wait_for_words("self-test", 20)  # the foreign socket swallows its share
        finally:
            server.close()
        time.sleep(2.5)
        assert LINK_LOCAL[4] in node.addresses()
