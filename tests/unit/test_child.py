# SPDX-License-Identifier: Apache-2.0
"""child.begin: what a fork of the keeper has given up when it starts its work."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROBE = """
import json, os, signal, sys, time
import multiprocess
from fastdns import child

keep_read, keep_write = os.pipe()
lost_read, lost_write = os.pipe()

def run(uid, gid):
    child.begin("fastdns: worker 7", {keep_write}, uid, gid)
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    facts = {
        "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
        "session": os.getsid(0) == os.getpid(),
        "title": open("/proc/self/cmdline").read().strip("\\0 "),
        "no_new_privs": int(status["NoNewPrivs"]), "blocked": int(status["SigBlk"], 16),
        "caught": int(status["SigCgt"], 16), "pending": int(status["ShdPnd"], 16),
        "kept": is_open(keep_write), "lost": [is_open(lost_read), is_open(lost_write), is_open(keep_read)],
    }
    os.write(keep_write, json.dumps(facts).encode())
    if sys.argv[1] == "linger":
        time.sleep(60)
    os._exit(0)

def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True

signal.signal(signal.SIGTERM, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
uid, gid = (64101, 64101) if os.geteuid() == 0 else (0, 0)
process = multiprocess.get_context("fork").Process(target=run, args=(uid, gid))
process.start()
print(json.dumps({"pid": process.pid, **json.loads(os.read(keep_read, 4096))}), flush=True)
if sys.argv[1] == "linger":
    os.kill(os.getpid(), signal.SIGKILL)
process.join()
sys.exit(process.exitcode)
"""


def probe(mode: str) -> tuple[dict[str, object], int]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, mode], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.returncode


def test_begin_takes_away_what_is_the_keepers() -> None:
    facts, code = probe("leave")
    assert code == 0
    assert facts["title"] == "fastdns: worker 7"
    assert facts["session"] is True
    assert facts["no_new_privs"] == 1
    assert facts["blocked"] == facts["caught"] == facts["pending"] == 0
    assert facts["kept"] is True
    assert facts["lost"] == [False, False, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_begin_gives_up_root() -> None:
    facts, _ = probe("leave")
    assert facts["uid"] == facts["gid"] == [64101] * 3
    assert facts["groups"] in ([], [64101])


def test_child_dies_with_its_parent() -> None:
    facts, code = probe("linger")
    assert code == -signal.SIGKILL
    status = Path(f"/proc/{facts['pid']}/status")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if "State:\tZ" in status.read_text():  # nobody reaps orphans in some containers
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    pytest.fail("the child outlived its parent by 5 s")
