# SPDX-License-Identifier: Apache-2.0
"""``python -m fastdns.loadgen``: one run, the figures as JSON on standard output."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from fastdns.loadgen import LoadSpec, numbered_names, read_names, run

_EXAMPLES = """
examples:
  # as fast as it goes, 10,000 names, from core 1
  python -m fastdns.loadgen 127.0.0.1:5300 --numbered 10000 --suffix hits.test --seconds 10 --cpu 1
  # 1,000 misses a second: no name is asked twice, in this run or another
  python -m fastdns.loadgen 127.0.0.1:5300 --unique miss.test --rate 1000 --seconds 10
  # a file in dnsperf's form
  python -m fastdns.loadgen '[::1]:5300' --names queries.txt --order random --seconds 5
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastdns.loadgen",
        description="Load a DNS server over UDP and print the figures as JSON.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("server", nargs="?", help="ADDRESS:PORT or [ADDRESS]:PORT")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--names", type=Path, metavar="FILE", help="names from a file, 'name [type]' a line")
    what.add_argument("--numbered", type=int, metavar="N", help="N numbered names under --suffix")
    what.add_argument("--unique", metavar="SUFFIX", help="only names never asked before, under SUFFIX")
    what.add_argument(
        "--spec",
        metavar="FILE",
        help="a whole LoadSpec as JSON ('-': standard input); other options are ignored",
    )
    parser.add_argument("--suffix", default="hits.test", help="of the numbered names (%(default)s)")
    parser.add_argument("--qtype", default="A", help="of the unique names (%(default)s)")
    parser.add_argument("--order", choices=("sequential", "random"), default="sequential")
    parser.add_argument("--edns", type=int, metavar="SIZE", help="add an OPT record with this UDP size")
    parser.add_argument("--dnssec-ok", action="store_true", help="set DO (with --edns)")
    parser.add_argument("--seconds", type=float, help="how long to send (10 when no --count is given)")
    parser.add_argument("--count", type=int, help="how many queries to send")
    parser.add_argument("--window", type=int, default=1024, help="queries under way at most (%(default)s)")
    parser.add_argument(
        "--rate", type=float, help="queries a second, evenly; else as fast as the window allows"
    )
    parser.add_argument("--sockets", type=int, default=16, help="client sockets (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=1.0, metavar="S", help="a later reply is late (%(default)s)"
    )
    parser.add_argument("--no-verify", action="store_true", help="don't compare each reply's question")
    parser.add_argument("--wait", choices=("auto", "poll", "nap", "spin"), default="auto")
    parser.add_argument(
        "--cpu", type=int, action="append", metavar="N", help="run on this core only; may be repeated"
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _spec(arguments: argparse.Namespace) -> tuple[LoadSpec, list[int] | None]:
    if arguments.spec is not None:
        text = sys.stdin.read() if arguments.spec == "-" else Path(arguments.spec).read_text(encoding="utf-8")
        document: dict[str, Any] = json.loads(text)
        cpus: list[int] | None = document.pop("cpus", None)
        document["server"] = tuple(document["server"])
        document["names"] = [tuple(name) for name in document.get("names", ())]
        return LoadSpec(**document), cpus
    if arguments.server is None:
        raise ValueError("give the server's ADDRESS:PORT")
    names: list[tuple[str, str]] = []
    if arguments.names is not None:
        with arguments.names.open(encoding="ascii") as lines:
            names = read_names(lines)
    elif arguments.unique is None:
        names = numbered_names(arguments.numbered or 10_000, arguments.suffix)
    seconds = arguments.seconds
    if seconds is None and arguments.count is None:
        seconds = 10.0
    spec = LoadSpec(
        server=_address(arguments.server),
        names=names,
        unique_suffix=arguments.unique,
        qtype=arguments.qtype,
        order=arguments.order,
        edns=arguments.edns,
        dnssec_ok=arguments.dnssec_ok,
        seconds=seconds,
        count=arguments.count,
        window=arguments.window,
        rate=arguments.rate,
        sockets=arguments.sockets,
        timeout_s=arguments.timeout,
        verify=not arguments.no_verify,
        wait=arguments.wait,
    )
    return spec, arguments.cpu


def main() -> int:
    """The command; returns its exit code."""
    parser = _parser()
    try:
        spec, cpus = _spec(parser.parse_args())
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
        result = run(spec)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    json.dump(result.as_dict(), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
