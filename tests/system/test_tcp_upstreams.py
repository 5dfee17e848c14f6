# SPDX-License-Identifier: Apache-2.0
"""TCP upstreams under load: how many connections there are, and what a client notices when a server goes."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fastdns.loadgen.process import run_process
from fastdns.loadgen.spec import LoadResult, LoadSpec
from tests.counts import is_full
from tests.peers.run import Peer, coredns, free_port
from tests.serial_upstream import serial_upstream
from tests.system.netns import Network, network, skip_without_network_namespaces
from tests.system.server import LOOPBACK, Server, serve

pytestmark = pytest.mark.system

CONNECTIONS_MAX = 8
SERVICE = "10.96.0.10"  # a service's address, translated to one of several servers
SUFFIX = "default.svc.cluster.local"  # CoreDNS says NXDOMAIN for every unknown name here
RATE = 500.0  # misses/s: with three Go programs on two cores there is time left
ADDED_P99_MAX_US = 300_000.0
COREFILE = """
.:PORT {
    bind 127.0.0.1
    cache 30
    forward . UPSTREAMS {
        force_tcp
        max_age AGE
    }
}
fastdns {
    memory 32M
}
"""


@contextlib.contextmanager
def before(folder: Path, upstreams: Sequence[tuple[str, int]], age: str = "20s") -> Iterator[Server]:
    """fastdns before these, over TCP."""
    port = free_port()
    servers = " ".join(f"{address}:{port}" for address, port in upstreams)
    text = COREFILE.replace("PORT", str(port)).replace("UPSTREAMS", servers).replace("AGE", age)
    conf = folder / "Corefile"
    conf.write_text(text, encoding="ascii")
    with serve((LOOPBACK, 1), listen=[(LOOPBACK, port)], conf=conf) as server:
        yield server


def misses(server: Server, seconds: float, rate: float = RATE, suffix: str = SUFFIX) -> LoadResult:
    spec = LoadSpec(
        server.endpoint, unique_suffix=suffix, seconds=seconds, rate=rate, window=8192, timeout_s=4.9
    )
    return run_process(spec)


def test_eight_thousand_different_misses(tmp_path: Path) -> None:
    """All of them wait for the upstream at the same time, on eight connections at most."""
    asked = 8000
    with serial_upstream(gather=asked) as upstream, before(tmp_path, [upstream.server]) as server:
        spec = LoadSpec(
            server.endpoint,
            unique_suffix="many.test",
            count=asked,
            window=asked,
            rate=20_000,
            sockets=64,
            timeout_s=4.9,
        )
        result = run_process(spec)
        assert result.rcodes == {"NOERROR": asked}, result
        assert upstream.connections_most <= CONNECTIONS_MAX
        assert server.stats().counter("upstream_tcp_connects") <= CONNECTIONS_MAX
        assert len(upstream.names) >= asked


def test_ten_thousand_equal_misses(tmp_path: Path) -> None:
    """One question, one connection."""
    asked = 10_000
    with (
        serial_upstream(pace=lambda question: 0.6 if b"popular" in question else 0.0) as upstream,
        before(tmp_path, [upstream.server]) as server,
    ):
        spec = LoadSpec(
            server.endpoint,
            names=[("popular.example.test", "A")],
            count=asked,
            window=asked,
            rate=30_000,
            sockets=64,
            timeout_s=4.0,
        )
        result = run_process(spec)
        assert result.rcodes == {"NOERROR": asked}, result
        assert upstream.connections_most <= 2
        assert server.stats().counter("stores") == 1


def test_a_slow_answer_holds_nobody_up(tmp_path: Path) -> None:
    """One name takes 0.8 s of a server that works through a connection's questions one after another."""
    with (
        serial_upstream(pace=lambda question: 0.8 if question.startswith(b"\4slow") else 0.0) as upstream,
        before(tmp_path, [upstream.server]) as server,
    ):
        misses(server, 1.0, suffix="warm.test")
        slow = LoadSpec(server.endpoint, names=[("slow.test", "A")], count=1, timeout_s=4.0)
        asking = threading.Thread(target=run_process, args=(slow,))
        asking.start()
        result = misses(server, 2.0, suffix="quick.test")
        asking.join()
        assert set(result.rcodes) == {"NOERROR"}
        assert result.lost == 0
        assert result.latency_us.max < 500_000
        assert upstream.connections_most <= CONNECTIONS_MAX


# ---- servers that go, and come ----


def send_signal(peer: Peer, number: signal.Signals) -> None:
    for pid in peer.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def assert_nothing_is_noticed(server: Server, end: Callable[[], object]) -> None:
    """`end` one of three servers under load: no SERVFAIL, nothing lost, a p99 little above a quiet run's."""
    quiet = misses(server, 2.0)
    ending = threading.Timer(1.5, end)
    ending.start()
    try:
        result = misses(server, 5.0)
    finally:
        ending.join()
    assert quiet.rcodes == {"NXDOMAIN": quiet.sent}, quiet
    assert result.rcodes == {"NXDOMAIN": result.sent}, result
    assert result.latency_us.p99 <= quiet.latency_us.p99 + ADDED_P99_MAX_US, (quiet, result)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGSTOP, id="stopped", marks=pytest.mark.stress),
    ],
)
def test_one_of_three_servers_goes(tmp_path: Path, how: signal.Signals) -> None:
    """Three CoreDNS as three upstreams. A stopped one still acknowledges what it gets, and says nothing."""
    with coredns() as one, coredns() as two, coredns() as three:
        with before(tmp_path, [one.server, two.server, three.server]) as server:
            assert_nothing_is_noticed(server, lambda: send_signal(two, how))
            send_signal(two, signal.SIGCONT)


def run_nft(net: Network, rules: str) -> None:
    # From another thread, too: that one is not in the namespace.
    command = ["ip", "netns", "exec", net.name, "nft", "-f", "-"]
    subprocess.run(command, input=rules, text=True, check=True, timeout=10)


DROP = """
    table ip gone {
        chain input {
            type filter hook input priority 0;
            tcp dport PORT drop
            tcp sport PORT drop
        }
    }"""


def translate(net: Network, servers: Sequence[tuple[str, int]]) -> None:
    """As kube-proxy does it, but in turn, not by chance: the first connection goes to the first server."""
    choices = ", ".join(f"{place} : {address} . {port}" for place, (address, port) in enumerate(servers))
    rules = f"""
        table ip service
        delete table ip service
        table ip service {{
            chain output {{
                type nat hook output priority -100;
                ip daddr {SERVICE} tcp dport 53 \
                    dnat ip to numgen inc mod {len(servers)} map {{ {choices} }}
            }}
        }}"""
    run_nft(net, rules)


@skip_without_network_namespaces
@pytest.mark.parametrize(
    "how", [*(pytest.param(how, marks=pytest.mark.stress) for how in ("killed", "stopped")), "cut off"]
)
def test_one_of_three_servers_behind_a_service_goes(tmp_path: Path, how: str) -> None:
    """One upstream, a service's address. The rules still lead to the server that is gone."""

    def end() -> None:
        if how == "cut off":  # its node is gone: not even a RST comes
            run_nft(net, DROP.replace("PORT", str(one.port)))
        else:
            send_signal(one, signal.SIGKILL if how == "killed" else signal.SIGSTOP)

    with network() as net, net.entered(), coredns() as one, coredns() as two, coredns() as three:
        net.add_address(f"{SERVICE}/32")
        translate(net, [one.server, two.server, three.server])
        with before(tmp_path, [(SERVICE, 53)]) as server:
            assert_nothing_is_noticed(server, end)
            assert server.stats().counter("upstream_tcp_connects") > 1
            send_signal(two, signal.SIGCONT)


@pytest.mark.stress
@skip_without_network_namespaces
def test_a_new_server_gets_its_share(tmp_path: Path) -> None:
    """Within 60 s; with a tenth of the age within 6 s."""
    age, within_s = ("20s", 60.0) if is_full() else ("2s", 6.0)
    with (
        network() as net,
        net.entered(),
        serial_upstream(pace=lambda _: 0.004) as one,
        serial_upstream(pace=lambda _: 0.004) as two,
        serial_upstream(pace=lambda _: 0.004) as three,
    ):
        net.add_address(f"{SERVICE}/32")
        translate(net, [one.server, two.server])
        with before(tmp_path, [(SERVICE, 53)], age) as server:
            misses(server, 1.0, suffix="warm.test")
            assert three.questions == 0
            translate(net, [one.server, two.server, three.server])
            misses(server, within_s, suffix="first.test")
            asked = [each.questions for each in (one, two, three)]
            misses(server, within_s / 2, suffix="then.test")
            asked = [each.questions - was for each, was in zip((one, two, three), asked, strict=True)]
            assert asked[2] >= sum(asked) / 10, asked
            assert all(each.connections_most <= CONNECTIONS_MAX for each in (one, two, three))
