# SPDX-License-Identifier: Apache-2.0
"""``node-cache``: fastdns in the place of the program of that name, with its flags (corefile.md 6.1)."""

import dataclasses
import os
import platform
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastdns import log
from fastdns._version import __version__
from fastdns.commands.goflags import Flag, FlagError, Given, HelpWanted, parse_flags, quoted, usage
from fastdns.commands.serve import start
from fastdns.control.addresses import parse_ip
from fastdns.control.config.kinds import Bool, Duration, HttpAddress, Int
from fastdns.control.config.kubedns import read_text
from fastdns.control.model import NodeOptions, Options
from fastdns.errors import FastDNSError, UsageError

_DEFAULT_CONF: Final = "/etc/Corefile"
_STDIN: Final = "stdin"


@dataclass(frozen=True, slots=True)
class _Text:
    """Anything, also nothing."""

    expected: str = "a text"

    def parse(self, text: str) -> str:
        if "\0" in text:
            raise ValueError
        return text


@dataclass(frozen=True, slots=True)
class _Addresses:
    """IP addresses with commas between them, blanks around them left out."""

    expected: str = "IPv4 or IPv6 addresses with commas between them"

    def parse(self, text: str) -> tuple[str, ...]:
        found: list[str] = []
        for word in text.split(","):
            try:
                address = parse_ip(word.strip())
            except UsageError:
                raise ValueError(f"invalid localip specified - {quoted(word)}") from None
            if address in found:
                raise ValueError(f"{address} is given twice")
            found.append(address)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Interval:
    """Seconds. node-cache multiplies a Go duration by 10^9: 60ns are 60 s, and no other unit is of use."""

    expected: str = "a duration of at least 1s, such as 60s or 1m30s"

    def parse(self, text: str) -> float:
        digits = text.removesuffix("ns")
        if digits != text and digits.isascii() and digits.isdigit() and len(digits) <= 9:
            seconds = float(digits)
            log.warning(f"-syncinterval {text} is taken as {digits}s, as node-cache does")
        else:
            seconds = Duration(bare_seconds=True).parse(text)
        if seconds < 1:
            raise ValueError
        return seconds


FLAGS: Final = (
    Flag(("localip",), "IP[,IP...]", _Addresses(), (), "addresses to answer on, of either family"),
    Flag(("conf",), "FILE", _Text(), "", "Corefile to load, made of -basecorefile; stdin: read from a pipe"),
    Flag(("corefile",), "FILE", _Text(), "", "where -conf isn't given: the same (default /etc/Corefile)"),
    Flag(("basecorefile",), "FILE", _Text(), "/etc/coredns/Corefile.base", "template of the Corefile"),
    Flag(("kubednscm",), "DIR", _Text(), "", "ConfigMap kube-dns (default /etc/kube-dns where that exists)"),
    Flag(("upstreamsvc",), "NAME", _Text(), "kube-dns", "service whose address is the cluster DNS upstream"),
    Flag(("setupinterface",), "", Bool(), True, "put the addresses on an interface of the node"),
    Flag(("interfacename",), "NAME", _Text(), "nodelocaldns", "that interface"),
    Flag(("setupiptables",), "", Bool(), True, "write packet filter rules"),
    Flag(("skipteardown",), "", Bool(), False, "leave interface and rules at the end"),
    Flag(("syncinterval",), "TIME", _Interval(), 60.0, "how often interface and rules are looked at anyway"),
    Flag(
        ("metrics-listen-address",), "ADDR:PORT", HttpAddress(), ("0.0.0.0", 9353), "where /metrics is, too"
    ),
    Flag(("health-port",), "PORT", Int(1, 65535, "port"), 8080, "port of the plugin health, for the rules"),
    Flag(("reloadwithsignal",), "", Bool(), False, "load a changed Corefile at once"),
    Flag(("pidfile",), "FILE", _Text(), "", "file for the PID, there while serving"),
    Flag(("dns.port", "p"), "PORT", Int(1, 65535, "port"), 53, "port of zones without one"),
    Flag(("quiet",), "", Bool(), False, "say nothing of zones and version at the start"),
    Flag(("plugins",), "", Bool(), False, "list the plugins that a Corefile may have, and leave"),
    Flag(("version",), "", Bool(), False, "show the version, and leave"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the server. Returns the exit code; 2, with one line, for what can't be served."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except FastDNSError as error:
        print(f"node-cache: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _run(arguments: Sequence[str]) -> int:
    try:
        given = parse_flags(FLAGS, arguments)
    except HelpWanted:
        print(
            f"Usage of node-cache:\nfastdns {__version__} in place of NodeLocalDNS\n\n{usage(FLAGS)}", end=""
        )
        return 0
    if given["version"]:
        python = f"python {platform.python_version()}"
        print(f"fastdns-{__version__}\n{sys.platform}/{platform.machine()}, {python}")
        return 0
    if given["plugins"]:
        print(
            "Server types:\n  dns\n\nOther plugins:\n" + "".join(f"  dns.{name}\n" for name in plugins()),
            end="",
        )
        return 0
    options = make_options(given)
    log.info(f"Starting node-cache image: fastdns {__version__}")
    log.info(f"Using Corefile {options.conf}")
    log.info(f"Using Pidfile {options.pidfile}")
    return start(options)


def plugins() -> list[str]:
    """The directives that a server block may have, by name."""
    from fastdns.control.config.model import ServerBlock

    fields = {field.name for field in dataclasses.fields(ServerBlock)}
    return sorted(fields - {"keys", "where"})


def make_options(given: Given) -> Options:
    """What the flags ask for. Raises UsageError; reads the Corefile where it comes from a pipe."""
    if not given["localip"]:
        raise FlagError('invalid localip specified - "": expected -localip with IPv4 or IPv6 addresses')
    conf, base = _files(given)
    return Options(
        program="node-cache",
        conf=conf,
        conf_text=_read_stdin() if conf == _STDIN else None,
        dns_port=given["dns.port"],
        quiet=given["quiet"],
        pidfile=given["pidfile"],
        node=NodeOptions(
            local_ips=given["localip"],
            setup_interface=given["setupinterface"],
            interface=given["interfacename"],
            setup_iptables=given["setupiptables"],
            skip_teardown=given["skipteardown"],
            sync_interval_s=given["syncinterval"],
            health_port=given["health-port"],
            metrics_listen=given["metrics-listen-address"],
            base_corefile=base,
            kubedns_dir=given["kubednscm"],
            upstream_service=given["upstreamsvc"],
            reload_with_signal=given["reloadwithsignal"],
        ),
    )


def _files(given: Given) -> tuple[str, str]:
    """The Corefile, and the template that it is made of, "" for none. Raises FlagError."""
    conf, corefile, base = given["conf"], given["corefile"], given["basecorefile"]
    if conf and corefile and conf != corefile:
        log.warning(f"-corefile {corefile} is without effect beside -conf {conf}")
    if not conf and not corefile and Path("Corefile").is_file():
        return "Corefile", ""  # node-cache loads it, and fails to write it
    conf = conf or corefile or _DEFAULT_CONF
    if base and os.path.realpath(conf) == os.path.realpath(base):
        raise FlagError(f"-conf {conf} and -basecorefile {base} are the same file: expected two")
    return conf, base


def _read_stdin() -> str:
    """The Corefile from standard input. Raises UsageError."""
    try:
        if stat.S_ISCHR(os.fstat(0).st_mode):
            raise UsageError("-conf stdin: expected a pipe with a Corefile, found a terminal or device")
        return read_text(Path("/dev/stdin"))
    except OSError as error:
        raise UsageError(f"-conf stdin: {error.strerror}; expected a pipe with a Corefile") from None
