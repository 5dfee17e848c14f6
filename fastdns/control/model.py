# SPDX-License-Identifier: Apache-2.0
"""The configuration as control understands it. What the data plane needs of it is written to
a sealed segment by ``_tables.create_config``; the rest stays here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fastdns.control.addresses import Endpoint
from fastdns.proto import STALE_REPLY_TTL

MIB = 1024 * 1024
PREFETCH_HITS = 4  # in an entry's life: fewer cost upstream more than the hits are worth (docs/upstream.md)

#: TCP connections to upstreams end after this at the latest: behind a service's address the next may lead
#: to another server, and a new one is to have its share within a minute.
CONNECTION_AGE_S = 20.0

#: With TLS: a handshake costs both sides more than a thousand questions do.
TLS_CONNECTION_AGE_S = 300.0


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
class Tls:
    """How connections to an upstream are encrypted, and whom they have to lead to."""

    name: str = ""  #: in its certificate; "": its address
    ca: str = ""  #: file with the authorities; "": the system's
    cert: str = ""  #: file with our own certificate; "": we have none
    key: str = ""
    digest: str = ""  #: of what the files hold: other content is another configuration


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that questions are forwarded to, and how long TCP connections to it live."""

    endpoint: Endpoint
    force_tcp: bool = False
    expire_s: float = 10.0  #: unused ones are closed
    max_age_s: float = CONNECTION_AGE_S
    max_idle: int = 0  #: kept unused at most; 0: no limit of its own
    tls: Tls | None = None  #: with force_tcp
    source: Endpoint | None = None  #: that our sockets are bound to, port 0; None: the kernel chooses

    def stricter(self, other: "Upstream") -> "Upstream":
        """The same server as two `forward` have it: what is shorter, or fewer, holds."""
        limits = [one.max_idle for one in (self, other) if one.max_idle]
        return replace(
            self,
            expire_s=min(self.expire_s, other.expire_s),
            max_age_s=min(self.max_age_s, other.max_age_s),
            max_idle=min(limits, default=0),
        )

    def __str__(self) -> str:
        """All that makes it another upstream than others; a configuration's numbers are given by it."""
        source = f" from={self.source.host}" if self.source is not None else ""
        if self.tls is not None:
            name = f"%{self.tls.name}" if self.tls.name else ""
            files = {"ca": self.tls.ca, "cert": self.tls.cert, "key": self.tls.key}
            words = "".join(f" {k}={v}" for k, v in files.items() if v)
            return f"tls://{self.endpoint}{name}{words}{source}"
        return f"tcp://{self.endpoint}{source}" if self.force_tcp else f"{self.endpoint}{source}"


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to answer on."""

    endpoint: Endpoint
    group: int = 0  #: the set of listeners on which the same blocks serve
    any_class: bool = True  #: some block forwards: other classes than IN are asked, too
    by_family: bool = False  #: some block's answers differ by the client's family
    tcp_first_ms: int = 3000  #: for a connection's first octets
    tcp_idle_ms: int = 10000  #: between queries; RFC 7766 s6.2.3: a few seconds
    tcp_queries: int = 0  #: on a connection; 0: no limit


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How an upstream that failed is tried."""

    interval_s: float = 0.5
    name: str = "."  #: asked for its NS
    recursion: bool = True  #: with RD


@dataclass(frozen=True, slots=True)
class Forward:
    """A step of a block's chain: names at or below ``zone`` are asked of these upstreams."""

    upstreams: tuple[int, ...]  #: numbers, as written
    zone: str = "."
    except_: tuple[str, ...] = ()  #: names at or below these go on to the next step
    policy: str = "sequential"  #: the order of the upstreams: random, round_robin, sequential or fastest
    next_rcodes: tuple[int, ...] = ()  #: on these the step behind it is asked, if it is a forward
    next_on_nodata: bool = False  #: and on NODATA
    failover_rcodes: tuple[int, ...] = ()  #: on these each of the other upstreams is asked
    max_fails: int = 2  #: an upstream is down after more failed checks; 0: never, and not checked
    max_attempts: int = 0  #: upstreams that may fail a question; 0: no limit
    max_concurrent: int = 0  #: questions under way, more are REFUSED; 0: no limit
    failfast: bool = False  #: SERVFAIL at once when all are down
    read_timeout_s: float = 2.0  #: longest wait for one reply
    check: HealthCheck = HealthCheck()


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What `hosts` knows of a name."""

    inet4: tuple[bytes, ...] = ()  #: 4 octets each
    inet6: tuple[bytes, ...] = ()  #: 16 octets each
    pointers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostsStep:
    """Names of a hosts file are answered."""

    names: Mapping[str, HostRecord]
    zones: tuple[str, ...] = (".",)  #: only names at or below these, but for PTR
    through: tuple[str, ...] = ()  #: unknown names at or below these go on; others fail
    ttl_s: int = 3600


@dataclass(frozen=True, slots=True)
class FamilyStep:
    """Questions for addresses of a family that the network has not got are answered NODATA."""

    qtype: int
    zone: str  #: at or below this
    except_: tuple[str, ...] = ()  #: but not at or below these


@dataclass(frozen=True, slots=True)
class NameStep:
    """A rule of `rewrite`: another name is asked. Texts in lower case, as they are matched."""

    match: str  #: exact, prefix, suffix or substring
    from_: str
    to: str
    automatic: bool = False  #: names in the reply are mapped back
    stop: bool = True  #: the rules behind it are passed over where it took the question


@dataclass(frozen=True, slots=True)
class TypeStep:
    """A rule of `rewrite`: another type is asked, or another class."""

    what: str  #: type or class
    from_: int
    to: int
    stop: bool = True


@dataclass(frozen=True, slots=True)
class ReplyStep:
    """A rule of `rewrite` about replies to some names: TTLs within bounds, or one rcode for another."""

    what: str  #: ttl or rcode
    match: str
    name: str
    from_: int  #: the least TTL, or the code that is replaced
    to: int
    stop: bool = True


@dataclass(frozen=True, slots=True)
class WhoamiStep:
    """Answers with the client's address."""


@dataclass(frozen=True, slots=True)
class SlowStep:
    """What needs Python: regular expressions, templates, dns64."""

    program: str  #: JSON: what the coordinator's thread does
    told: tuple[int, str] | None = None  #: extended error (RFC 8914) of replies that it made: code, text


#: What a block does to a question, in order.
Step = Forward | HostsStep | FamilyStep | NameStep | TypeStep | ReplyStep | WhoamiStep | SlowStep


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of a server block, as one group of listeners serves it. Names are absolute, in lower case."""

    name: str
    group: int
    block: int
    refused: bool = False  #: nothing in the block answers
    by_family: bool = False  #: answers differ by the client's family (dns64)
    by_client: bool = False  #: the coordinator needs the client: neither joined nor stored
    rotate: bool = False  #: loadbalance
    log: bool = False
    metrics: bool = False  #: the block has `prometheus`
    edns_max: int = 0  #: octets, `bufsize`; 0: the server's own limit


@dataclass(frozen=True, slots=True)
class Block:
    """What a server block says about its answers. Times in seconds.

    The defaults are those of ``serve --upstream``: each record keeps its own TTL, down to 0.
    """

    text: str = ""  #: entries made under another text are of another block
    steps: tuple[Step, ...] = ()
    caching: bool = True
    uniform_ttl: bool = False  #: one TTL for all records of a reply, and AA (a Corefile's `cache`)
    ttl_min_s: int = 0
    ttl_max_s: int = 86400  #: RFC 8767 s4 advises a cap of days
    negative_min_s: int = 0
    negative_max_s: int = 1800  #: RFC 2308 s5 advises one to three hours at most
    failure_s: int = 5  #: RFC 9520 s3.2: at least 1, at most 300
    stale_s: int = 3600  #: 0: an expired entry is of no use
    stale_wait_ms: int = 200  #: upstream's time before clients get the stale answer; 0: they get it first
    stale_ttl_s: int = STALE_REPLY_TTL
    recheck_ms: int = 30_000  #: after a failed refresh the stale answer is given at once for so long
    prefer_positive: bool = False  #: NXDOMAIN and NODATA take no usable answer's place
    capacity: tuple[int, int] = (0, 0)  #: entries, success and denial; 0: only octets bound them
    cached: tuple[str, ...] = ()  #: only names at or below these are cached; none: all
    disabled: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """Names at or below these keep nothing of a class: success, denial."""
    preferred: tuple[str, ...] = ()  #: networks whose addresses come first in an answer
    keep_ttl: bool = False  #: hits carry the TTL that was stored
    prefetch_hits: int = PREFETCH_HITS  #: that make a name popular: asked again before it expires; 0: never
    prefetch_percent: int = 10  #: of its life, left when that is done
    errors: bool = False  #: failures go to the log
    loop: bool = False  #: upstreams that send questions back here are found out
    cut: bool = False  #: nothing exists below a name that does not (RFC 8020)
    cut_learn: bool = False  #: and it is asked which ancestor of a name does not
    slow_limit: int = 64  #: questions that may wait for the Python thread


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the data plane. Times in ms."""

    tcp_connections: int = 1024  #: a worker
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
    """One whole configuration. Numbers are places in these tuples; None: nothing has that number any more."""

    listeners: tuple[Listener | None, ...]
    upstreams: tuple[Upstream | None, ...]
    zones: tuple[Zone | None, ...]
    blocks: tuple[Block | None, ...]
    worker_count: int
    series: tuple[tuple[int, int | None, int], ...] = ()
    """Listener, zone (None: what no zone took) and number of each series that is counted."""
    number: int = 1  #: grows with each configuration of this server
    limits: Limits = field(default_factory=Limits)
    identity: Identity = field(default_factory=Identity)
    notes: bytes = b""  #: for control's successor: what it must know of the numbers


def plain_config(
    listen: tuple[Endpoint, ...],
    upstreams: tuple[Upstream, ...],
    worker_count: int,
    block: Block | None = None,
    limits: Limits | None = None,
    identity: Identity | None = None,
) -> Config:
    """The configuration of ``serve --upstream``: one block for all names, on all addresses."""
    steps = (Forward(tuple(range(len(upstreams)))),) if upstreams else ()
    text = f"{block or Block()} forward {' '.join(map(str, upstreams))}"
    return Config(
        listeners=tuple(map(Listener, listen)),
        upstreams=upstreams,
        zones=(Zone(".", group=0, block=0),),
        blocks=(replace(block or Block(), text=text, steps=steps),),
        worker_count=worker_count,
        limits=limits or Limits(),
        identity=identity or Identity(),
    )
