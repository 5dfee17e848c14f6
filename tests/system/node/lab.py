# SPDX-License-Identifier: Apache-2.0
"""A node, a pod and CoreDNS in network namespaces of their own, with kube-proxy's rules between them.

    pod 10.42.0.5 ── veth ── node ── veth ── CoreDNS 10.42.0.10: the service 10.43.0.10 leads there
                                             10.42.0.11: what fastdns has as upstream

Both servers of CoreDNS answer every name, and the answer says which of them it was: so a client knows
whether its question came to it directly, or by way of fastdns. The same in IPv6.
"""

import contextlib
import ipaddress
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.peers.run import find_program, process_tree
from tests.system.netns import Network, ip, network
from tests.system.server import ROOT

LINK_LOCAL = {4: "169.254.20.10", 6: "fd53::10"}
SERVICE = {4: "10.43.0.10", 6: "fd43::a"}
PODS = {4: "10.42.0.0/16", 6: "fd42::/64"}
POD = {4: "10.42.0.5", 6: "fd42::5"}
COREDNS = {4: "10.42.0.10", 6: "fd42::10"}
UPSTREAM = {4: "10.42.0.11", 6: "fd42::11"}
GATEWAY = {4: "10.42.0.1", 6: "fd42::1"}
BITS = {4: 32, 6: 128}

FASTDNS, DIRECT, NOBODY = "fastdns", "coredns", "nobody"
_SAYS = {"192.0.2.1": FASTDNS, "192.0.2.2": DIRECT}

KUBE_PROXY_MODES = ("iptables-nft", "iptables-legacy", "nft")


def execute(net: Network, *command: str, text: str = "") -> str:
    """Run a command in a namespace; its error text is the exception's."""
    done = subprocess.run(
        ["ip", "netns", "exec", net.name, *command], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{text}")
    return done.stdout


class Lab:
    """The namespaces, joined. All processes of a test are started in one of them."""

    def __init__(self, node: Network, pod: Network, dns: Network) -> None:
        self.node, self.pod, self.dns = node, pod, dns

    def run(self, *command: str, text: str = "") -> str:
        """A command on the node."""
        return execute(self.node, *command, text=text)

    def asker(self, where: str, address: str, tcp: bool = False) -> "Asker":
        """A client in the pod or on the host, with a socket of its own."""
        return Asker(self.pod if where == "pod" else self.node, address, tcp)

    def ask(self, where: str, address: str, tcp: bool = False, timeout_s: float = 1.0) -> str:
        """Who answers a new socket of the pod or the host: FASTDNS, DIRECT or NOBODY."""
        try:
            with contextlib.closing(self.asker(where, address, tcp)) as asker:
                return asker.ask(timeout_s)
        except OSError:
            return NOBODY

    def wait_for(self, who: str, where: str, address: str, tcp: bool = False, within_s: float = 4.0) -> float:
        """Ask with new sockets until `who` answers; the seconds that it took."""
        began = time.monotonic()
        while True:
            found = self.ask(where, address, tcp, 0.2)
            took = time.monotonic() - began
            if found == who:
                return took
            assert took < within_s, f"{found} answers the {where} on {address}, not {who}"
            time.sleep(0.01)

    def addresses(self) -> list[str]:
        """The node's addresses that are this lab's."""
        ours = {*LINK_LOCAL.values(), *SERVICE.values()}
        words = self.run("ip", "-o", "address").split()
        return [word.split("/")[0] for word in words if word.split("/")[0] in ours]


class Asker:
    """One socket that is kept."""

    def __init__(self, net: Network, address: str, tcp: bool) -> None:
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with net.entered():
            self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        self._address, self._tcp, self._connected = address, tcp, False
        self._net = net

    def ask(self, timeout_s: float = 1.0) -> str:
        """Who answers this socket's next question. Raises OSError where the kernel can't send it."""
        deadline = time.monotonic() + timeout_s
        self._socket.settimeout(timeout_s)
        message_id = os.urandom(2)
        name = b"\x0c" + os.urandom(6).hex().encode() + b"\4test\0"  # a new one: nothing is cached
        query = message_id + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
        try:
            if not self._connected:
                self._socket.connect((self._address, 53))
                self._connected = True
            self._socket.sendall(struct.pack("!H", len(query)) + query if self._tcp else query)
            while time.monotonic() < deadline:
                reply = self._read()
                if reply[:2] == message_id:
                    return _SAYS[str(ipaddress.ip_address(reply[-4:]))]
        except TimeoutError:
            pass
        return NOBODY

    def _read(self) -> bytes:
        data = self._socket.recv(65535)
        if self._tcp:
            if not data:
                raise ConnectionResetError("the server closed the connection")
            while len(data) < 2 + int.from_bytes(data[:2], "big"):
                data += self._socket.recv(65535)
            data = data[2:]
        return data

    def close(self) -> None:
        self._socket.close()


_COREFILE = """.:53 {{
    errors
    cache 30
    reload
    loop
    bind {addresses}
    forward . {upstream}
    prometheus :9253
    health {first}:8080
}}
fastdns {{
    fallback_linger {linger}
    packet_filter {mode}
}}
"""
_NODE_CACHE = "import sys; from fastdns.commands.nodecache import main; sys.exit(main())"


class NodeServer:
    """fastdns in node-cache's place, with its flags, in a PID namespace of its own as in a container."""

    def __init__(
        self,
        lab: Lab,
        *,
        linger: str = "10m",
        mode: str = "auto",
        bind: str = "",
        flags: Sequence[str] = (),
        programs: Path | None = None,
    ) -> None:
        """programs: a directory in which nft and iptables are looked for first."""
        self.lab = lab
        self._directory = tempfile.TemporaryDirectory(prefix="fastdns-node-")
        directory = Path(self._directory.name)
        self._log = directory / "output"
        addresses = [*LINK_LOCAL.values(), *SERVICE.values()]
        base = directory / "base" / "Corefile.base"
        base.parent.mkdir()
        text = _COREFILE.format(
            addresses=bind or " ".join(addresses),
            upstream=UPSTREAM[4],
            first="" if bind else LINK_LOCAL[4],
            linger=linger,
            mode=mode,
        )
        base.write_text(text, encoding="ascii")
        command = [
            "setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", lab.node.name,
            "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
            sys.executable, "-P", "-c", _NODE_CACHE, "-localip", ",".join(addresses),
            "-basecorefile", str(base), "-conf", str(directory / "Corefile"), *flags,
        ]  # fmt: skip
        path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"
        self.began = time.monotonic()
        with self._log.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
            )

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def pid(self, title: str) -> int:
        """The process that calls itself so: `keeper`, `control`, `worker 0`."""
        for pid in process_tree(self.process.pid):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"fastdns: {title}".encode()):
                return pid
        raise AssertionError(f"no {title}:\n{self.said()}")

    def wait_for_words(self, words: str, within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        while words not in self.said():
            assert time.monotonic() < deadline, f"no {words!r}:\n{self.said()}"
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)

    def wait_until_serving(self, within_s: float = 30.0) -> float:
        """Until all addresses are on the node; the seconds since the start."""
        # The addresses of one that was killed may still be there.
        while "node: serving on" not in self.said() or len(self.lab.addresses()) < 4:
            assert time.monotonic() < self.began + within_s, f"{self.lab.addresses()}\n{self.said()}"
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)
        return time.monotonic() - self.began

    def kill(self) -> None:
        """SIGKILL of PID 1 in its namespace: all of it dies at once, and nothing is tidied up."""
        for pid in process_tree(self.process.pid)[1:2]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        """Kill it if it still runs, and forget what it said."""
        if self.process.poll() is None:
            self.kill()
        self._directory.cleanup()

    def terminate(self, within_s: float = 10.0) -> None:
        """SIGTERM, as the kubelet sends it to PID 1."""
        os.kill(self.pid("keeper"), signal.SIGTERM)
        assert self.process.wait(within_s) == 0, self.said()


@contextlib.contextmanager
def serving(
    lab: Lab,
    *,
    linger: str = "10m",
    mode: str = "auto",
    flags: Sequence[str] = (),
    programs: Path | None = None,
) -> Iterator[NodeServer]:
    """fastdns on the node, all addresses there; killed at the end if it still runs."""
    server = NodeServer(lab, linger=linger, mode=mode, flags=flags, programs=programs)
    try:
        server.wait_until_serving()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Three namespaces with CoreDNS in the third; kube-proxy's rules are for the test to add."""
    with contextlib.ExitStack() as stack:
        node, pod, dns = (stack.enter_context(network()) for _ in range(3))
        for net in (node, pod, dns):  # link-local IPv6 addresses at once: neighbour discovery needs them
            execute(
                net, "sysctl", "-qw", *(f"net.ipv6.conf.{one}.accept_dad=0" for one in ("all", "default"))
            )
        execute(node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for net, device in ((pod, "pod0"), (dns, "dns0")):
            ip(
                "link",
                "add",
                device,
                "netns",
                node.name,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                net.name,
            )
            for one, name in ((node, device), (net, "eth0")):
                ip("-n", one.name, "link", "set", name, "up")
            for version, gateway in GATEWAY.items():
                node.add_address(f"{gateway}/{BITS[version]}", device)
            own = (POD,) if net is pod else (COREDNS, UPSTREAM)
            for addresses in own:
                for version, address in addresses.items():
                    net.add_address(f"{address}/{BITS[version]}", "eth0")
                    ip("-n", node.name, f"-{version}", "route", "add", address, "dev", device)
            for version, gateway in GATEWAY.items():
                ip("-n", net.name, f"-{version}", "route", "add", gateway, "dev", "eth0")
                ip("-n", net.name, f"-{version}", "route", "add", "default", "via", gateway, "dev", "eth0")
        # Where a node's packets go that no rule catches: nowhere, but there is a route.
        node.add_address("198.51.100.1/32", "dns0")
        ip("-n", node.name, "route", "add", "default", "via", COREDNS[4], "dev", "dns0", "onlink")
        ip("-n", node.name, "-6", "route", "add", "default", "via", COREDNS[6], "dev", "dns0", "onlink")
        stack.enter_context(_coredns(dns))
        here = Lab(node, pod, dns)
        for version in (4, 6):  # the first packets of a new cable wait for neighbour discovery
            here.wait_for(DIRECT, "pod", COREDNS[version])
            here.wait_for(DIRECT, "host", COREDNS[version])
        yield here


@contextlib.contextmanager
def _coredns(net: Network) -> Iterator[None]:
    config = "".join(
        f""".:53 {{
    bind {addresses[4]} {addresses[6]}
    template ANY ANY {{
        answer "{{{{ .Name }}}} 5 IN A {answer}"
    }}
}}
"""
        for addresses, answer in ((UPSTREAM, "192.0.2.1"), (COREDNS, "192.0.2.2"))
    )
    file = Path(f"/run/netns-{net.name}.corefile")
    file.write_text(config, encoding="ascii")
    command = ["ip", "netns", "exec", net.name, find_program("coredns"), "-conf", str(file), "-quiet"]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        for address in (*COREDNS.values(), *UPSTREAM.values()):
            while True:
                with contextlib.suppress(OSError), contextlib.closing(Asker(net, address, False)) as asker:
                    if asker.ask(0.2) != NOBODY:
                        break
                assert time.monotonic() < deadline, "CoreDNS does not answer"
                time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()
        file.unlink()


def kube_proxy(lab: Lab, mode: str) -> None:
    """Translate the service to CoreDNS, as kube-proxy does in this mode, for IPv4 and IPv6."""
    for version in (4, 6):
        if mode == "nft":
            lab.run("nft", "-f", "-", text=_nft_rules(version))
        else:
            program = mode if version == 4 else mode.replace("iptables", "ip6tables")
            lab.run(f"{program}-restore", "--noflush", text=_iptables_rules(version))


def _iptables_rules(version: int) -> str:
    service, target, pods = SERVICE[version], COREDNS[version], PODS[version]
    bracketed = f"[{target}]" if version == 6 else target
    nat = []
    for protocol, name in (("udp", "U"), ("tcp", "T")):
        match = f"-d {service} -p {protocol} -m {protocol} --dport 53"
        nat += [
            f"-A KUBE-SERVICES {match} -j KUBE-SVC-{name}",
            f"-A KUBE-SVC-{name} ! -s {pods} {match} -j KUBE-MARK-MASQ",
            f"-A KUBE-SVC-{name} -j KUBE-SEP-{name}",
            f"-A KUBE-SEP-{name} -s {target} -j KUBE-MARK-MASQ",
            f"-A KUBE-SEP-{name} -p {protocol} -j DNAT --to-destination {bracketed}:53",
        ]
    return "\n".join([
        "*nat",
        *(f":{chain} - [0:0]" for chain in ("KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")),
        *(f":KUBE-{kind}-{name} - [0:0]" for kind in ("SVC", "SEP") for name in "UT"),
        "-A PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        *nat,
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        "COMMIT",
        "*mangle",
        ":KUBE-IPTABLES-HINT - [0:0]",
        ":KUBE-KUBELET-CANARY - [0:0]",
        "COMMIT",
        "*filter",
        ":KUBE-FORWARD - [0:0]",
        "-A FORWARD -j KUBE-FORWARD",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "COMMIT",
        "",
    ])  # fmt: skip


def _nft_rules(version: int) -> str:
    family = "ip" if version == 4 else "ip6"
    kind = "ipv4_addr" if version == 4 else "ipv6_addr"
    service, target, pods = SERVICE[version], COREDNS[version], PODS[version]
    bracketed = f"[{target}]" if version == 6 else target
    return f"""table {family} kube-proxy {{
    set cluster-ips {{
        type {kind}
        elements = {{ {service} }}
    }}
    map service-ips {{
        type {kind} . inet_proto . inet_service : verdict
        elements = {{
            {service} . udp . 53 : goto service-dns-udp,
            {service} . tcp . 53 : goto service-dns-tcp
        }}
    }}
    chain services {{
        {family} daddr . meta l4proto . th dport vmap @service-ips
    }}
    chain service-dns-udp {{
        {family} daddr {service} udp dport 53 {family} saddr != {pods} jump mark-for-masquerade
        goto endpoint-dns-udp
    }}
    chain service-dns-tcp {{
        {family} daddr {service} tcp dport 53 {family} saddr != {pods} jump mark-for-masquerade
        goto endpoint-dns-tcp
    }}
    chain endpoint-dns-udp {{
        {family} saddr {target} jump mark-for-masquerade
        meta l4proto udp dnat to {bracketed}:53
    }}
    chain endpoint-dns-tcp {{
        {family} saddr {target} jump mark-for-masquerade
        meta l4proto tcp dnat to {bracketed}:53
    }}
    chain mark-for-masquerade {{
        mark set mark or 0x4000
    }}
    chain masquerading {{
        mark and 0x4000 == 0 return
        mark set mark xor 0x4000
        masquerade fully-random
    }}
    chain cluster-ips-check {{
        {family} daddr @cluster-ips reject
    }}
    chain nat-prerouting {{
        type nat hook prerouting priority -100
        jump services
    }}
    chain nat-output {{
        type nat hook output priority -100
        jump services
    }}
    chain nat-postrouting {{
        type nat hook postrouting priority 100
        jump masquerading
    }}
    chain filter-forward {{
        type filter hook forward priority -110
        ct state new jump cluster-ips-check
    }}
    chain filter-output-post-dnat {{
        type filter hook output priority -90
        ct state new jump cluster-ips-check
    }}
}}
"""
