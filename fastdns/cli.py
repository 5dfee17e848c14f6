# SPDX-License-Identifier: Apache-2.0
"""The command line. Each subcommand is a module of its own, imported when it is asked for."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from fastdns._version import __version__
from fastdns.errors import FastDNSError

#: Name -> what it does. fastdns/commands/NAME.py has main(arguments: list[str]) -> int.
COMMANDS = {
    "serve": "run the DNS cache",
    "check": "say what a Corefile will do, or what is wrong with it",
    "query": "ask a server one question and show its answer",
    "stats": "show the figures of a running server",
    "demo": "a show that needs nothing: an example upstream, the server, a short load",
    "bench": "put load on a server and measure it",
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line and exit code 2, with examples below its help."""

    def __init__(self, command: str, *, examples: str = "", **others: object) -> None:
        super().__init__(
            prog=f"fastdns {command}".strip(),
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **others,  # type: ignore[arg-type]
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code."""
    commands = "\n".join(f"  {name:8}{what}" for name, what in COMMANDS.items())
    parser = Parser(
        "",
        description=f"A multi-process DNS cache for Kubernetes nodes.\n\ncommands:\n{commands}",
        usage="fastdns COMMAND [OPTIONS]",
        examples="  fastdns serve --listen 127.0.0.1:5300 --upstream 1.1.1.1\n  fastdns serve --help",
    )
    parser.add_argument("--version", action="version", version=f"fastdns {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those above")
    given = sys.argv[1:] if arguments is None else arguments
    known = parser.parse_args(given[:1])
    module = importlib.import_module(f"fastdns.commands.{known.command}")
    try:
        code: int = module.main(given[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except FastDNSError as error:
        print(f"fastdns {known.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter's own flush must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    return code
