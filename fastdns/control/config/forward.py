# SPDX-License-Identifier: Apache-2.0
"""`forward` and its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastdns.control.addresses import Endpoint
from fastdns.control.config import kinds as k
from fastdns.control.config.declare import Arg, Option, Plugin, Rest, Several


@dataclass(frozen=True, slots=True)
class To:
    """An upstream of a `forward`."""

    text: str  #: as the file has it
    scheme: str  #: dns, tls, https
    endpoints: tuple[Endpoint, ...]  #: a resolv.conf has several; none where a host is not yet resolved
    server_name: str = ""  #: of the certificate: tls://ADDR%NAME
    file: Path | None = None  #: the resolv.conf that they are from
    host: str = ""  #: the host name to resolve
    http_path: str = ""  #: of DNS over HTTPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files for TLS to upstreams: one is the CA; two are certificate and key; three all of them."""

    files: Annotated[tuple[Path, ...], Rest("FILE", k.File(), "[CERT KEY] [CA]")] = ()

    @property
    def ca(self) -> Path | None:
        """The authorities that upstreams' certificates are from; None: the system's."""
        return self.files[-1] if len(self.files) in (1, 3) else None

    @property
    def own(self) -> tuple[Path, Path] | None:
        """Our own certificate and its key."""
        return (self.files[0], self.files[1]) if len(self.files) >= 2 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How an upstream that failed is tried."""

    interval_s: Annotated[float, Arg("DURATION", k.Duration(), "time between tries")]
    words: Annotated[
        tuple[str, ...], Rest("OPTION", k.Text(), "no_rec (RD=0), domain NAME (the name asked)")
    ] = ()
    no_rec: bool = False
    domain: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward(Plugin):
    """Asks other servers. May stand more than once: names that a line doesn't take go to the next one."""

    zones: Annotated[tuple[str, ...], Arg("FROM", k.Zones(), "names at or below this are forwarded")]
    to_words: Annotated[
        tuple[str, ...],
        Rest("TO", k.Text("an upstream"), "IP[:PORT], tls://IP[:PORT][%NAME], or a resolv.conf", least=1),
    ]  # fmt: skip
    zone: str = "."  #: one of `zones`: a network that is several zones makes as many of this
    to: tuple[To, ...] = ()  #: what the words stand for
    except_: Annotated[
        tuple[str, ...],
        Option("except", Several(k.Zones()), "names at or below these are not forwarded", repeated=True),
    ] = ()
    force_tcp: Annotated[bool, Option("force_tcp", None, "always over TCP")] = False
    prefer_udp: Annotated[bool, Option("prefer_udp", None, "over UDP first, whatever the client used")] = (
        False
    )
    expire_s: Annotated[
        float, Option("expire", k.Duration(), "TCP connections unused for longer than this are closed")
    ] = 10.0
    max_fails: Annotated[
        int,
        Option(
            "max_fails",
            k.Int(0, 2**32 - 1),
            "an upstream is down after more failed checks; 0: never",
        ),
    ] = 2
    max_connect_attempts: Annotated[
        int,
        Option("max_connect_attempts", k.Int(0, 2**32 - 1), "upstreams that may fail a query; 0: no limit"),
    ] = 0
    tls: Annotated[Tls | None, Option("tls", Tls, "files for TLS")] = None
    tls_servername: Annotated[
        str,
        Option("tls_servername", k.Text("a name"), "name in the certificate of all tls:// upstreams"),
    ] = ""
    policy: Annotated[
        str,
        Option(
            "policy",
            k.Choice(("random", "round_robin", "sequential", "fastest")),
            "order of the upstreams; `fastest`, by their round-trip times, is fastdns's own",
        ),
    ] = "random"
    health_check: Annotated[HealthCheck, Option("health_check", HealthCheck, "check of failed upstreams")] = (
        HealthCheck(interval_s=0.5)
    )
    max_concurrent: Annotated[
        int, Option("max_concurrent", k.Int(0), "queries at once, more are REFUSED; 0: no limit")
    ] = 0
    next_: Annotated[
        tuple[int, ...],
        Option(
            "next",
            Several(k.Rcode()),
            "on these codes the next `forward` is asked",
            repeated=True,
        ),
    ] = ()
    next_on_nodata: Annotated[
        bool,
        Option("next_on_nodata", None, "on NODATA the next `forward` is asked", since="1.14"),
    ] = False
    failfast_all_unhealthy_upstreams: Annotated[
        bool,
        Option("failfast_all_unhealthy_upstreams", None, "SERVFAIL at once when all are down"),
    ] = False
    failover: Annotated[
        tuple[int, ...],
        Option(
            "failover",
            Several(k.Rcode(but=(0,))),
            "on these codes the next upstream is asked",
            repeated=True,
        ),
    ] = ()
    read_timeout_s: Annotated[
        float, Option("read_timeout", k.Duration(), "wait for one reply", since="1.14")
    ] = 2.0
    source_address: Annotated[
        str,
        Option("source_address", k.Address(), "address that questions leave from", since="1.14"),
    ] = ""
    resolver: Annotated[
        tuple[Endpoint, ...],
        Option(
            "resolver",
            Several(k.EndpointKind()),
            "who resolves host names among TO, at a start and at each reload",
            since="1.14.4",
        ),
    ] = ()
    max_idle_conns: Annotated[
        int,
        Option("max_idle_conns", k.Int(0), "unused TCP connections kept; 0: no limit", since="1.14"),
    ] = 0
    max_age_s: Annotated[
        float,
        Option(
            "max_age",
            k.Duration(),
            "TCP connections older than this are closed; 0: 20 s",
            since="1.14",
        ),
    ] = 0.0
    doh_method: Annotated[
        str,
        Option(
            "doh_method",
            k.Choice(("GET", "POST"), any_case=False),
            "for DNS over HTTPS",
            later="nobody is asked over HTTPS",
            since="1.14.5",
        ),
    ] = "POST"
