# SPDX-License-Identifier: Apache-2.0
"""The configuration as control understands it. What the data plane needs of it is written to
a sealed segment by ``_tables.create_config``; the rest stays here.
"""

from dataclasses import dataclass, field

from fastdns.control.addresses import Endpoint

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; nothing is checked against the machine yet.

    With ``conf`` or ``conf_text`` a Corefile says what is served, and ``listen`` and ``upstreams`` nothing.
    """

    listen: tuple[Endpoint, ...] = (Endpoint("127.0.0.1", 5300),)
    upstreams: tuple["Upstream", ...] = ()  #: empty: the nameservers of /etc/resolv.conf
    workers: int = 0  #: 0: two, one on a machine with one core
    memory: int = 16 * MIB  #: octets, the whole budget
    program: str = "fastdns serve"  #: who complains
    conf: str = ""  #: path of the Corefile; "stdin" beside a conf_text
    conf_text: str | None = None  #: a Corefile that is no file, and never changes
    dns_port: int = 53  #: of keys without one, and of stub domains' blocks
    quiet: bool = False  #: no lines about what is served
    pidfile: str = ""  #: written once listening; "": none
    node: "NodeOptions | None" = None  #: None: not in node-cache's place, the node is left alone

    @property
    def has_corefile(self) -> bool:
        return bool(self.conf) or self.conf_text is not None


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What node-cache's flags say about the node and its ConfigMaps (corefile.md 6.1)."""

    local_ips: tuple[str, ...]  #: canonical, of either family, at least one
    setup_interface: bool = True
    interface: str = "nodelocaldns"
    setup_iptables: bool = True
    skip_teardown: bool = False
    sync_interval_s: float = 60.0
    health_port: int = 8080  #: only for the rules; the Corefile says where /health is
    metrics_listen: tuple[str, int] = ("0.0.0.0", 9353)  #: host, "" for all addresses of both families
    base_corefile: str = "/etc/coredns/Corefile.base"  #: template of ``conf``; "": it is used as it is
    kubedns_dir: str = ""  #: the kube-dns ConfigMap; "": /etc/kube-dns where that exists
    upstream_service: str = "kube-dns"
    reload_with_signal: bool = False  #: a new Corefile is loaded at once, without the plugin reload


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that questions are forwarded to."""

    endpoint: Endpoint
    force_tcp: bool = False

    def __str__(self) -> str:
        return f"tcp://{self.endpoint}" if self.force_tcp else str(self.endpoint)


@dataclass(frozen=True, slots=True)
class Block:
    """What a server block says about its answers. Times in seconds.

    The defaults are those of ``serve --upstream``: each record keeps its own TTL, down to 0.
    """

    number: int = 0
    caching: bool = True
    uniform_ttl: bool = False  #: one TTL for all records of a reply, and AA (a Corefile's `cache`)
    ttl_min_s: int = 0
    ttl_max_s: int = 86400  #: RFC 8767 s4 advises a cap of days
    negative_min_s: int = 0
    negative_max_s: int = 1800  #: RFC 2308 s5 advises one to three hours at most
    failure_s: int = 5  #: RFC 9520 s3.2: at least 1, at most 300
    stale_s: int = 0  #: 0: an expired entry is of no use

    def text(self, upstreams: tuple[Upstream, ...]) -> str:
        """The block as a line of text; entries made under another text are of another block."""
        return f"{self} forward {' '.join(map(str, upstreams))}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the data plane. Times in ms."""

    tcp_connections: int = 1024  #: a worker
    tcp_first_ms: int = 3000
    tcp_idle_ms: int = 10000  #: RFC 7766 s6.2.3: a few seconds
    tcp_slow_ms: int = 10000
    edns_max: int = 4096  #: octets; on-node paths don't lose fragments
    client_deadline_ms: int = 4500  #: below libc's 5 s
    question_deadline_ms: int = 4000
    retry_floor_ms: int = 20


@dataclass(frozen=True, slots=True)
class Identity:
    """What the data plane runs as; 0 keeps what we have."""

    worker_uid: int = 0
    coordinator_uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """One whole configuration."""

    listeners: tuple[Endpoint, ...]
    upstreams: tuple[Upstream, ...]
    worker_count: int
    number: int = 1  #: grows with each configuration of this server
    block: Block = field(default_factory=Block)
    limits: Limits = field(default_factory=Limits)
    identity: Identity = field(default_factory=Identity)
