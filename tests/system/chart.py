# SPDX-License-Identifier: Apache-2.0
"""A node that RKE2's chart has been rendered for (corefile.md section 7), and a node-cache on it.

The node is a network namespace; CoreDNS (the service kube-dns-upstream, at once the cluster DNS) and the
node's resolver are in another one, joined by a cable. /etc is the test's own, so all paths are the chart's.

    with cluster() as behind, node_of(behind) as node:
        node.write("coredns/Corefile.base", template_of(form))
        with node.start(OURS, *form.arguments, asked=form.asked[0]):
            check_answers(form)         # in node.net.entered()
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.rcode
from prometheus_client.parser import text_string_to_metric_families

from tests.peers import run as peers
from tests.peers.run import process_tree
from tests.system.clients import TCP, UDP, Client, Variant
from tests.system.netns import Network, ip, join_networks, network
from tests.system.server import default_environment, find_keeper, is_alive, is_answering

DATA = Path(__file__).parents[1] / "data" / "corefiles"
LOCAL_IP = "169.254.20.10"
CLUSTER_DNS = "10.43.0.10"
UPSTREAM = "10.43.7.7"  # the cluster address of kube-dns-upstream
RESOLVER = "192.0.2.53"  # of the node's resolv.conf
NODE_IP, POD_IP = "10.0.0.1", "10.42.0.5"
# What the console script does.
OURS = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from fastdns.commands.nodecache import main; sys.exit(main())",
]
START_S, STOP_S = 30.0, 10.0
FILES = ("alternatives", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd", "protocols", "services")


@dataclass(frozen=True)
class Form:
    """One of the chart's three forms."""

    corefile: str
    arguments: tuple[str, ...]
    asked: tuple[str, ...]  #: addresses on which it must answer
    health: str
    upstream: str = UPSTREAM  #: where cluster names are asked


COMMON = ("-conf", "/etc/Corefile", "-upstreamsvc", "kube-dns-upstream")
ONLY_SERVE = ("-skipteardown=true", "-setupinterface=false", "-setupiptables=false")
BOTH = ("-localip", f"{LOCAL_IP},{CLUSTER_DNS}")
FORMS = {
    "iptables": Form("rke2-iptables", (*BOTH, *COMMON), (LOCAL_IP, CLUSTER_DNS), LOCAL_IP),
    "ipvs": Form("rke2-ipvs", ("-localip", LOCAL_IP, *COMMON), (LOCAL_IP,), LOCAL_IP, CLUSTER_DNS),
    "cilium": Form("rke2-cilium", (*BOTH, *COMMON, *ONLY_SERVE), (POD_IP, "127.0.0.1"), POD_IP),
}


class Running:
    """A node-cache, ours or the other."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process = process
        self._output = output

    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"left before {what}:\n{self.said()}"
            assert time.monotonic() < deadline, f"no {what} within {timeout_s} s:\n{self.said()}"
            time.sleep(0.02)

    def wait_for_line(self, text: str, timeout_s: float = START_S) -> None:
        self.wait_for(lambda: text in self.said(), repr(text), timeout_s)

    def stop(self) -> None:
        """SIGTERM, upon which it must leave with 0 and nothing of it may be left."""
        family = process_tree(self.process.pid)
        os.kill(find_keeper(self.process.pid), signal.SIGTERM)
        assert self.process.wait(STOP_S) == 0, self.said()
        assert not [pid for pid in family if is_alive(pid)], self.said()


@dataclass
class Node:
    """The node's namespace, and its files."""

    net: Network
    etc: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> None:
        """A file below /etc, whole at once."""
        file = self.etc / name
        file.parent.mkdir(exist_ok=True)
        beside = file.with_name(f".{file.name}")
        beside.write_text(text)
        beside.replace(file)

    def holds(self, address: str) -> bool:
        """Whether an address is on the node: before that the cluster DNS answers in our place, or nobody."""
        listed = subprocess.run(
            ["ip", "-n", self.net.name, "-o", "address"], capture_output=True, text=True, check=True
        )
        return any(f" {address}/" in line for line in listed.stdout.splitlines())

    @contextlib.contextmanager
    def start(self, program: Sequence[str], *arguments: str, asked: Sequence[str]) -> Iterator[Running]:
        """A node-cache on this node, with this /etc, once it answers."""
        inside = ["sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(self.etc)]
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", *inside, *program, *arguments]
        with self.run(command, asked) as running:
            yield running

    @contextlib.contextmanager
    def run(self, command: Sequence[str], asked: Sequence[str]) -> Iterator[Running]:
        """The same by any command."""
        output = self.etc.parent / "output"
        with self.net.entered(), output.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**default_environment(), **self.environ},
                start_new_session=True,
            )
            running = Running(process, output)
            try:
                for address in asked:
                    running.wait_for(lambda: self.holds(address), f"{address} on the node")
                    running.wait_for(lambda: is_answering((address, 53)), f"an answer on {address}")
                yield running
                if process.poll() is None:
                    running.stop()
            finally:
                print(running.said())  # for whoever looks at a failure
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def cluster() -> Iterator[Network]:
    """What is behind the node: CoreDNS by both of its addresses, and the resolver of the data centre."""
    with network() as net:
        for address in (UPSTREAM, CLUSTER_DNS, RESOLVER):
            net.add_address(f"{address}/32")
        with net.entered(), contextlib.ExitStack() as stack:
            # CoreDNS knows nothing of example.test: whoever asks it there gets an error.
            nobody = ("127.0.0.1", 9)
            for address in (UPSTREAM, CLUSTER_DNS):
                stack.enter_context(peers.coredns(port=53, address=address, external=nobody))
            stack.enter_context(peers.nsd(port=53, address=RESOLVER))
            yield net


@contextlib.contextmanager
def node_of(behind: Network) -> Iterator[Node]:
    """A node on the cluster's cable, as it is before the DaemonSet's pod starts."""
    with network() as net, tempfile.TemporaryDirectory(prefix="fastdns-node-") as scratch:
        join_networks(net, behind)
        net.add_address(f"{NODE_IP}/32", "cable")
        net.add_address(f"{POD_IP}/32")
        ip("-n", net.name, "route", "add", "default", "dev", "cable", "src", NODE_IP)
        ip("-n", behind.name, "route", "add", "10.0.0.0/8", "dev", "cable")
        etc = Path(scratch) / "etc"
        etc.mkdir()
        for name in FILES:
            source = Path("/etc") / name
            if source.is_dir():
                shutil.copytree(source, etc / name, symlinks=True)
            elif source.exists():
                shutil.copy(source, etc / name)
        made = Node(net, etc, {"KUBE_DNS_UPSTREAM_SERVICE_HOST": UPSTREAM})
        made.write("resolv.conf", f"nameserver {RESOLVER}\nsearch example.test\noptions ndots:1\n")
        try:
            yield made
        finally:
            ip("-n", behind.name, "link", "delete", "cable")  # the kernel would take its time over it


def addresses(client: Client, name: str, variant: Variant = UDP) -> list[str]:
    response = client.ask(name, "A", variant)
    assert response.rcode() == dns.rcode.NOERROR, response
    return [str(rdata) for rdata in response.answer[-1]]


def wait_for_port(address: str, port: int) -> None:
    """Until somebody listens: HTTP comes a moment after the first answer."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody listens on {address}:{port}"
            time.sleep(0.02)


def get(address: str, port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def check_answers(form: Form) -> None:
    """Cluster names by the cluster DNS, others by the node's resolver; health and metrics in their places."""
    for address in form.asked:
        with Client((address, 53)) as client:
            for variant in (UDP, TCP):
                assert addresses(client, "nginx-svc.default.svc.cluster.local", variant) == ["10.43.10.20"]
                assert addresses(client, "www.example.test", variant) == ["192.0.2.1"]
            pointer = client.ask("20.10.43.10.in-addr.arpa", "PTR")
            assert "nginx-svc.default.svc.cluster.local" in str(pointer.answer[0])
            assert client.ask("absent.default.svc.cluster.local", "A").rcode() == dns.rcode.NXDOMAIN
    wait_for_port(form.health, 8080)
    assert get(form.health, 8080, "/health") == (200, "OK")
    for port in (9253, 9353):
        status, text = get(form.asked[0], port, "/metrics")
        assert status == 200
        for upstream in (form.upstream, RESOLVER):
            labels = {"proxy_name": "forward", "to": f"{upstream}:53", "rcode": "NOERROR"}
            assert value_of(text, "coredns_proxy_request_duration_seconds_count", labels) > 0
        assert value_of(text, "coredns_nodecache_setup_errors_total", {"errortype": "configmap"}) == 0


def value_of(text: str, name: str, labels: dict[str, str]) -> float:
    """A sample's value in an exposition. AssertionError where there is none."""
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    found = [one.value for one in samples if one.name == name and one.labels == labels]
    assert found, f"no {name} of {labels} among {sorted(one.name for one in samples)}"
    return float(found[0])


def template_of(form: Form) -> str:
    return (DATA / f"{form.corefile}.Corefile").read_text()


def check_lines(running: Running, template: str) -> str:
    """What operators grep for; the Corefile that was made of the template."""
    corefile = template.replace("__PILLAR__CLUSTER__DNS__", UPSTREAM).replace(
        "__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf"
    )
    for line in (
        "Starting node-cache image: ",
        "Using Corefile /etc/Corefile\n",
        "Skipping kube-dns configmap sync as no directory was specified\n",
        "Updated Corefile with 0 custom stubdomains and upstream servers /etc/resolv.conf\n",
        f"Using config file:\n{corefile}",
        "plugin/reload: Running configuration SHA512 = ",
        "CoreDNS-",
    ):
        running.wait_for_line(line)
    return corefile
