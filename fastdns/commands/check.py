# SPDX-License-Identifier: Apache-2.0
"""``fastdns check``: whether a Corefile can be served, and what it will do."""

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fastdns.cli import Parser
from fastdns.control.config import explain
from fastdns.control.config.load import load_corefile
from fastdns.control.config.model import Corefile
from fastdns.errors import CorefileError

_DESCRIPTION = """\
Read a Corefile as the server would, and say what each block will do: where it listens, what is
kept for how long, where questions go. Nothing is started and nothing is asked.

Exit code 0: all of it is served as it says. 1: it is served, but something in it is left out or
not yet acted on. 2: it can't be served."""

_EXAMPLES = """\
  fastdns check /etc/coredns/Corefile
  fastdns check --json Corefile | jq .blocks[].keys"""

#: Examines the node: main(json: bool) -> int. Offered where it is there.
_NODE = "fastdns.commands.check_node"

_RED, _YELLOW, _BOLD, _DIM, _END = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


def main(arguments: list[str]) -> int:
    """Check, and print. Exit codes as in the description."""
    parser = Parser("check", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("file", nargs="?", metavar="FILE", help="a Corefile, with placeholders replaced")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--port", type=int, default=53, metavar="N", help="of keys that name none (default: 53)"
    )
    if find_spec(_NODE) is not None:
        parser.add_argument("--node", action="store_true", help="examine this node instead of a file")
    given = parser.parse_args(arguments)
    if getattr(given, "node", False):
        code: int = import_module(_NODE).main(json=given.json)
        return code
    if given.file is None:
        parser.error("expected a FILE")
    if not 1 <= given.port <= 65535:
        parser.error(f"--port {given.port}: expected one from 1 to 65535")
    try:
        corefile = load_corefile(given.file, default_port=given.port)
    except CorefileError as error:
        return _report_errors(given.file, error.problems, as_json=given.json)
    report = as_data(corefile)
    if given.json:
        _write_json(report)
    else:
        sys.stdout.write("\n".join(lines(report, colours=sys.stdout.isatty())) + "\n")
    return 1 if report["not_acted_on"] or report["left_out"] or report["warnings"] else 0


def as_data(corefile: Corefile) -> dict[str, Any]:
    """Everything that is said of a Corefile."""
    return {
        "path": corefile.path,
        "valid": True,
        "errors": [],
        "digest": corefile.digest,
        "imported": [str(path) for path in corefile.files],
        "settings": {row.plugin: row.text for row in explain.settings_rows(corefile.settings)},
        "blocks": [
            {
                "where": str(block.where),
                "keys": [str(key) for key in block.keys],
                "listens": [str(end) for key in block.keys for end in block.endpoints(key)],
                "does": [{"plugin": row.plugin, "text": row.text} for row in explain.block_rows(block)],
            }
            for block in corefile.blocks
        ],
        "not_acted_on": [{"where": str(n.where), "text": n.text} for n in explain.not_acted_on(corefile)],
        "left_out": [{"where": str(n.where), "text": n.text} for n in explain.left_out(corefile)],
        "warnings": list(corefile.warnings),
    }


def lines(report: dict[str, Any], *, colours: bool) -> Iterable[str]:
    """The report for a person."""
    for block in report["blocks"]:
        keys = " ".join(key.removeprefix("dns://") for key in block["keys"])
        yield f"{_in(_BOLD, keys, colours)}  {_in(_DIM, block['where'], colours)}"
        last = ""
        for row in block["does"]:
            yield f"  {row['plugin'] if row['plugin'] != last else '':<12} {row['text']}"
            last = row["plugin"]
        yield ""
    if report["settings"]:
        yield _in(_BOLD, "fastdns", colours)
        yield from (f"  {name:<16} {text}" for name, text in report["settings"].items())
        yield ""
    for title, rows in (
        (
            "accepted, and not yet acted on:",
            [f"{row['where']}: {row['text']}" for row in report["not_acted_on"]],
        ),
        ("accepted, and left out:", [f"{row['where']}: {row['text']}" for row in report["left_out"]]),
        ("warnings:", report["warnings"]),
    ):
        if rows:
            yield _in(_YELLOW, title, colours)
            yield from (f"  {row}" for row in rows)
            yield ""
    count = len(report["blocks"])
    yield f"{report['path']}: {count} server block{'s' if count != 1 else ''}, no errors"


def _note(row: dict[str, str]) -> str:
    return f"{row['where']}: {row['text']}"


def _report_errors(path: str, problems: Sequence[str], *, as_json: bool) -> int:
    if as_json:
        _write_json({"path": path, "valid": False, "errors": list(problems)})
        return 2
    colours = sys.stderr.isatty()
    for problem in problems:
        sys.stderr.write(f"{_in(_RED, problem, colours)}\n")
    count = len(problems)
    sys.stderr.write(f"{path}: {count} error{'s' if count != 1 else ''}\n")
    return 2


def _in(colour: str, text: str, colours: bool) -> str:
    return f"{colour}{text}{_END}" if colours else text


def _write_json(report: dict[str, Any]) -> None:
    import orjson

    # Text from a file may hold what isn't UTF-8: orjson takes none of it.
    clean = orjson.dumps(_printable(report), option=orjson.OPT_INDENT_2)
    sys.stdout.write(clean.decode() + "\n")


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: _printable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_printable(one) for one in value]
    return value
