# SPDX-License-Identifier: Apache-2.0
"""Loads by other tools, their figures as a LoadResult: run_dnsperf, run_locust."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from fastdns.errors import FastDNSError
from fastdns.loadgen.spec import Latency, LoadResult

Names = Sequence[tuple[str, str]]

_GRACE_S: Final = 30  # past the load's own time: start, last timeouts, statistics
_LOCUST_USERS: Final = 50


class ToolMissingError(FastDNSError):
    """A load tool isn't installed; the text says how to get it."""


class ToolFailedError(FastDNSError):
    """A load tool ended without figures."""


def run_dnsperf(
    program: str, server: tuple[str, int], names: Names, seconds: int, rate: int | None
) -> LoadResult:
    """One run of dnsperf. It tells no percentiles: Latency holds min, mean and max."""
    with tempfile.NamedTemporaryFile("w", prefix="fastdns-dnsperf-", encoding="ascii") as questions:
        _write_names(questions, names)
        command = [program, "-s", server[0], "-p", str(server[1]), "-d", questions.name]
        command += ["-l", str(seconds), "-t", "1", "-c", "16"]
        command += ["-Q", str(rate)] if rate else []
        return _dnsperf_result(_run(command, seconds))


def _write_names(file: IO[str], names: Names) -> None:
    file.writelines(f"{name} {qtype}\n" for name, qtype in names)
    file.flush()


def _dnsperf_result(output: str) -> LoadResult:
    def figure(pattern: str) -> float:
        found = re.search(pattern, output)
        if found is None:
            raise ToolFailedError(f"dnsperf printed no figures:\n{output[-500:]}")
        return float(found[1])

    sent, answered = int(figure(r"Queries sent: +(\d+)")), int(figure(r"Queries completed: +(\d+)"))
    codes = re.search(r"Response codes: +(.*)", output)
    latency = Latency()
    if answered:
        latency = Latency(
            min=figure(r"Average Latency \(s\): .*min ([\d.]+)") * 1e6,
            mean=figure(r"Average Latency \(s\): +([\d.]+)") * 1e6,
            max=figure(r"Average Latency \(s\): .*max ([\d.]+)") * 1e6,
        )
    return LoadResult(
        sent=sent,
        answered=answered,
        timeouts=sent - answered,
        late=0,
        lost=sent - answered,
        stray=0,
        mismatched=0,
        truncated=0,
        refused=0,
        send_errors=0,
        held_back=0,
        in_flight=0,
        elapsed_s=figure(r"Run time \(s\): +([\d.]+)"),
        answers_per_s=figure(r"Queries per second: +([\d.]+)"),
        octets_in=int(answered * figure(r"Average packet size: .*response (\d+)")) if answered else 0,
        rcodes={
            name: int(number) for name, number in re.findall(r"(\w+) (\d+) \(", codes[1] if codes else "")
        },
        latency_us=latency,
    )


def run_locust(server: tuple[str, int], names: Names, seconds: int, rate: int | None) -> LoadResult:
    """One run of the locust user of fastdns.loadgen.locust_user, without its web page."""
    with tempfile.TemporaryDirectory(prefix="fastdns-locust-") as scratch:
        report, questions = Path(scratch, "report.json"), Path(scratch, "names")
        with questions.open("w", encoding="ascii") as file:
            _write_names(file, names)
        locustfile = Path(__file__).with_name("locust_user.py")
        host = f"[{server[0]}]:{server[1]}" if ":" in server[0] else f"{server[0]}:{server[1]}"
        command = [
            *(sys.executable, "-m", "locust", "--headless", "--only-summary", "--loglevel", "ERROR"),
            *("--locustfile", str(locustfile), "--host", host, "--run-time", f"{seconds}s"),
            *("--users", str(_LOCUST_USERS), "--spawn-rate", str(_LOCUST_USERS), "--exit-code-on-error", "0"),
        ]
        environment = {"FASTDNS_LOCUST_NAMES": str(questions), "FASTDNS_LOCUST_REPORT": str(report)}
        if rate:
            environment["FASTDNS_LOCUST_RATE"] = str(rate / _LOCUST_USERS)
        output = _run(command, seconds, environment)
        if not report.exists():
            raise ToolFailedError(f"locust wrote no figures:\n{output[-500:]}")
        document = json.loads(report.read_text(encoding="ascii"))
    document["latency_us"] = Latency(**document["latency_us"])
    return LoadResult(**document)


def _run(command: Sequence[str], seconds: int, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds + _GRACE_S,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise ToolFailedError(f"{command[0]} did not end within {seconds + _GRACE_S} s") from None
    if done.returncode != 0:
        raise ToolFailedError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-500:]}")
    return done.stdout
