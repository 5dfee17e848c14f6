# SPDX-License-Identifier: Apache-2.0
"""The servers under test and the tools around them, each as a context manager that yields a Peer."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.peers import run as peers

ROOT = Path(__file__).resolve().parents[1]
_BIN = ROOT / "bench" / "bin"

Upstream = tuple[str, int]
Starter = Callable[[Upstream, Iterable[int]], contextlib.AbstractContextManager[peers.Peer]]
"""From upstream's address and the cores to use to a running server."""


def _tool(name: str) -> str:
    path = _BIN / name
    if not path.exists():
        raise peers.PeerMissing(f"bench/bin/{name} isn't built: make bench-tools")
    return str(path)


@contextlib.contextmanager
def floor(cpus: Iterable[int]) -> Iterator[peers.Peer]:
    """bench/floor.c: what a server on sockets costs at the least."""
    program = _tool("floor")
    with peers.start("floor", lambda _, port: [program, peers.LOOPBACK, str(port)], cpus=cpus) as peer:
        yield peer


@contextlib.contextmanager
def upstream(mode: str, cpus: Iterable[int]) -> Iterator[peers.Peer]:
    """bench/upstream.c in mode `a` (an address for every name) or `nx` (NXDOMAIN for every name)."""
    program = _tool("upstream")
    with peers.start(
        "upstream", lambda _, port: [program, peers.LOOPBACK, str(port), mode], cpus=cpus
    ) as peer:
        yield peer


@contextlib.contextmanager
def fastdns(
    server: Upstream, cpus: Iterable[int], workers: int = 1, force_tcp: bool = False
) -> Iterator[peers.Peer]:
    """This repository's fastdns, as `fastdns serve` starts it."""
    upstream_text = f"{'tcp://' if force_tcp else ''}{server[0]}:{server[1]}"

    def configure(_: Path, port: int) -> list[str]:
        return [
            "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "fastdns", "serve",
            "--listen", f"{peers.LOOPBACK}:{port}", "--upstream", upstream_text,
            "--workers", str(workers),
        ]  # fmt: skip

    with peers.start("fastdns", configure, cpus=cpus) as peer:
        yield peer


# The plugins of the Corefile that RKE2's chart renders; `health` and the addresses apart.
_COREFILE = """
.:{port} {{
    errors
    cache 30
    reload
    loop
    bind {address}
    forward . {upstream}
    prometheus {address}:{metrics}
}}
fastdns {{
    workers 1
}}
"""


@contextlib.contextmanager
def fastdns_plugins(server: Upstream, cpus: Iterable[int]) -> Iterator[peers.Peer]:
    """fastdns with the plugins that RKE2 has on."""

    def configure(scratch: Path, port: int) -> list[str]:
        corefile = scratch / "Corefile"
        text = _COREFILE.format(
            address=peers.LOOPBACK, port=port, metrics=peers.free_port(), upstream=f"{server[0]}:{server[1]}"
        )
        corefile.write_text(text, encoding="utf-8")
        return [
            "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "fastdns", "serve", "--conf", str(corefile),
        ]  # fmt: skip

    with peers.start("fastdns-plugins", configure, cpus=cpus) as peer:
        yield peer


STARTERS: dict[str, Starter] = {
    "fastdns": fastdns,
    "fastdns-plugins": fastdns_plugins,
    "unbound": lambda server, cpus: peers.unbound(server, cpus=cpus),
    "dnsdist": lambda server, cpus: peers.dnsdist(server, cpus=cpus),
    "node-cache": lambda server, cpus: peers.node_cache(server, cpus=cpus),
    "coredns": lambda server, cpus: peers.coredns_cache(server, cpus=cpus),
}
"""Every server that --servers may name, besides floor, which is always measured."""

TCP_STARTERS: dict[str, Starter] = {
    "fastdns": lambda server, cpus: fastdns(server, cpus, force_tcp=True),
    "node-cache": lambda server, cpus: peers.node_cache(server, cpus=cpus, force_tcp=True),
}
"""Those that are compared with a TCP upstream."""

OWN = ["fastdns", "fastdns-plugins"]
"""Those that are fastdns."""


def missing(name: str) -> str | None:
    """Why `name` can't be measured here, or None."""
    try:
        if name in OWN:
            if not (ROOT / "fastdns" / "__main__.py").exists():
                return "fastdns isn't built: pip install -e ."
        else:
            peers.find_program(name)
    except peers.PeerMissing as reason:
        return str(reason)
    return None


def default_servers() -> list[str]:
    """All, with CoreDNS under its own name only where node-cache isn't to be had."""
    return [name for name in STARTERS if name != "coredns" or missing("node-cache") is not None]
