# SPDX-License-Identifier: Apache-2.0
"""``node-cache``: fastdns in the place of the program of that name, with its flags (corefile.md 6.1)."""

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastdns import log
from fastdns._version import __version__
from fastdns.commands.goflags import (
    Flag,
    FlagError,
    Given,
    HelpWanted,
    parse_bool,
    parse_flags,
    quoted,
    usage,
)
from fastdns.commands.start import start
from fastdns.control.addresses import parse_ip, parse_port
from fastdns.control.model import NodeOptions, Options
from fastdns.errors import FastDNSError, UsageError

_DEFAULT_CONF: Final = "/etc/Corefile"
_STDIN: Final = "stdin"


def parse_text(text: str) -> str:
    """Anything that can be a path, also nothing. Raises UsageError."""
    if "\0" in text:
        raise UsageError(f"{quoted(text)}: expected a text")
    return text


def parse_addresses(text: str) -> tuple[str, ...]:
    """IP addresses with commas between them, blanks around them left out. Raises UsageError."""
    found: list[str] = []
    for word in text.split(","):
        try:
            address = parse_ip(word.strip())
        except UsageError:
            expected = "expected IPv4 or IPv6 addresses with commas between them"
            raise UsageError(f"invalid localip specified - {quoted(word)}: {expected}") from None
        if address in found:
            raise UsageError(f"{address} is given twice")
        found.append(address)
    return tuple(found)


def parse_interval(text: str) -> float:
    """Seconds. Raises UsageError.

    node-cache multiplies a Go duration by 10^9: 60ns are 60 s, and no other unit is of use.
    """
    # What few give is imported for them alone: these pages are the keeper's.
    from fastdns.control.config.kinds import Duration

    digits = text.removesuffix("ns")
    if digits != text and digits.isascii() and digits.isdigit() and len(digits) <= 9:
        log.warning(f"-syncinterval {text} is taken as {digits}s, as node-cache does")
        text = digits
    try:
        return Duration(low=1.0, bare_seconds=True).parse(text)
    except ValueError:
        raise UsageError(
            f"{quoted(text)}: expected a duration of at least 1s, such as 60s or 1m30s"
        ) from None


def parse_listen(text: str) -> tuple[str, int]:
    """Where an HTTP server listens. Raises UsageError."""
    from fastdns.control.config.kinds import HttpAddress

    try:
        return HttpAddress().parse(text)
    except ValueError:
        raise UsageError(f"{quoted(text)}: expected ADDR:PORT or :PORT") from None


FLAGS: Final = (
    Flag(("localip",), "IP[,IP...]", parse_addresses, (), "addresses to answer on, of either family"),
    Flag(("conf",), "FILE", parse_text, "", "Corefile, made of -basecorefile; stdin: read from a pipe"),
    Flag(("corefile",), "FILE", parse_text, "", "where -conf isn't given: the same (default /etc/Corefile)"),
    Flag(("basecorefile",), "FILE", parse_text, "/etc/coredns/Corefile.base", "template of the Corefile"),
    Flag(("kubednscm",), "DIR", parse_text, "", "ConfigMap kube-dns (default /etc/kube-dns, if it is there)"),
    Flag(("upstreamsvc",), "NAME", parse_text, "kube-dns", "service that is the upstream of cluster names"),
    Flag(("setupinterface",), "", parse_bool, True, "put the addresses on an interface of the node"),
    Flag(("interfacename",), "NAME", parse_text, "nodelocaldns", "that interface"),
    Flag(("setupiptables",), "", parse_bool, True, "write packet filter rules"),
    Flag(("skipteardown",), "", parse_bool, False, "leave interface and rules at the end"),
    Flag(("syncinterval",), "TIME", parse_interval, 60.0, "how often interface and rules are looked at"),
    Flag(
        ("metrics-listen-address",), "ADDR:PORT", parse_listen, ("0.0.0.0", 9353), "where /metrics is, too"
    ),
    Flag(("health-port",), "PORT", parse_port, 8080, "port of the plugin health, for the rules"),
    Flag(("reloadwithsignal",), "", parse_bool, False, "load a changed Corefile at once"),
    Flag(("pidfile",), "FILE", parse_text, "", "file for the PID, there while serving"),
    Flag(("dns.port", "p"), "PORT", parse_port, 53, "port of zones without one"),
    Flag(("quiet",), "", parse_bool, False, "say nothing of zones and version at the start"),
    Flag(("plugins",), "", parse_bool, False, "list the plugins that a Corefile may have, and leave"),
    Flag(("version",), "", parse_bool, False, "show the version, and leave"),
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
        from fastdns.control.config.banner import version

        print(*version(), sep="\n")
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
    from fastdns.control.config.registry import PLUGINS

    return sorted(PLUGINS)


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
    from fastdns.control.config.kubedns import read_text

    try:
        if stat.S_ISCHR(os.fstat(0).st_mode):
            raise UsageError("-conf stdin: expected a pipe with a Corefile, found a terminal or device")
        return read_text(Path("/dev/stdin"))
    except OSError as error:
        raise UsageError(f"-conf stdin: {error.strerror}; expected a pipe with a Corefile") from None
