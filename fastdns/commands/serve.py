# SPDX-License-Identifier: Apache-2.0
"""``fastdns serve``: this process becomes the keeper of a server."""

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

from fastdns.cli import Parser
from fastdns.commands.start import start
from fastdns.control.addresses import parse_endpoint, parse_port
from fastdns.control.model import MIB, Options, Upstream
from fastdns.errors import UsageError

T = TypeVar("T")

_DESCRIPTION = """\
Answer DNS over UDP and TCP from a cache; ask the upstreams for the rest.

The process that you start holds the sockets and the memory and starts the others: a control
process, a coordinator, and the workers. SIGTERM or Ctrl-C ends them all cleanly."""

_EXAMPLES = """\
  fastdns serve
      on 127.0.0.1:5300, in front of the nameservers of /etc/resolv.conf
  fastdns serve --listen 169.254.20.10 --upstream tcp://10.43.0.10
      what pods on a Kubernetes node ask, in front of the cluster DNS, over TCP
  fastdns serve --listen 127.0.0.1:5300 --listen [::1]:5300 --upstream 9.9.9.9 --upstream [2620:fe::fe]:53
      IPv4 and IPv6 side by side; the second upstream is for when the first is silent
  fastdns serve --listen [fe80::1%eth0]:53 --workers 4 --memory 64M
  fastdns serve --conf /etc/coredns/Corefile
      what a CoreDNS would serve with that Corefile"""

_SIZE = re.compile(r"([0-9]{1,12})(?:([KMG])(?:i?B)?)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": MIB, "G": 1024 * MIB}


def main(arguments: list[str]) -> int:
    """Be the server. Returns its exit code once it has stopped; children never return."""
    return start(parse(arguments))


def parse(arguments: list[str]) -> Options:
    """The options of a command line; complains and leaves with exit code 2 as argparse does."""
    parser = Parser("serve", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument(
        "--listen",
        metavar="ADDR[:PORT]",
        action="append",
        type=_checked(parse_endpoint),
        help="address to serve, again for more; port 53 where none is said (default: 127.0.0.1:5300)",
    )
    parser.add_argument(
        "--upstream",
        metavar="[tcp://]ADDR[:PORT]",
        action="append",
        type=_checked(parse_upstream),
        help="server to ask, again for more, in order of preference; with tcp:// it is asked over TCP only"
        " (default: the nameservers of /etc/resolv.conf)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_checked(parse_workers),
        default=0,
        help="processes that answer (default: 2, or 1 on a machine with one core)",
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        type=_checked(parse_size),
        default=Options().memory,
        help="shared memory: cache and tables, as 16M or 1G; at least 8M (default: 16M)",
    )
    parser.add_argument(
        "--conf",
        metavar="FILE",
        default="",
        help="Corefile that says what is served, in place of --listen and --upstream; SIGHUP reads it again",
    )
    parser.add_argument(
        "--dns-port",
        metavar="PORT",
        type=_checked(parse_port),
        default=Options().dns_port,
        help="port of the Corefile's zones without one (default: 53)",
    )
    given = parser.parse_args(arguments)
    if given.conf and (given.listen or given.upstream):
        parser.error(
            "--conf: the Corefile says where to listen and whom to ask; expected no --listen, no --upstream"
        )
    return Options(
        listen=tuple(given.listen) if given.listen else Options().listen,
        upstreams=tuple(given.upstream or ()),
        workers=given.workers,
        memory=given.memory,
        conf=given.conf,
        dns_port=given.dns_port,
    )


def parse_upstream(text: str) -> Upstream:
    """``ADDR[:PORT]`` or ``tcp://ADDR[:PORT]``. Raises UsageError."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Upstream(parse_endpoint(text))
    if scheme != "tcp":
        raise UsageError(f"{text!r}: expected ADDR[:PORT] or tcp://ADDR[:PORT]")
    return Upstream(parse_endpoint(rest), force_tcp=True)


def parse_workers(text: str) -> int:
    """A number of workers, from 1. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= 16):
        raise UsageError(f"{text!r}: expected a number of workers from 1 to 16")
    return int(text)


def parse_size(text: str) -> int:
    """Octets: a number, with K, M or G for powers of 1024. Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r}: expected a size such as 16M, 64MiB or 1G")
    return int(match[1]) * _UNITS[(match[2] or "").upper()]


def _checked(parse_one: Callable[[str], T]) -> Callable[[str], T]:
    """Let argparse print what a UsageError says."""

    def convert(text: str) -> T:
        try:
            return parse_one(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
