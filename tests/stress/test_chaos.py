# SPDX-License-Identifier: Apache-2.0
"""Everything at once, for a while: kills and stops at random moments, noise, and a load that counts.

A child may die in the middle of what its predecessor's death left to do, and often enough for the back-off to
act. Nobody's question may be lost for that: it has its answer before a libc asks again.
"""

import os
import random
import signal
import threading
import time

import dns.rcode
import pytest

from fastdns.loadgen.process import finish_process, start_process
from fastdns.loadgen.spec import LoadSpec
from tests.counts import count
from tests.peers import make_zone
from tests.peers import run as peers
from tests.system.clients import Client
from tests.system.server import Server, serve
from tests.system.test_load import flood_with_packets

NAMES = [(name, rdtype) for name, rdtype in make_zone.questions(make_zone.CLUSTER) if "headless-" not in name]
RATE = 4_000  # queries a second: what waits for a child in back-off must fit a socket's buffer
LIBC_TIMEOUT_S = 5.0
ROLES = (("worker", 0), ("worker", 1), ("coordinator", 0), ("control", 0))

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]


def hurt(server: Server, seconds: float, seed: int) -> dict[str, int]:
    """SIGKILL, or SIGSTOP with or without SIGCONT, of a random child. How often which."""
    rng = random.Random(seed)
    done: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        role, index = rng.choice(ROLES)
        pid = server.stats().child(role, index)["pid"]
        what = rng.choice(("kill", "kill", "kill", "pause", "stop"))
        if role == "control" and what == "stop":
            what = "kill"  # control's patience is 15 s: test_faults.py
        try:
            if pid:
                os.kill(pid, signal.SIGKILL if what == "kill" else signal.SIGSTOP)
                if what == "pause":
                    time.sleep(rng.random())
                    os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue  # it was dead already
        done[f"{what} {role}"] = done.get(f"{what} {role}", 0) + 1
        time.sleep(rng.uniform(0.02, 1.5))
    return done


def test_random_faults_lose_nothing() -> None:
    """Every question of the load is answered within libc's 5 s, and the server is whole afterwards."""
    seconds = count("chaos_seconds")
    seed = int.from_bytes(os.urandom(4))
    with peers.coredns() as upstream, serve(upstream.server) as server:
        spec = LoadSpec(
            server.endpoint,
            names=NAMES,
            order="random",
            seconds=seconds + 4.0,
            rate=RATE,
            window=int(RATE * LIBC_TIMEOUT_S),
            timeout_s=LIBC_TIMEOUT_S,
        )
        running = start_process(spec)
        flood = threading.Thread(target=flood_with_packets, args=(server.endpoint, 2_000))
        flood.start()
        done = hurt(server, seconds, seed)
        flood.join()
        result = finish_process(running, seconds + 60.0)
        what = f"seed {seed}: {done}: {result}"
        assert result.timeouts == 0, what
        assert result.mismatched == 0, what
        assert set(result.rcodes) <= {"NOERROR", "SERVFAIL"}, what
        # Questions that waited for a coordinator through back-off and stops may end at their deadline.
        assert result.rcodes.get("SERVFAIL", 0) <= 0.01 * result.answered, what
        time.sleep(2.5)  # the longest back-off, and a heart's stop
        with Client(server.endpoint) as client:
            for name, rdtype in NAMES[:200]:
                assert client.ask(name, rdtype).rcode() == dns.rcode.NOERROR
        assert sum(server.stats().restarts.values()) >= sum(done.values()) / 3
