# SPDX-License-Identifier: Apache-2.0
"""/metrics, /health, /ready and log lines of a running server, as scrapers, probes and people meet them."""

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.rcode
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests import dashboards
from tests.peers.run import Peer, free_port
from tests.system.clients import TCP, UDP, Client, Variant
from tests.system.server import Server, refusal, serve

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

NAME = "nginx-svc.default.svc.cluster.local"
WAIT_S = 10.0

# RKE2's blocks on loopback, and a port of its own with no block for all names.
COREFILE = """
cluster.local:{port} in-addr.arpa:{port} {{
    errors
    log
    cache {{
        success 9984 30
        denial 9984 5
    }}
    reload
    loop
    bind 127.0.0.1
    forward . {cluster} {{
        force_tcp
    }}
    prometheus 127.0.0.1:{metrics}
    health 127.0.0.1:{health} {{
        lameduck {lameduck}
    }}
    ready 127.0.0.1:{ready}
}}
.:{port} {{
    errors
    cache 30
    bind 127.0.0.1
    forward . 127.0.0.1:{dead}
    prometheus 127.0.0.1:{metrics}
}}
cluster.local:{other} {{
    bind 127.0.0.1
    forward . {cluster}
    prometheus 127.0.0.1:{metrics}
}}
made.example:{other} {{
    bind 127.0.0.1
    cache 30
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
    }}
    prometheus 127.0.0.1:{metrics}
}}
"""


@dataclass(frozen=True, slots=True)
class Observed:
    """A server with its addresses."""

    server: Server
    ports: dict[str, int]

    def get(self, port: str, path: str) -> tuple[int, str]:
        """GET; status and body."""
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=WAIT_S) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def scrape(self) -> dict[str, Metric]:
        """/metrics by family."""
        status, text = self.get("metrics", "/metrics")
        assert status == 200, text
        return {family.name: family for family in text_string_to_metric_families(text)}

    def samples(self) -> Samples:
        """All of /metrics, by name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.scrape().values()
            for sample in family.samples
        }

    def totals(self) -> Samples:
        """Counters and histograms only."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.scrape().values()
            if family.type in ("counter", "histogram")
            for sample in family.samples
        }

    def ask(self, name: str, qtype: str = "A", variant: Variant = UDP, port: str = "port") -> str:
        """The rcode of the reply."""
        with Client(("127.0.0.1", self.ports[port])) as client:
            return dns.rcode.to_text(client.ask(name, qtype, variant).rcode())


@contextmanager
def observed(coredns: Peer, scratch: Path, lameduck: str = "0s") -> Iterator[Observed]:
    ports = {name: free_port() for name in ("port", "metrics", "health", "ready", "dead", "other")}
    cluster = f"{coredns.server[0]}:{coredns.server[1]}"
    file = scratch / "Corefile"
    file.write_text(COREFILE.format(cluster=cluster, lameduck=lameduck, **ports))
    with serve(
        coredns.server, listen=[("127.0.0.1", ports["port"])], conf=file, expect_drained=False
    ) as server:
        found = Observed(server, ports)
        eventually(lambda: found.get("ready", "/ready")[0] == 200, "/ready")
        yield found


def eventually(what: Callable[[], bool], name: str) -> None:
    """Wait until it is so; a connection that is refused is not yet so."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            if what():
                return
        except OSError:
            pass
        assert time.monotonic() < until, f"{name} didn't happen within {WAIT_S} s"
        time.sleep(0.02)


def make_traffic(one: Observed) -> None:
    """A hit, a miss, a negative answer, a failure, a name that no block takes; over UDP and TCP."""
    for variant in (UDP, UDP, TCP, Variant(False, 1232, True)):
        assert one.ask(NAME, "A", variant) == "NOERROR"
        assert one.ask(f"absent.{NAME}", "AAAA", variant) == "NXDOMAIN"
    assert one.ask("nobody-answers.example") == "SERVFAIL"
    assert one.ask("no-block.example", port="other") == "REFUSED"


# No check fails here; names and labels are looked at in tests/unit/test_metrics.py.
RARE = {"coredns_proxy_healthcheck_failures_total"}


def test_a_dashboard_finds_its_series(coredns: Peer, tmp_path: Path) -> None:
    """Every query of tests/data/dashboards.txt, Go's runtime apart."""
    with observed(coredns, tmp_path) as one:
        make_traffic(one)
        eventually(lambda: "coredns_health_request_duration_seconds" in one.scrape(), "a scrape")
        series = list(one.samples())
        missing = []
        for query in dashboards.queries():
            for needs in dashboards.needs(query):
                fits = [
                    labels
                    for name, labels in series
                    if name == needs.metric
                    and needs.labels <= {label for label, _ in labels}
                    and needs.values <= labels
                ]
                if not fits and needs.metric not in RARE:
                    missing.append((query, needs))
        assert missing == []


@pytest.mark.fault
@pytest.mark.parametrize("victim", ["control", "coordinator", "worker"])
def test_no_total_goes_back(victim: str, coredns: Peer, tmp_path: Path) -> None:
    """Not over the death of any child: what it counted stands in memory that outlives it."""
    with observed(coredns, tmp_path) as one:
        make_traffic(one)
        before = one.totals()
        assert len(before) > 200
        one.server.kill_child(victim)
        eventually(lambda: one.get("health", "/health") == (200, "OK"), "/health")
        make_traffic(one)
        after = one.samples()
        assert_grown(before, after)


def test_a_reload_keeps_totals_and_listeners(coredns: Peer, tmp_path: Path) -> None:
    """No total goes back, and a connection to /health from before goes on (node-cache closes it)."""
    with observed(coredns, tmp_path) as one:
        make_traffic(one)
        before = one.totals()
        probe = http.client.HTTPConnection("127.0.0.1", one.ports["health"], timeout=WAIT_S)
        assert probe_health(probe) == b"OK"
        first = probe.sock
        file = tmp_path / "Corefile"
        file.write_text(file.read_text().replace("cache 30", "cache 31"))
        os.kill(one.server.keeper, signal.SIGUSR1)
        eventually(lambda: "Reloading complete" in one.server.said(), "the reload")
        assert probe_health(probe) == b"OK"
        assert probe.sock is first, "it was closed meanwhile"
        probe.close()
        make_traffic(one)
        after = one.samples()
        assert_grown(before, after)
        assert after["fastdns_reloads_total", frozenset()] == 1
        assert after["coredns_reload_failed_total", frozenset()] == 0
        assert [name for name, _ in after if name == "coredns_reload_version_info"]


class Prober(threading.Thread):
    """Asks an address again and again, each time on a connection of its own, until it is told to stop."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__()
        self._where = port, path
        self._end = threading.Event()
        self.times: list[float] = []
        self.failures: list[OSError | http.client.HTTPException] = []
        self.start()

    def run(self) -> None:
        port, path = self._where
        while not self._end.wait(0.005):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
            began = time.monotonic()
            try:
                connection.request("GET", path, headers={"Connection": "close"})
                assert connection.getresponse().read()
                self.times.append(time.monotonic() - began)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)
            finally:
                connection.close()

    def stop(self) -> None:
        self._end.set()
        self.join()


@pytest.mark.fault
def test_probes_wait_for_controls_successor(coredns: Peer, tmp_path: Path) -> None:
    """The keeper holds the sockets: nobody is refused. Only what a dead control had accepted is cut off."""
    with observed(coredns, tmp_path) as one:
        probers = [Prober(one.ports["health"], "/health"), Prober(one.ports["metrics"], "/metrics")]
        kills = 3
        for _ in range(kills):
            time.sleep(1.2)  # deaths within a second of each other would be kept apart by the keeper
            one.server.kill_child("control")
        eventually(lambda: one.get("ready", "/ready")[0] == 200, "/ready")
        for prober in probers:
            prober.stop()
            assert not [error for error in prober.failures if isinstance(error, ConnectionRefusedError)]
            assert len(prober.failures) <= kills, prober.failures
            assert len(prober.times) > kills
        health, metrics = (max(prober.times) for prober in probers)
        print(f"slowest: /health {health:.3f} s, /metrics {metrics:.3f} s; {probers[0].failures}")
        assert health < 1.0
        assert metrics < 2.0, "a process is made for each scrape"


def listeners(server: Server) -> set[int]:
    """The ports on which the keeper holds TCP listeners."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    ports = {f"socket:[{row[9]}]": int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    found = set()
    for link in Path(f"/proc/{server.keeper}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            found.add(ports.get(str(link.readlink()), 0))
    return found - {0}


def test_listeners_that_a_reload_gives_up_are_closed(coredns: Peer, tmp_path: Path) -> None:
    """By the keeper, too; also those that an earlier life of control had opened."""
    with observed(coredns, tmp_path) as one:
        health, ready, moved = one.ports["health"], one.ports["ready"], free_port()
        assert {health, ready, one.ports["metrics"]} <= listeners(one.server)
        one.server.kill_child("control")
        eventually(lambda: one.get("health", "/health") == (200, "OK"), "/health")
        file = tmp_path / "Corefile"
        file.write_text(file.read_text().replace(f"health 127.0.0.1:{health}", f"health 127.0.0.1:{moved}"))
        os.kill(one.server.keeper, signal.SIGUSR1)
        eventually(lambda: "Reloading complete" in one.server.said(), "the reload")
        one.ports["health"] = moved
        assert one.get("health", "/health") == (200, "OK")
        assert health not in listeners(one.server)
        assert {moved, ready, one.ports["metrics"]} <= listeners(one.server)
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection("127.0.0.1", health, timeout=WAIT_S).connect()


def test_a_health_address_that_is_taken(coredns: Peer, tmp_path: Path) -> None:
    """As node-cache: nothing starts without /health. A reload to it fails, and what was served still is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        reason = f"listen tcp 127.0.0.1:{port}: bind: address already in use"
        file = tmp_path / "refused"
        file.write_text(
            f".:{free_port()} {{\n    bind 127.0.0.1\n    health 127.0.0.1:{port}\n    whoami\n}}\n"
        )
        code, said = refusal(["--conf", str(file)])
        assert (code, said.count("\n")) == (2, 1), said
        assert reason in said
        with observed(coredns, tmp_path) as one:
            file = tmp_path / "Corefile"
            health = one.ports["health"]
            file.write_text(
                file.read_text().replace(f"health 127.0.0.1:{health}", f"health 127.0.0.1:{port}")
            )
            os.kill(one.server.keeper, signal.SIGUSR1)
            eventually(lambda: f"SIGUSR1: {reason}" in one.server.said(), "the failure")
            assert one.get("health", "/health") == (200, "OK")
            assert one.ask(NAME) == "NOERROR"
            assert "Reloading complete" not in one.server.said()


def probe_health(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/health")
    return connection.getresponse().read()


def assert_grown(before: Samples, after: Samples) -> None:
    """Each total is still there and not less; queries were counted."""
    assert {key: (was, after.get(key)) for key, was in before.items() if after.get(key, -1) < was} == {}
    queries = [key for key in before if key[0] == "coredns_dns_requests_total"]
    assert sum(after[key] for key in queries) > sum(before[key] for key in queries)


def test_lameduck(coredns: Peer, tmp_path: Path) -> None:
    """On SIGTERM DNS and /health go on as long as `health` says, /ready says no (corefile.md section 4)."""
    with observed(coredns, tmp_path, lameduck="2s") as one:
        began = time.monotonic()
        os.kill(one.server.keeper, signal.SIGTERM)
        eventually(lambda: one.get("ready", "/ready") == (503, "stopping"), "/ready says no")
        while time.monotonic() - began < 1.5:
            assert one.get("health", "/health") == (200, "OK")
            assert one.ask(NAME) == "NOERROR"
        assert one.server.process.wait(WAIT_S) == 0
        assert time.monotonic() - began >= 2.0
        assert "plugin/health: Going into lameduck mode for 2s" in one.server.said()


def test_log_lines(coredns: Peer, tmp_path: Path) -> None:
    """One for each query of a block with `log`, and an error for what upstream didn't answer."""
    with observed(coredns, tmp_path) as one:
        for _ in range(5):
            assert one.ask(NAME) == "NOERROR"
        assert one.ask("nobody-answers.example") == "SERVFAIL"
        wanted = f'"A IN {NAME}. udp '
        eventually(lambda: one.server.said().count(wanted) == 5, "five lines")
        eventually(
            lambda: "[ERROR] plugin/errors: 2 nobody-answers.example. A: " in one.server.said(), "an error"
        )
        assert "nobody-answers.example. udp" not in one.server.said(), "that block has no `log`"


def test_templates_are_counted(coredns: Peer, tmp_path: Path) -> None:
    """Once for each answer made: what is in the cache is not made again."""
    with observed(coredns, tmp_path) as one:
        for _ in range(2):
            assert one.ask("a.made.example", port="other") == "NOERROR"
        assert one.ask("b.made.example", port="other") == "NOERROR"
        (labels, count), *others = [
            (dict(labels), count)
            for (name, labels), count in one.samples().items()
            if name == "coredns_template_matches_total"
        ]
        assert others == []
        assert count == 2
        server = f"dns://127.0.0.1:{one.ports['other']}"
        assert labels == {"server": server, "zone": "made.example.", "view": "", "class": "IN", "type": "A"}


def test_paths(coredns: Peer, tmp_path: Path) -> None:
    """corefile.md section 4."""
    with observed(coredns, tmp_path) as one:
        assert one.get("health", "/health") == (200, "OK")
        assert one.get("ready", "/ready") == (200, "OK")
        assert one.get("health", "/ready")[0] == 404
        assert one.get("metrics", "/")[0] == 404
        text = one.get("metrics", "/metrics")[1]
        own = [line for line in text.splitlines() if line.startswith("fastdns_")]
        assert 150 < len(own) <= 250
