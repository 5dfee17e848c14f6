# SPDX-License-Identifier: Apache-2.0
"""The plugins but for `cache` and `forward`, with their options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from fastdns.control.addresses import Endpoint
from fastdns.control.config import kinds as k
from fastdns.control.config.declare import Arg, Option, Plugin, Rest, Several
from fastdns.control.config.rewrite import Rule

#: The well-known one, RFC 6052 section 2.1.
DNS64_PREFIX: Final = "64:ff9b::/96"


@dataclass(frozen=True, slots=True)
class BindAddress:
    """An address of this machine, without a port."""

    host: str
    scope_id: int = 0

    def at(self, port: int) -> Endpoint:
        """The endpoint with this port."""
        return Endpoint(self.host, port, self.scope_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind(Plugin):
    """The addresses that the block listens on; several lines add up. An interface stands for all its
    addresses at the time of the (re)load. Without `bind` the block listens on all addresses, IPv4 and IPv6.
    """

    words: Annotated[
        tuple[str, ...],
        Rest("ADDR|IFACE", k.Text("an IP address or an interface"), "addresses and interfaces", least=1),
    ]
    except_words: Annotated[
        tuple[str, ...],
        Option(
            "except",
            Several(k.Text("an IP address or an interface")),
            "addresses and interfaces to leave out",
            repeated=True,
        ),
    ] = ()
    addresses: tuple[BindAddress, ...] = ()  #: what the words stand for now


@dataclass(frozen=True, slots=True, kw_only=True)
class Bufsize(Plugin):
    """Lowers the EDNS size of queries that announce more."""

    size: Annotated[int, Arg("SIZE", k.Int(512, 4096), "octets")] = 1232


@dataclass(frozen=True, slots=True, kw_only=True)
class Debug(Plugin):
    """More lines in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns64(Plugin):
    """Makes AAAA records from A records, for IPv6 clients, where a name has no AAAA (RFC 6147)."""

    argument: Annotated[str | None, Arg("PREFIX", k.Prefix64(), "the same as the option")] = None
    option_prefix: Annotated[
        str | None, Option("prefix", k.Prefix64(), "what the addresses are put behind")
    ] = None
    translate_all: Annotated[bool, Option("translate_all", None, "also where the name has AAAA records")] = (
        False
    )
    allow_ipv4: Annotated[bool, Option("allow_ipv4", None, "also for IPv4 clients")] = False

    prefix: str = DNS64_PREFIX  #: the option's, or the argument's


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidate:
    """Errors that are counted and logged together."""

    duration_s: Annotated[
        float, Arg("DURATION", k.Duration(), "the line comes this long after the first error")
    ]
    regex: Annotated[str, Arg("REGEXP", k.Regex(), "which errors")]
    level: Annotated[
        str,
        Arg(
            "LEVEL",
            k.Choice(("warning", "error", "info", "debug")),
            "level of the line",
            when="(?!show_first$).*",
        ),
    ] = "error"
    show_first: Annotated[
        str | None, Arg("show_first", k.Choice(("show_first",)), "log the first error at once (1.14.0)")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors(Plugin):
    """Logs errors met while a query is answered. Without it failures of upstreams are silent."""

    output: Annotated[str, Arg("OUTPUT", k.Choice(("stdout",)), "where to; there is no other")] = "stdout"
    stacktrace: Annotated[bool, Option("stacktrace", None, "accepted; there is no stack to show")] = False
    consolidate: Annotated[
        tuple[Consolidate, ...],
        Option(
            "consolidate", Consolidate, "errors to log together; the first that matches counts", repeated=True
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Plugin):
    """Answers GET /health with 200 OK."""

    address: Annotated[tuple[str, int], Arg("ADDR", k.HttpAddress(), "where it listens")] = ("", 8080)
    lameduck_s: Annotated[
        float, Option("lameduck", k.Duration(), "wait this long before the end, still serving")
    ] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsLine:
    """A line of a hosts file."""

    address: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts(Plugin):
    """Answers A, AAAA and PTR from a hosts file and from lines in the block itself."""

    file: Annotated[Path, Arg("FILE", k.File(), "a hosts file; read again when it changes")] = Path(
        "/etc/hosts"
    )
    zones: Annotated[tuple[str, ...], Rest("ZONES", k.Zones(), "only names at or below these")] = ()
    inline: tuple[HostsLine, ...] = ()
    ttl_s: Annotated[int, Option("ttl", k.Int(1, 65535), "TTL of its answers, s")] = 3600
    no_reverse: Annotated[bool, Option("no_reverse", None, "no PTR records")] = False
    reload_s: Annotated[
        float, Option("reload", k.Duration(), "how often the file is looked at; 0: never")
    ] = 5.0
    fallthrough: Annotated[
        tuple[str, ...] | None,
        Option(
            "fallthrough",
            Several(k.Zones(), least=0),
            "names it doesn't know (below these) go on to the next plugin",
        ),
    ] = None  #: None: no; (".",): all names


@dataclass(frozen=True, slots=True, kw_only=True)
class Loadbalance(Plugin):
    """Changes the order of addresses from reply to reply."""

    policy: Annotated[
        str,
        Arg(
            "POLICY",
            k.Choice(("round_robin", "weighted")),
            "how",
            later="answers go out as upstream had them",
        ),
    ] = "round_robin"
    file: Annotated[Path | None, Arg("FILE", k.File(), "weights, for weighted")] = None
    reload_s: Annotated[
        float, Option("reload", k.Duration(), "how often the file is looked at; 0: never")
    ] = 30.0
    prefer: Annotated[
        tuple[str, ...],
        Option(
            "prefer", Several(k.Network()), "addresses in these networks first, in the order of the networks"
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Plugin):
    """A line for each query. The first line whose names cover the query counts."""

    words: Annotated[
        tuple[str, ...],
        Rest("[NAMES...] [FORMAT]", k.Text(), "names at or below these; a format, with {placeholders}"),
    ] = ()
    zones: tuple[str, ...] = ()  #: names at or below these; the root where none is said
    format: str = ""  #: with the placeholders as they stand
    classes: Annotated[
        tuple[str, ...],
        Option(
            "class", Several(k.Choice(("all", "success", "denial", "error"))), "which replies", repeated=True
        ),
    ] = ("all",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Plugin):
    """Finds out whether an upstream sends questions back here, and stops asking it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus(Plugin):
    """Answers GET /metrics. Blocks may share an address."""

    address: Annotated[tuple[str, int], Arg("ADDR", k.HttpAddress(), "where it listens")] = (
        "localhost",
        9153,
    )
    runtime_metrics: Annotated[
        bool, Option("runtime_metrics", None, "accepted; there is no Go runtime", since="1.14.3")
    ] = False
    tls: Annotated[
        Path | None,
        Option(
            "tls",
            k.File(),
            "TLS settings of the listener",
            later="/metrics is served without encryption",
            since="1.14.3",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pprof(Plugin):
    """Profiles of the Go runtime."""

    address: Annotated[tuple[str, int], Arg("ADDR", k.HttpAddress(), "not used")] = ("localhost", 6053)
    block: Annotated[
        tuple[int, ...] | None, Option("block", Several(k.Int(0), least=0), "[RATE], not used")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(Plugin):
    """Answers GET /ready with 200 OK once every worker answers."""

    address: Annotated[tuple[str, int], Arg("ADDR", k.HttpAddress(), "where it listens")] = ("", 8181)
    monitor: Annotated[
        str,
        Option("monitor", k.Choice(("until-ready", "continuously")), "whether it may become unready again"),
    ] = "until-ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload(Plugin):
    """Reads the Corefile again when it has changed. One setting for the process, the last block's."""

    interval_s: Annotated[float, Arg("INTERVAL", k.Duration(2), "time between looks")] = 30.0
    jitter_s: Annotated[float, Arg("JITTER", k.Duration(0), "spread of it, half of it at most")] = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite(Plugin):
    """Changes the question, or something of the reply. Rules run in the file's order."""

    stop: bool = True  #: False: the rules after it are tried too
    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedError:
    """An extended DNS error, RFC 8914."""

    code: Annotated[int, Arg("CODE", k.Int(0, 65535), "its number")]
    text: Annotated[str, Arg("TEXT", k.Text(), "its text")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template(Plugin):
    """Makes answers from Go templates."""

    qclass: Annotated[int, Arg("CLASS", k.QClass(), "which class; ANY: all")]
    qtype: Annotated[int, Arg("TYPE", k.QType(), "which type; ANY: all")]
    zones: Annotated[
        tuple[str, ...],
        Rest("ZONES", k.Zones(), "only names at or below these; the block's keys if none is said"),
    ] = ()
    match: Annotated[
        tuple[str, ...],
        Option("match", Several(k.Regex()), "what names fit; the first that does counts", repeated=True),
    ] = (".*",)
    answer: Annotated[
        tuple[str, ...], Option("answer", Several(k.Template()), "a record", repeated=True)
    ] = ()
    additional: Annotated[
        tuple[str, ...], Option("additional", Several(k.Template()), "a record", repeated=True)
    ] = ()
    authority: Annotated[
        tuple[str, ...], Option("authority", Several(k.Template()), "a record", repeated=True)
    ] = ()
    rcode: Annotated[int, Option("rcode", k.Rcode(), "code of the reply")] = 0
    ederror: Annotated[
        ExtendedError | None, Option("ederror", ExtendedError, "extended error of the reply (RFC 8914)")
    ] = None
    fallthrough: Annotated[
        tuple[str, ...] | None,
        Option(
            "fallthrough",
            Several(k.Zones(), least=0),
            "names (below these) that nothing fits go on to the next plugin",
        ),
    ] = None
    upstream: Annotated[
        tuple[str, ...] | None, Option("upstream", Several(k.Text(), least=0), "accepted and ignored")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts(Plugin):
    """Times of TCP clients; a bare number is seconds. At least one is given."""

    read_s: Annotated[
        float, Option("read", k.Duration(1, 86400, bare_seconds=True), "for the first query")
    ] = 3.0
    write_s: Annotated[
        float, Option("write", k.Duration(1, 86400, bare_seconds=True), "without effect on plain DNS")
    ] = 5.0
    idle_s: Annotated[float, Option("idle", k.Duration(1, 86400, bare_seconds=True), "between queries")] = (
        10.0
    )
    maxtcpqueries: Annotated[
        int,
        Option("maxtcpqueries", k.Int(-1), "queries on a connection; -1: no limit", since="1.14.7"),
    ] = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace(Plugin):
    """Sends traces of queries to a collector."""

    words: Annotated[
        tuple[str, ...], Rest("[TYPE] [ENDPOINT]", k.Text(), "zipkin or datadog, and where it is")
    ] = ()
    kind: str = "zipkin"
    endpoint: str = ""
    every: Annotated[int, Option("every", k.Int(0), "one query of so many")] = 1
    service: Annotated[str, Option("service", k.Text(), "name of the service")] = "coredns"
    client_server: Annotated[
        tuple[bool, ...],
        Option("client_server", Several(k.Bool(), least=0), "one span for both sides; alone: true"),
    ] = (False,)
    datadog_analytics_rate: Annotated[
        float, Option("datadog_analytics_rate", k.Fraction(), "share analysed")
    ] = 0.0
    zipkin_max_backlog_size: Annotated[int, Option("zipkin_max_backlog_size", k.Int(0), "spans waiting")] = 0
    zipkin_max_batch_size: Annotated[
        int, Option("zipkin_max_batch_size", k.Int(0), "spans in one request")
    ] = 0
    zipkin_max_batch_interval_s: Annotated[
        float, Option("zipkin_max_batch_interval", k.Duration(), "wait for a request")
    ] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Whoami(Plugin):
    """Answers with the client's own address and port."""
