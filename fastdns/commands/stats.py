# SPDX-License-Identifier: Apache-2.0
"""``fastdns stats``: the figures of a running server."""

import sys
from typing import Any

from fastdns import snapshot
from fastdns._stats import COUNTER_HELP
from fastdns.cli import Parser

_DESCRIPTION = """\
Show the figures of a running server: its processes, what each worker did, the cache.

They are read from shared memory; the server does nothing for it. Run it as the server's user
or as root. Counters count from the server's start, over all deaths of its processes."""

_EXAMPLES = """\
  fastdns stats
  fastdns stats --json | jq .totals.hit_percent
  fastdns stats --pid 4711      where several servers run"""

#: One table: title, column names, rows.
Table = tuple[str, list[str], list[list[str]]]


def main(arguments: list[str]) -> int:
    """Print the figures. Exit code 1 where no server is found."""
    parser = Parser("stats", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("--json", action="store_true", help="one JSON object with every counter")
    parser.add_argument("--pid", type=int, metavar="N", help="the server whose first process is N")
    given = parser.parse_args(arguments)
    figures = snapshot.take(snapshot.choose_keeper(given.pid))
    if given.json:
        import orjson

        sys.stdout.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode() + "\n")
    elif sys.stdout.isatty():
        _print_rich(tables(figures))
    else:
        sys.stdout.write(plain(tables(figures)))
    return 0


def tables(figures: dict[str, Any]) -> list[Table]:
    """What a person wants to see: the counters that moved, not all of them."""
    return [_summary(figures), _processes(figures), _counters(figures)]


def _summary(figures: dict[str, Any]) -> Table:
    totals, cache = figures["totals"], figures["cache"]
    rows = [
        ["listening on", " ".join(figures["config"]["listen"])],
        ["upstream", " ".join(figures["config"]["upstream"])],
        ["up", f"{figures['keeper']['uptime_s']} s"],
        ["queries", f"{totals['queries']}"],
        ["hits", _percent(totals["hit_percent"])],
        ["busiest worker", _percent(totals["busiest_worker_percent"])],
        ["waiting clients", f"{totals['clients']} on {totals['pending']} questions"],
        ["TCP connections", f"{totals['tcp_connections']}"],
        ["cache", f"{cache['entries']} entries, {cache['entry_octets']} of {cache['size']} octets"],
    ]
    return f"server {figures['keeper']['pid']}", ["", ""], rows


def _processes(figures: dict[str, Any]) -> Table:
    rows = [
        [
            _name(child),
            str(child["pid"] or "-"),
            child["state"],
            "-" if child["uptime_s"] is None else f"{child['uptime_s']}",
            str(child["restarts"]),
            str(child["stuck"]),
            child["last_death"] or "-",
        ]
        for child in figures["children"]
    ]
    return "processes", ["", "pid", "state", "up, s", "restarts", "stuck", "last death"], rows


def _counters(figures: dict[str, Any]) -> Table:
    sources = [one["counters"] for one in (*figures["workers"], figures["coordinator"])]
    heads = ["", *(f"worker {one['index']}" for one in figures["workers"]), "coordinator", "what it counts"]
    rows = [
        [name, *(str(source[name]) for source in sources), text]
        for name, text in COUNTER_HELP.items()
        if any(source[name] for source in sources)
    ]
    return "counters", heads, rows


def _name(child: dict[str, Any]) -> str:
    return f"worker {child['index']}" if child["role"] == "worker" else str(child["role"])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value} %"


def plain(shown: list[Table]) -> str:
    """The tables as lined-up text, for pipes and logs."""
    lines = []
    for title, heads, rows in shown:
        lines.append(title)
        body = [heads, *rows] if any(heads) else rows
        widths = [max((len(row[column]) for row in body), default=0) for column in range(len(heads))]
        for row in body:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(("  " + "  ".join(cells)).rstrip())
        lines.append("")
    return "\n".join(lines)


def _print_rich(shown: list[Table]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    for title, heads, rows in shown:
        table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(heads))
        for number, head in enumerate(heads):
            numbers = bool(rows) and number > 0 and all(row[number].isdigit() for row in rows)
            table.add_column(head, justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
