# SPDX-License-Identifier: Apache-2.0
"""The generator in a process of its own.

`start_process` begins a run, `run_process` begins one and waits for it.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from fastdns.loadgen.spec import Latency, LoadResult, LoadSpec

_START_S = 10.0  # import and set-up on a busy machine


def start_process(spec: LoadSpec, cpus: Iterable[int] | None = None) -> "subprocess.Popen[str]":
    """Start `spec` in a new process, on `cpus` only when they are given. Hand it to finish_process."""
    document: dict[str, Any] = asdict(spec)
    if cpus is not None:
        document["cpus"] = sorted(cpus)
    process = subprocess.Popen(
        [sys.executable, "-m", "fastdns.loadgen", "--spec", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(document))
    process.stdin.close()
    process.stdin = None  # communicate() would flush it again
    return process


def finish_process(process: "subprocess.Popen[str]", timeout_s: float) -> LoadResult:
    """Wait for the run's end and return its figures.

    The process is gone when this returns, however it returns.
    """
    try:
        output, _ = process.communicate(timeout=timeout_s)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    document = json.loads(output)
    document["latency_us"] = Latency(**document["latency_us"])
    return LoadResult(**document)


def run_process(spec: LoadSpec, cpus: Iterable[int] | None = None) -> LoadResult:
    """run(spec), but outside this process and its interpreter, on `cpus` only when they are given."""
    # A count alone: at its rate, else at a pace that no server undercuts.
    bound = spec.seconds if spec.seconds is not None else (spec.count or 0) / (spec.rate or 100.0)
    return finish_process(start_process(spec, cpus), bound + spec.timeout_s + _START_S)
