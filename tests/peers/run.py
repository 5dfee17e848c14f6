# SPDX-License-Identifier: Apache-2.0
"""Real DNS servers on loopback, for tests and benches: coredns, nsd, unbound, dnsdist, node_cache.

Each is a context manager that starts the server on a free port (or the one given), waits until it answers,
yields a Peer, and leaves nothing behind: the server has a process group and a scratch directory of its own,
and dies with this process whatever happens to it. A missing program raises PeerMissing, whose text says how
to get it.

    with coredns() as upstream, unbound(upstream.server) as peer:
        ask(peer.address, peer.port)
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.peers import make_zone

LOOPBACK = "127.0.0.1"
_SERVER_PORTS = range(10_000, 32_768)  # below net.ipv4.ip_local_port_range, which clients' sockets come from
_START_S = 20.0  # a Go program on a busy machine; most need 0.1
_STOP_S = 5.0
_START_ATTEMPTS = 3  # a free port may be taken between our look and the server's bind
_PEERS_DIR = Path(os.environ.get("FASTDNS_PEERS_DIR", Path(__file__).parents[2] / "build" / "peers"))
_FALLBACK_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # daemons that a user's PATH leaves out


class PeerMissing(Exception):
    """A server's program isn't installed here."""


class PeerFailed(Exception):
    """A server was started and didn't answer; the text has the end of its log."""


class Peer(NamedTuple):
    """A running server. `pids[0]` is the process that was started."""

    address: str
    port: int
    pids: list[int]

    @property
    def server(self) -> tuple[str, int]:
        return self.address, self.port


def find_program(name: str) -> str:
    """Path of a peer's program: built by `make peers`, else a package's. PeerMissing says how to get it."""
    built = _PEERS_DIR / name
    if built.exists():
        return str(built)
    installed = shutil.which(name) or shutil.which(name, path=_FALLBACK_PATH)
    if installed:
        return installed
    how = "make peers" if name in ("coredns", "node-cache") else f"apt-get install {name}"
    raise PeerMissing(f"{name} isn't here: {how}")


def is_available(name: str) -> bool:
    """Whether find_program would succeed, for skip marks."""
    try:
        find_program(name)
    except PeerMissing:
        return False
    return True


def versions() -> dict[str, str]:
    """The pinned versions in versions.env."""
    lines = (Path(__file__).parent / "versions.env").read_text(encoding="ascii").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def free_port(address: str = LOOPBACK) -> int:
    """A port free for UDP and TCP at this moment, and never given to a client's socket by the kernel."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        port = secrets.choice(_SERVER_PORTS)
        with (
            socket.socket(family, socket.SOCK_DGRAM) as udp,
            socket.socket(family, socket.SOCK_STREAM) as tcp,
            contextlib.suppress(OSError),
        ):
            udp.bind((address, port))
            tcp.bind((address, port))
            return port


def process_tree(pid: int) -> list[int]:
    """`pid` and its living descendants, from /proc."""
    tree = [pid]
    for parent in tree:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                tree += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return tree


def answers(address: str, port: int) -> bool:
    """Whether anything comes back for a question about the root, within 200 ms."""
    message_id = secrets.token_bytes(2)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        try:
            sock.connect((address, port))
            sock.send(message_id + b"\1\0\0\1\0\0\0\0\0\0" + b"\4test\0" + b"\0\6\0\1")
            return sock.recv(4096)[:2] == message_id
        except OSError:
            return False


def _wait_for_answer(
    process: "subprocess.Popen[bytes]", address: str, port: int, log: Path, is_up: Callable[[str, int], bool]
) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if is_up(address, port):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise PeerFailed(
        f"{process.args!r} doesn't answer on {address}:{port} (exit code {process.poll()}):\n{tail}"
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, then SIGKILL to its whole group: nothing of it is alive when this returns."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def start(
    name: str,
    configure: Callable[[Path, int], Sequence[str]],
    port: int = 0,
    cpus: Iterable[int] | None = None,
    address: str = LOOPBACK,
    environment: Mapping[str, str] | None = None,
    is_up: Callable[[str, int], bool] = answers,
) -> Iterator[Peer]:
    """Run any server: `configure(directory, port)` writes its files and returns its command line.

    It is ready when `is_up(address, port)`; its output is the file `log` in its directory.
    """
    wrapper = ["setpriv", "--pdeathsig", "KILL"]
    if cpus is not None:
        wrapper += ["taskset", "--cpu-list", ",".join(str(cpu) for cpu in sorted(cpus))]
    with tempfile.TemporaryDirectory(prefix=f"peer-{name}-") as scratch:
        directory = Path(scratch)
        log = directory / "log"
        for attempt in range(1, _START_ATTEMPTS + 1):
            chosen = port or free_port(address)
            command = [*wrapper, *configure(directory, chosen)]
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=directory,
                    env=environment,
                    start_new_session=True,
                )
            try:
                try:
                    _wait_for_answer(process, address, chosen, log, is_up)
                except PeerFailed:
                    if port or attempt == _START_ATTEMPTS:
                        raise
                    continue
                yield Peer(address, chosen, process_tree(process.pid))
                return
            finally:
                _stop(process)


def _endpoint(server: tuple[str, int], separator: str = ":") -> str:
    address, port = server
    bracketed = f"[{address}]" if ":" in address and separator == ":" else address
    return f"{bracketed}{separator}{port}"


@contextlib.contextmanager
def coredns(
    port: int = 0,
    external: tuple[str, int] | None = None,
    cpus: Iterable[int] | None = None,
    address: str = LOOPBACK,
) -> Iterator[Peer]:
    """CoreDNS with the test cluster's zones (make_zone).

    `external` has all other names; None: example.test is here.
    """
    program = find_program("coredns")

    def configure(directory: Path, chosen: int) -> list[str]:
        files = make_zone.write(directory)
        if external is not None:
            files.pop(make_zone.EXTERNAL)
        lines = [f"    file {path} {zone}" for zone, path in files.items()]
        if external is not None:
            lines.append(f"    forward . {_endpoint(external)}")
        corefile = directory / "Corefile"
        corefile.write_text(
            "\n".join([f".:{chosen} {{", f"    bind {address}", "    errors", *lines, "}", ""]),
            encoding="ascii",
        )
        return [program, "-conf", str(corefile), "-quiet"]

    with start("coredns", configure, port, cpus, address) as peer:
        yield peer


@contextlib.contextmanager
def nsd(port: int = 0, cpus: Iterable[int] | None = None, address: str = LOOPBACK) -> Iterator[Peer]:
    """NSD with the external zone, example.test.

    Its rate limits are off: a load of equal answers would meet them.
    """
    program = find_program("nsd")

    def configure(directory: Path, chosen: int) -> list[str]:
        zone_file = make_zone.write(directory)[make_zone.EXTERNAL]
        config = directory / "nsd.conf"
        config.write_text(
            f"""server:
    ip-address: {address}@{chosen}
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{directory}"
    database: ""
    pidfile: ""
    xfrdfile: "{directory}/xfrd.state"
    xfrdir: "{directory}"
    zonelistfile: "{directory}/zone.list"
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: {make_zone.EXTERNAL}
    zonefile: {zone_file}
""",
            encoding="ascii",
        )
        return [program, "-d", "-c", str(config)]

    with start("nsd", configure, port, cpus, address) as peer:
        yield peer


class Tls(NamedTuple):
    """DNS over TLS beside UDP and TCP."""

    port: int
    cert: Path
    key: Path


def _tls_lines(tls: Tls | None) -> str:
    if tls is None:
        return ""
    return f"""    interface: {LOOPBACK}@{tls.port}
    tls-port: {tls.port}
    tls-service-pem: "{tls.cert}"
    tls-service-key: "{tls.key}"
    incoming-num-tcp: 32
    max-reuse-tcp-queries: 4096
"""


@contextlib.contextmanager
def unbound(
    upstream: tuple[str, int], port: int = 0, cpus: Iterable[int] | None = None, tls: Tls | None = None
) -> Iterator[Peer]:
    """Unbound as a plain forwarding cache: one thread, no validation, nothing hardened, nothing logged."""
    program = find_program("unbound")

    def configure(directory: Path, chosen: int) -> list[str]:
        config = directory / "unbound.conf"
        config.write_text(
            f"""server:
    interface: {LOOPBACK}
    port: {chosen}
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 0
    num-threads: 1
    so-rcvbuf: 4m
    msg-cache-size: 64m
    rrset-cache-size: 128m
    outgoing-range: 8192
    num-queries-per-thread: 4096
    module-config: "iterator"
    do-not-query-localhost: no
    local-zone: "test." nodefault
    local-zone: "10.in-addr.arpa." nodefault
    local-zone: "d.f.ip6.arpa." nodefault
    harden-glue: no
    harden-dnssec-stripped: no
    harden-below-nxdomain: no
    qname-minimisation: no
    ratelimit: 0
    ip-ratelimit: 0
{_tls_lines(tls)}remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {_endpoint(upstream, "@")}
""",
            encoding="ascii",
        )
        return [program, "-d", "-c", str(config)]

    with start("unbound", configure, port, cpus) as peer:
        yield peer


@contextlib.contextmanager
def dnsdist(upstream: tuple[str, int], port: int = 0, cpus: Iterable[int] | None = None) -> Iterator[Peer]:
    """dnsdist with a packet cache of 100,000 answers and one listener."""
    program = find_program("dnsdist")

    def configure(directory: Path, chosen: int) -> list[str]:
        config = directory / "dnsdist.conf"
        config.write_text(
            f"""setLocal("{LOOPBACK}:{chosen}")
setSecurityPollSuffix("")
setMaxUDPOutstanding(65535)
newServer({{address="{_endpoint(upstream)}", sockets=4}})
getPool(""):setCache(newPacketCache(100000, {{maxTTL=86400}}))
""",
            encoding="ascii",
        )
        return [program, "--supervised", "--disable-syslog", "-C", str(config)]

    with start("dnsdist", configure, port, cpus) as peer:
        yield peer


@contextlib.contextmanager
def node_cache(
    upstream: tuple[str, int],
    port: int = 0,
    cpus: Iterable[int] | None = None,
    force_tcp: bool = False,
    capacity: int = 50_000,
    ttl_s: int = 3600,
) -> Iterator[Peer]:
    """node-cache without its interface and rules, with the plugins of its stock Corefile.

    `capacity` and `ttl_s` are the cache's; the stock ones (9,984 and 30 s) don't hold a bench's 10,000 names.
    """
    program = find_program("node-cache")

    def configure(directory: Path, chosen: int) -> list[str]:
        # node-cache watches the template's whole directory; in one of its own nothing else wakes it.
        template = directory / "base" / "Corefile.base"
        template.parent.mkdir(exist_ok=True)
        template.write_text(_cache_corefile(chosen, upstream, force_tcp, capacity, ttl_s), encoding="ascii")
        return [
            program, "-localip", LOOPBACK, "-p", str(chosen), "-setupinterface=false", "-setupiptables=false",
            "-basecorefile", str(template), "-conf", str(directory / "Corefile"), "-skipteardown=true",
            "-metrics-listen-address", f"{LOOPBACK}:{free_port()}",
        ]  # fmt: skip

    with start("node-cache", configure, port, cpus) as peer:
        yield peer


@contextlib.contextmanager
def coredns_cache(
    upstream: tuple[str, int],
    port: int = 0,
    cpus: Iterable[int] | None = None,
    force_tcp: bool = False,
    capacity: int = 50_000,
    ttl_s: int = 3600,
) -> Iterator[Peer]:
    """CoreDNS with node-cache's Corefile.

    What a bench shows, under its own name, where node-cache can't be built.
    """
    program = find_program("coredns")

    def configure(directory: Path, chosen: int) -> list[str]:
        corefile = directory / "Corefile"
        corefile.write_text(_cache_corefile(chosen, upstream, force_tcp, capacity, ttl_s), encoding="ascii")
        return [program, "-conf", str(corefile), "-quiet"]

    with start("coredns", configure, port, cpus) as peer:
        yield peer


def _cache_corefile(port: int, upstream: tuple[str, int], force_tcp: bool, capacity: int, ttl_s: int) -> str:
    return f""".:{port} {{
    errors
    cache {{
        success {capacity} {ttl_s}
        denial {capacity} {ttl_s}
    }}
    reload
    loop
    bind {LOOPBACK}
    forward . {_endpoint(upstream)} {{
        {"force_tcp" if force_tcp else "prefer_udp"}
    }}
    prometheus {LOOPBACK}:{free_port()}
}}
"""
