# SPDX-License-Identifier: Apache-2.0
"""Every directive that a server block may hold, in the order in which a query meets them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastdns.control.config import model, special
from fastdns.control.config.addressing import bind
from fastdns.control.config.declare import Plugin
from fastdns.control.config.lexer import Token
from fastdns.control.config.reader import Given
from fastdns.control.config.rules import rewrite
from fastdns.control.config.upstreams import each_zone, forward


@dataclass(frozen=True, slots=True)
class Spec:
    """A directive; the field of ServerBlock has its name."""

    cls: type[Plugin]
    repeated: bool = False  #: may stand more than once in a block; the field is a tuple
    finish: Callable[[Given], None] | None = None
    other_line: Callable[[Given, Sequence[Token]], bool] | None = None
    split: Callable[[Any], tuple[Plugin, ...]] | None = None  #: of one line, where it stands for several
    raw: bool = False  #: `finish` reads all words itself
    ignored: str = ""  #: what is not done with it, for good


PLUGINS: Final[dict[str, Spec]] = {
    "timeouts": Spec(model.Timeouts, finish=special.timeouts),
    "reload": Spec(model.Reload, finish=special.reload),
    "bufsize": Spec(model.Bufsize),
    "bind": Spec(model.Bind, finish=bind),
    "debug": Spec(model.Debug),
    "trace": Spec(
        model.Trace,
        finish=special.trace,
        other_line=special.trace_line,
        ignored="no traces are sent",
    ),
    "ready": Spec(model.Ready),
    "health": Spec(model.Health),
    "pprof": Spec(
        model.Pprof, finish=special.pprof, ignored="there is no Go runtime to profile; nothing listens"
    ),
    "prometheus": Spec(model.Prometheus),
    "errors": Spec(model.Errors),
    "log": Spec(model.Log, repeated=True, finish=special.log),
    "dns64": Spec(model.Dns64, finish=special.dns64),
    "loadbalance": Spec(model.Loadbalance, finish=special.loadbalance),
    "cache": Spec(model.Cache, finish=special.cache),
    "rewrite": Spec(model.Rewrite, repeated=True, finish=rewrite, raw=True),
    "template": Spec(
        model.Template, repeated=True, finish=special.template, other_line=special.template_line
    ),
    "hosts": Spec(model.Hosts, finish=special.hosts, other_line=special.hosts_line),
    "loop": Spec(model.Loop),
    "forward": Spec(model.Forward, repeated=True, finish=forward, split=each_zone),
    "whoami": Spec(model.Whoami),
}

#: Directives of CoreDNS that node-cache is built without, and so are we.
ABSENT: Final = frozenset({
    "acl", "any", "auto", "autopath", "azure", "cancel", "chaos", "clouddns", "dnssec", "dnstap", "dynupdate",
    "erratic", "etcd", "file", "geoip", "grpc", "grpc_server", "header", "https", "https3", "k8s_external",
    "kubernetes", "local", "metadata", "minimal", "multisocket", "nomad", "nsid", "on", "proxyproto", "quic",
    "root", "route53", "secondary", "shed", "sign", "siit", "tls", "transfer", "tsig", "view",
})  # fmt: skip
